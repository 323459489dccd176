"""CLIP's tokenizer: text -> ids 49406, byte-pair codes, 49407, padded with 49407.

The text is cleaned as OpenAI's tokenizer does it (ftfy, HTML entities, white space, lower case); published results were
made with that, and without it typographic quotes and HTML entities in prompts get other ids. The vocabulary file comes
with the open_clip package and is found without importing that package, which would be slow.
"""

import gzip
import html
import importlib.util
import re
from functools import lru_cache
from pathlib import Path

import ftfy
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

VOCABULARY_FILE = "bpe_simple_vocab_16e6.txt.gz"
VOCABULARY_PACKAGES = ("open_clip", "clip")
N_MERGES = 49152 - 256 - 2
START, END = "<|startoftext|>", "<|endoftext|>"
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"


def find_vocabulary() -> Path:
    """Path of the merges file inside an installed package; FileNotFoundError says what to install."""
    for package in VOCABULARY_PACKAGES:
        spec = importlib.util.find_spec(package)
        for folder in (spec.submodule_search_locations or []) if spec else []:
            if (Path(folder) / VOCABULARY_FILE).is_file():
                return Path(folder) / VOCABULARY_FILE
    raise FileNotFoundError(f"CLIP vocabulary {VOCABULARY_FILE} not found: install the package open_clip_torch")


def clean(text: str) -> str:
    """Repair encoding, undo HTML entities (twice, as the original), collapse white space, lower the case."""
    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return re.sub(r"\s+", " ", text).strip().lower()


