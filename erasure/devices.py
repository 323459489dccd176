"""``--devices`` as published (``0,1``), and where that runs on this machine."""

import re

from erasure.errors import UserError

DEFAULT = "0,0"
PUBLISHED = (DEFAULT, "0,1")  # in commands that are copied as they were published
HELP = f"cpu, or GPUs as in 0 or 0,1; one is used (default: {DEFAULT}; without a GPU that and 0,1 mean cpu)"


def parse_devices(text: str) -> list[str]:
    """``'0,1' -> ['cuda:0', 'cuda:1']``; also ``cuda:0,cuda:1``, ``cuda`` and ``cpu``. UserError for anything else."""
    devices = []
    for part in text.split(","):
        match = re.fullmatch(r"(?:cuda:)?(\d+)|(cuda)|(cpu)", part.strip().lower())
        if not match:
            raise UserError(f"--devices {text!r}: give cpu, or GPUs by number as in 0 or 0,1")
        devices.append("cpu" if match[3] else f"cuda:{int(match[1] or 0)}")
    return devices


def choose_device(text: str | None, gpus: int) -> tuple[str, list[str]]:
    """(device of the whole run, remarks for the user) on a machine with `gpus` CUDA devices; None: the user named none.

    The published code kept a second, frozen model on a second device. Here both share one network, so that the
    second device has nothing to hold. Without any GPU the published pairs mean the CPU. UserError for any other GPU that
    is not there.
    """
    if not gpus and (text is None or text.replace(" ", "") in PUBLISHED):
        return "cpu", [f"devices: no GPU here, so the published {text or f'default {DEFAULT}'} becomes cpu"]
    first, *others = parse_devices(DEFAULT if text is None else text)
    number = -1 if first == "cpu" else int(first.removeprefix("cuda:"))
    if number >= gpus:
        there = f"this machine has {gpus}" if gpus else "this machine has no GPU that torch can use: --devices cpu"
        raise UserError(f"--devices {text}: no {first}; {there}")
    unused = [device for device in dict.fromkeys(others) if device != first]
    remark = f"devices: all on {first}; {', '.join(unused)} stays free, since the frozen model shares the trained one"
    return first, [remark] if unused else []
