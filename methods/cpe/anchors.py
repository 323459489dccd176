"""What a training protects: states of anchor texts, chosen by their likeness to the target, and encoded once each."""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor
from tqdm import tqdm

from methods.cpe.prompts import fill_all

SIMILAR = 50  # candidates that are taken
ENCODED_AT_ONCE = 64

Encode = Callable[[Sequence[str]], Tensor]
"""B texts -> states [B, T, D] float32 (the text encoder's last hidden states, after its final norm)."""


class StateCache:
    """States of M texts, of which equal ones are held once. `device`: where `take` puts them."""

    def __init__(self, blocks: Sequence[tuple[Tensor, Tensor]], device="cpu"):
        """blocks: (states [U, T, D], row of every text [M]); M in all is their sum."""
        self.blocks, self.device = list(blocks), device
        self.starts = torch.tensor([0] + [len(rows) for _, rows in self.blocks]).cumsum(0).tolist()

    def __len__(self) -> int:
        return self.starts[-1]

    def take(self, indices: Sequence[int]) -> Tensor:
        """[n, T, D] float32, in the order of the indices."""
        return torch.stack([self._state(index) for index in indices]).to(self.device)

    def _state(self, index: int) -> Tensor:
        """[T, D], a view."""
        block = bisect_right(self.starts, index) - 1
        states, rows = self.blocks[block]
        return states[int(rows[index - self.starts[block]])]


def encode_once(encode: Encode, texts: Sequence[str], what: str = "texts", progress: bool = True):
    """(states [U, T, D] of the distinct texts, row of every text [M]): one block of a `StateCache`."""
    place = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    distinct = list(place)
    states = None
    with tqdm(total=len(distinct), desc=f"encoding {what}", unit=" texts", disable=not progress, delay=1) as bar:
        for start in range(0, len(distinct), ENCODED_AT_ONCE):
            batch = distinct[start : start + ENCODED_AT_ONCE]
            encoded = encode(batch).float().cpu()
            if states is None:
                states = torch.empty(len(distinct), *encoded.shape[1:])
            states[start : start + len(batch)] = encoded
            bar.update(len(batch))
    return states, torch.tensor([place[text] for text in texts])


def most_similar(target: Tensor, candidates: Tensor, count: int = SIMILAR) -> list[int]:
    """Places of the `count` candidates [n, T, D] whose states are most like the target's [T, D], the most similar one last.

    Likeness: the cosine of all tokens and channels together.
    """
    flat = torch.nn.functional.normalize(candidates.flatten(1), dim=1)
    likeness = flat @ torch.nn.functional.normalize(target.flatten(), dim=0)
    return torch.argsort(likeness, stable=True)[-count:].tolist()


def word_texts(words: Iterable[str], templates: Sequence[str], word: str, clean: bool = False) -> list[str]:
    """Every anchor word in every template, word by word."""
    return [text for anchor in words for text in fill_all(templates, word, anchor, clean)]