def _byte_symbols() -> list[str]:
    """One printable character per byte value, in the vocabulary's order: printable bytes first."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = 256 - len(printable)
    return [chr(b) for b in printable] + [chr(256 + i) for i in range(others)]


def _build(path: Path) -> Tokenizer:
    lines = gzip.decompress(path.read_bytes()).decode("utf-8").split("\n")
    merges = [tuple(line.split()) for line in lines[1 : N_MERGES + 1]]
    symbols = _byte_symbols()
    names = [*symbols, *(s + "</w>" for s in symbols), *("".join(pair) for pair in merges), START, END]
    vocabulary = {name: i for i, name in enumerate(names)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, end_of_word_suffix="</w>"))
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in (START, END)])
    split = pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


class Encoding(dict):
    """Result of a tokenizer call: a dict whose entries are attributes too."""

    def __getattr__(self, name):
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    def to(self, device):
        """A copy with the tensors on ``device``."""
        return Encoding({k: v.to(device) if hasattr(v, "to") else v for k, v in self.items()})


class ClipTokenizer:
    """Callable like the tokenizers of the transformers library, as far as text encoders of diffusion models need it."""

    bos_token, eos_token, pad_token, unk_token = START, END, END, END
    bos_token_id, eos_token_id, pad_token_id, unk_token_id = 49406, 49407, 49407, 49407
    all_special_ids = [49406, 49407]

    def __init__(self, vocabulary=None, model_max_length: int = 77):
        self.model_max_length = model_max_length
        self._bpe = _build(Path(vocabulary) if vocabulary else find_vocabulary())

    @property
    def vocab_size(self) -> int:
        """49408 for CLIP's vocabulary."""
        return self._bpe.get_vocab_size()

    def __len__(self) -> int:
        return self.vocab_size

    def get_vocab(self) -> dict[str, int]:
        """Token -> id; a token that ends a word carries ``</w>``."""
        return self._bpe.get_vocab()

    def codes(self, text: str) -> list[int]:
        """Byte-pair codes of a text, without start and end tokens, not truncated."""
        return self._bpe.encode(clean(text), add_special_tokens=False).ids

    def tokenize(self, text: str) -> list[str]:
        """The tokens of a text, without start and end."""
        return self.convert_ids_to_tokens(self.codes(text))

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """Ids of one text, neither truncated nor padded."""
        ids = self.codes(text)
        return [self.bos_token_id, *ids, self.eos_token_id] if add_special_tokens else ids

    def convert_ids_to_tokens(self, ids):
        """id or ids -> token or tokens."""
        return self._bpe.id_to_token(ids) if isinstance(ids, int) else [self._bpe.id_to_token(int(i)) for i in ids]

    def convert_tokens_to_ids(self, tokens):
        """token or tokens -> id or ids; unknown ones become the end-of-text token."""
        if not isinstance(tokens, str):
            return [self.convert_tokens_to_ids(t) for t in tokens]
        found = self._bpe.token_to_id(tokens)
        return self.unk_token_id if found is None else found

    def decode(self, token_ids, skip_special_tokens: bool = False, **_) -> str:
        """Text of ids (list or 1-d tensor); words are separated by one space."""
        ids = [int(i) for i in token_ids]
        if skip_special_tokens:
            ids = [i for i in ids if i not in self.all_special_ids]
        joined = "".join(f"{t}</w>" if t in (START, END) else t for t in self.convert_ids_to_tokens(ids))
        return " ".join(self._bpe.decoder.decode([word]) for word in joined.split("</w>")).strip()

    def batch_decode(self, sequences, skip_special_tokens: bool = False, **_) -> list[str]:
        """``decode`` of each row."""
        return [self.decode(row, skip_special_tokens) for row in sequences]

    def __call__(
        self,
        text,
        *,
        truncation: bool = False,
        max_length: int | None = None,
        padding: bool | str = False,
        return_tensors: str | None = None,
        add_special_tokens: bool = True,
        return_length: bool = False,
        return_overflowing_tokens: bool = False,
        return_attention_mask: bool = True,
    ) -> Encoding:
        """Tokenise a text or a list of texts; input_ids is [B, N] as lists, or a tensor with ``return_tensors='pt'``.

        padding: False, True or 'longest', 'max_length'. max_length (default ``model_max_length``) counts the start
        and end tokens. The attention mask is 1 up to the end token; Stable Diffusion v1 does not use it.
        """
        texts = [text] if isinstance(text, str) else list(text)
        limit = max_length or self.model_max_length
        room = limit - 2 * add_special_tokens if truncation else None
        codes = [self.codes(t) for t in texts]
        rows = [c[:room] for c in codes]
        if add_special_tokens:
            rows = [[self.bos_token_id, *row, self.eos_token_id] for row in rows]
        width = limit if padding == "max_length" else max(map(len, rows), default=0) if padding else 0
        result = Encoding(input_ids=[row + [self.pad_token_id] * (width - len(row)) for row in rows])
        if return_attention_mask:
            result["attention_mask"] = [[1] * len(row) + [0] * (width - len(row)) for row in rows]
        if return_length:
            result["length"] = [len(row) for row in result["input_ids"]]
        result = _as_requested(result, return_tensors, single=isinstance(text, str))
        if return_overflowing_tokens:
            cut = [c[room:] if truncation else [] for c in codes]
            result["overflowing_tokens"] = cut[0] if isinstance(text, str) else cut
            result["num_truncated_tokens"] = len(cut[0]) if isinstance(text, str) else [len(c) for c in cut]
        return result

    def pad(self, encoded, padding="max_length", max_length: int | None = None, return_tensors: str | None = None):
        """Pad ``{'input_ids': rows}`` made without padding to ``max_length`` or to the longest row."""
        rows = encoded["input_ids"]
        width = (max_length or self.model_max_length) if padding == "max_length" else max(map(len, rows), default=0)
        result = Encoding(
            input_ids=[list(row) + [self.pad_token_id] * (width - len(row)) for row in rows],
            attention_mask=[[1] * len(row) + [0] * (width - len(row)) for row in rows],
        )
        return _as_requested(result, return_tensors, single=False)


def _as_requested(result: Encoding, return_tensors: str | None, single: bool) -> Encoding:
    if return_tensors is None:
        return Encoding({k: v[0] for k, v in result.items()}) if single else result
    if return_tensors == "pt":
        import torch

        make = torch.tensor
    elif return_tensors == "np":
        import numpy

        make = numpy.array
    else:
        raise ValueError(f"return_tensors={return_tensors!r} is not None, 'pt' or 'np'")
    try:
        return Encoding({k: make(v) for k, v in result.items()})
    except ValueError:
        raise ValueError("texts of different lengths need padding=True or 'max_length' to form a tensor") from None


@lru_cache(maxsize=1)
def shared_tokenizer() -> ClipTokenizer:
    """The tokenizer of the installed vocabulary, built once per process."""
    return ClipTokenizer()
