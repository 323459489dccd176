"""Parts of the published names of runs, which are made of prompts and numbers. Needs no torch."""

import hashlib

_FORBIDDEN = '/\\\0:*?"<>|'  # in a file name, on one system or another
_BYTES, _KEPT = 120, 110


def format_number(value: float) -> str:
    """``3.0 -> '3'``, ``1.5 -> '1.5'``, ``1e-5 -> '1e-05'``: the same name whether or not the default was used."""
    value = float(value)
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)


def plain(name: str) -> str:
    """A name without blanks and upper case: users write "VanGogh" and "Van Gogh" for the same."""
    return "".join(name.split()).casefold()


def name_part(prompt: str, blanks: bool = True) -> str:
    """A prompt as part of a file name, as typed but for what no file name can hold, which becomes ``_``.

    A very long one is cut and told apart by a hash. `blanks`: keep them.
    """
    word = prompt if blanks else prompt.replace(" ", "")
    word = "".join("_" if c in _FORBIDDEN or ord(c) < 32 else c for c in word)
    if not word.strip("."):
        word = word.replace(".", "_")  # . and .. are other folders
    if len(word.encode()) > _BYTES:
        digest = hashlib.sha256(prompt.encode()).hexdigest()[:8]
        word = word.encode()[:_KEPT].decode(errors="ignore") + "~" + digest
    return word
