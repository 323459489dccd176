"""UCE's erasure: from texts to the edited projections (arXiv 2308.14761; rohitgandikota/unified-concept-editing).

Two generations of the published code differ in which rows of a text are edited and preserved. Variant "2023" made the paper's
numbers: rows from the last token of the text on, paired with those of its guide by their distance from it, and all rows
of a preserved text. Variant "2025" takes the row of the last token, everywhere.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from erasure.edits import ContextMap
from erasure.text_states import TextState, TextStates
from methods.uce import closed_form
from methods.uce.closed_form import Factored, NormalMatrix, SharedMap

_TOGETHER = 16  # texts
_EQUAL = 1e-5  # relative: what rounding may make of one text, encoded in two batches


@dataclass(frozen=True)
class Erasure:
    """What is to be answered like what, and what is to stay."""

    pairs: Sequence[tuple[str, str]]  # (text to erase, its guide)
    preserved: Sequence[str] = field(default=("",))
    variant: str = "2023"
    technique: str = "replace"
    lamb: float = 0.5
    erase_scale: float = 1.0
    preserve_scale: float = 1.0


def aligned(old: TextState, new: TextState, variant: str = "2023") -> tuple[Tensor, Tensor]:
    """The rows [n, D] of a text that are edited, and those of its guide that answer for them."""
    length = len(old.states) - max(old.last, new.last) if variant == "2023" else 1
    return old.states[old.last : old.last + length], new.states[new.last : new.last + length]


def preserved_rows(texts: TextStates, preserved: Sequence[str], variant: str = "2023", progress: bool = False):
    """Yield rows [n, D] of the texts that are to stay, those of several texts at a time: long products are fast ones."""
    if variant == "2023":
        rows = texts.stream(preserved, progress)
    else:
        texts.prepare(preserved, progress)
        rows = (texts[text].states[texts[text].last][None] for text in preserved)
    while together := list(itertools.islice(rows, _TOGETHER)):
        yield torch.cat(together)


def preserve(
    normal: NormalMatrix,
    scale: float,
    texts: TextStates,
    preserved: Sequence[str],
    variant: str = "2023",
    progress: bool = False,
) -> None:
    """Add the texts that are to stay to a system."""
    for rows in preserved_rows(texts, preserved, variant, progress):
        normal.add(rows, scale)


def preserved_gram(erasure: Erasure, texts: TextStates, progress: bool = False) -> Tensor:
    """R^T R [D, D] of the rows of the texts that are to stay: all that the closed form needs of any number of them."""
    states = texts[erasure.pairs[0][0]].states
    kept = NormalMatrix(states.shape[1], 0.0, states.device)
    preserve(kept, 1.0, texts, erasure.preserved, erasure.variant, progress)
    return kept.sum


def own_guides(erasure: Erasure, texts: TextStates) -> list[str]:
    """Texts that their guide equals, row by row: "replace" keeps them as they are."""
    parts = ((old, *aligned(texts[old], texts[new], erasure.variant)) for old, new in erasure.pairs)
    norm = torch.linalg.norm
    return list(dict.fromkeys(old for old, rows, targets in parts if norm(rows - targets) <= _EQUAL * norm(rows)))


def context_map(
    erasure: Erasure, texts: TextStates, progress: bool = False, kept: Tensor | None = None
) -> tuple[ContextMap, Factored]:
    """Technique "replace": the one map that edits all layers, and the system that it solves.

    kept [D, D]: `preserved_gram` of the preserved texts, where it is known.
    """
    texts.prepare((text for pair in erasure.pairs for text in pair), progress)
    states = texts[erasure.pairs[0][0]].states
    gathered = SharedMap(states.shape[1], erasure.lamb, erasure.erase_scale, states.device)
    for old, new in erasure.pairs:
        gathered.erase(*aligned(texts[old], texts[new], erasure.variant), guide=new)
    _preserve(gathered.normal, erasure, texts, progress, kept)
    return gathered.solve()


def edited_weights(
    erasure: Erasure,
    texts: TextStates,
    weights: Mapping[str, Tensor],
    progress: bool = False,
    kept: Tensor | None = None,
) -> tuple[dict[str, Tensor], Factored]:
    """Layer by layer, any technique: name -> weight [O, D] float64, and the system that all of them solve."""
    texts.prepare((text for pair in erasure.pairs for text in pair), progress)
    parts = [aligned(texts[old], texts[new], erasure.variant) for old, new in erasure.pairs]
    rows = torch.cat([old for old, _ in parts])
    normal = NormalMatrix(rows.shape[1], erasure.lamb, rows.device)
    normal.add(rows, erasure.erase_scale)
    _preserve(normal, erasure, texts, progress, kept)
    factored = normal.factor()
    return answered(parts, weights, erasure.technique, factored.right(rows), erasure.erase_scale), factored


def _preserve(normal: NormalMatrix, erasure: Erasure, texts: TextStates, progress: bool, kept: Tensor | None) -> None:
    if kept is not None:
        normal.sum.add_(kept, alpha=erasure.preserve_scale)
    else:
        preserve(normal, erasure.preserve_scale, texts, erasure.preserved, erasure.variant, progress)


def answered(parts, weights: Mapping[str, Tensor], technique: str, right: Tensor, erase_scale: float = 1.0):
    """name -> weight [O, D] float64 that answers each part's rows [n, D] as the technique wants of its guide's rows.

    right: rows A^-1 [N, D] of all parts, one after the other.
    """
    rows, target = torch.cat([old for old, _ in parts]), _TECHNIQUES[technique]
    edited = {}
    for name, weight in weights.items():
        weight = weight.double()
        targets = torch.cat([target(old @ weight.T, new @ weight.T) for old, new in parts])
        edited[name] = closed_form.answer(weight, rows, targets, right, erase_scale)
    return edited


def _replace(old: Tensor, new: Tensor) -> Tensor:
    return new


def _tensor(old: Tensor, new: Tensor) -> Tensor:
    """The guide's answer without its component along the old one (both taken as one vector of all rows)."""
    direction = old / torch.linalg.norm(old)
    return new - (direction * new).sum() * direction


_TECHNIQUES = {"replace": _replace, "tensor": _tensor}
