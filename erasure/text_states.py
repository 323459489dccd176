"""Texts as the hidden states that condition the model: each distinct text encoded once, in batches.

texts = TextStates.of(model)
texts["van gogh"].states        # [77, D] float64, after the tower's final layer norm
texts["van gogh"].last          # 2: the row of its last token; 0, the start token, for an empty text
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

BATCH = 64  # texts encoded at once


class TextState(NamedTuple):
    states: Tensor  # [L, D] float64
    last: int  # index of the last token of the text itself


Encode = Callable[[Sequence[str]], tuple[Tensor, Sequence[int]]]
"""B texts -> (hidden states [B, L, D], index of each text's last token)."""


class TextStates:
    """A cache of encoded texts. `encode` is called with up to BATCH texts that are not known yet."""

    def __init__(self, encode: Encode):
        self._encode = encode
        self._known: dict[str, TextState] = {}

    @classmethod
    def of(cls, model) -> "TextStates":
        """The text encoder of a LatentDiffusion."""
        tokenizer, length = model.cond_stage_model.tokenizer, model.cond_stage_model.max_length

        @torch.no_grad()
        def encode(texts: Sequence[str]) -> tuple[Tensor, list[int]]:
            masks = tokenizer(list(texts), truncation=True, max_length=length, padding="max_length").attention_mask
            # start and end tokens count in the mask: the last one of the text is the second before its end
            return model.get_learned_conditioning(list(texts)), [sum(mask) - 2 for mask in masks]

        return cls(encode)

    def __getitem__(self, text: str) -> TextState:
        if text not in self._known:
            self.prepare([text])
        return self._known[text]

    def prepare(self, texts: Iterable[str], progress: bool = False) -> "TextStates":
        """Encode those of `texts` that are not known yet, in their order."""
        for batch, states, last in self._batches(texts, progress):
            rows = (TextState(s, n) for s, n in zip(states, last, strict=True))
            self._known |= dict(zip(batch, rows, strict=True))
        return self

    def stream(self, texts: Iterable[str], progress: bool = False) -> Iterator[Tensor]:
        """Hidden states [L, D] of `texts`, one text after the other; those not known yet are not kept."""
        texts = list(texts)
        fresh = (state for _, batch, _ in self._batches(texts, progress) for state in batch)
        seen: dict[str, Tensor] = {}
        repeated = {text for text, count in Counter(texts).items() if count > 1}
        for text in texts:
            states = self._known[text].states if text in self._known else seen.get(text)
            if states is None:
                states = next(fresh)
                if text in repeated:
                    seen[text] = states
            yield states

    def _batches(self, texts: Iterable[str], progress: bool) -> Iterator[tuple[list[str], Tensor, Sequence[int]]]:
        wanted = [text for text in dict.fromkeys(texts) if text not in self._known]
        off = not progress or not wanted
        with tqdm(total=len(wanted), desc="encoding texts", unit=" texts", disable=off, delay=1) as bar:
            for start in range(0, len(wanted), BATCH):
                batch = wanted[start : start + BATCH]
                states, last = self._encode(batch)
                bar.update(len(batch))  # before the yield: who has all texts comes back no more
                yield batch, states.to("cpu", torch.float64), last  # where closed forms are solved
