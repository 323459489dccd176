"""RECE's epochs: derive the embeddings that bring the concepts back, erase those too, again (arXiv 2407.12383).

    rece = Rece(texts, originals, start, settings)
    for _ in range(3):
        epoch = rece.epoch()            # epoch.embeddings: one [77, D] a concept
    rece.context_map()                  # the whole edit as one map, or None: then rece.weights() is

With technique "replace" every layer is its start times one map P, so an epoch lives in D x D matrices: G <- P^T G P and
H <- P^T H say all that the next one needs of the projections, and those are multiplied once, in the end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from erasure.edits import ContextMap
from erasure.errors import UserError
from erasure.text_states import TextStates
from methods.rece.adversarial import adversarial_embedding, sums
from methods.rece.settings import ReceSettings
from methods.uce.closed_form import Factored, NormalMatrix, SharedMap, gram
from methods.uce.erase import Erasure, answered, context_map, preserved_rows


@dataclass(frozen=True)
class Epoch:
    """What one epoch did."""

    index: int  # from 0
    embeddings: list[Tensor]  # [77, D] float64, one a concept, of the weights before the epoch's edit
    system: Factored  # that the edit solved; its condition() is an estimate of the condition number


class Rece:
    """The current projections and the next epoch's edit of them.

    originals: name -> W^o [O, D], never changed. start: the projections to begin with: a map of the originals (a UCE edit),
    other weights under the same names, or None for the originals. retained: Gram matrix of the texts to keep
    (`retained_gram`), if it is known already.
    """

    def __init__(
        self,
        texts: TextStates,
        originals: Mapping[str, Tensor],
        start: ContextMap | Mapping[str, Tensor] | None,
        settings: ReceSettings,
        retained: Tensor | None = None,
    ):
        self.texts, self.settings, self.index = texts, settings, 0
        chosen = dict.fromkeys((*settings.concepts, *settings.guides, *(t for t in settings.targets if t is not None)))
        texts.prepare(chosen)
        dim = texts[settings.concepts[0]].states.shape[1]
        widths = {weight.shape[1] for weight in originals.values()}
        if widths != {dim}:
            raise UserError(f"texts of {dim} numbers a token do not fit projections of {sorted(widths)}")
        kept = retained_gram(texts, settings.retained) if retained is None else retained
        self._regular = kept * settings.preserve_scale
        self._regular.diagonal().add_(settings.lamb)
        kind = _Shared if settings.technique == "replace" else _PerLayer
        self._state = kind(originals, start, settings)

    def epoch(self) -> Epoch:
        """Derive all concepts' embeddings from the current weights, then erase them in one edit. UserError: see README."""
        embeddings = self._embeddings()
        guides = [self.texts[guide].states for guide in self.settings.guides]
        system = self._state.edit(embeddings, guides, self._regular)
        self.index += 1
        return Epoch(self.index - 1, embeddings, system)

    def context_map(self) -> ContextMap | None:
        """What was done to the originals since the beginning, if that is one map."""
        return self._state.context_map()

    def weights(self) -> dict[str, Tensor]:
        """name -> current projection [O, D], float64."""
        return self._state.weights()

    def _embeddings(self) -> list[Tensor]:
        s = self.settings
        G, H = self._state.sums()
        found: dict[int, Tensor] = {}
        # those with a target text of their own and those without are two systems
        for with_target in (True, False):
            mine = [i for i, target in enumerate(s.targets) if (target is not None) == with_target]
            if not mine:
                continue
            c = torch.stack([self.texts[s.concepts[i]].states for i in mine])
            target = torch.stack([self.texts[s.targets[i]].states for i in mine]) if with_target else None
            solved = adversarial_embedding(G, H, c, s.emb_computing, s.regular_scale, s.reg_item, target)
            found |= dict(zip(mine, solved, strict=True))
        return [found[i] for i in range(len(s.concepts))]


def retained_gram(texts: TextStates, retained: Sequence[str], progress: bool = False) -> Tensor:
    """Sum of P^T P [D, D] float64 over all rows of the texts to keep: the same in every epoch."""
    if not retained:
        raise UserError("no text to retain: give at least an empty one")
    return sum(gram(rows) for rows in preserved_rows(texts, retained, progress=progress))


def uce_start(
    texts: TextStates, pairs: Sequence[tuple[str, str]], retained: Tensor, preserve_scale: float, lamb: float = 0.5
) -> ContextMap:
    """The UCE edit that RECE begins with, made of (concept, guide) and the Gram matrix of what is preserved."""
    return context_map(Erasure(pairs, lamb=lamb, preserve_scale=preserve_scale), texts, kept=retained)[0]


# ---- the projections between two epochs ----------------------------------------------------------------------------


class _Shared:
    """Technique "replace": the projections are base P, and only P, G and H are kept."""

    def __init__(self, originals, start, settings: ReceSettings):
        self.settings = settings
        self.of_originals = start is None or isinstance(start, ContextMap)
        if self.of_originals:
            self.base, first = originals, next(iter(originals.values()))
            self.total = ContextMap.identity(first.shape[1])
            self.G = gram(*originals.values())
            self.H = self.G.clone()
            if start is not None:
                self._multiply(start)
        else:
            self.base, self.total = start, ContextMap.identity(next(iter(start.values())).shape[1])
            self.G, self.H = sums(start, originals)

    def sums(self) -> tuple[Tensor, Tensor]:
        return self.G, self.H

    def edit(self, embeddings: Sequence[Tensor], guides: Sequence[Tensor], regular: Tensor) -> Factored:
        gathered = SharedMap(len(regular), self.settings.lamb, self.settings.erase_scale)
        gathered.normal.sum.copy_(regular)
        for rows, guide in zip(embeddings, guides, strict=True):
            gathered.erase(rows, guide, guide=id(guide))
        change, factored = gathered.solve()
        self._multiply(change)
        return factored

    def _multiply(self, change: ContextMap) -> None:
        self.total = self.total.then(change)
        half = change.applied(self.G)  # G P
        self.G = change.applied(half.T)  # (P^T G) P
        self.H = change.applied(self.H.T).T  # (H^T P)^T

    def context_map(self) -> ContextMap | None:
        return self.total if self.of_originals else None

    def weights(self) -> dict[str, Tensor]:
        return {name: self.total.applied(weight) for name, weight in self.base.items()}


class _PerLayer:
    """Any technique: every projection is answered for on its own."""

    def __init__(self, originals, start, settings: ReceSettings):
        self.originals, self.settings = originals, settings
        if isinstance(start, ContextMap):
            self.current = {name: start.applied(weight) for name, weight in originals.items()}
        else:
            self.current = {name: weight.double() for name, weight in (start or originals).items()}

    def sums(self) -> tuple[Tensor, Tensor]:
        return sums(self.current, self.originals)

    def edit(self, embeddings: Sequence[Tensor], guides: Sequence[Tensor], regular: Tensor) -> Factored:
        scale, rows = self.settings.erase_scale, torch.cat(list(embeddings))
        normal = NormalMatrix(len(regular), self.settings.lamb)
        normal.sum.copy_(regular)
        normal.add(rows, scale)
        factored = normal.factor()
        parts = list(zip(embeddings, guides, strict=True))
        self.current = answered(parts, self.current, self.settings.technique, factored.right(rows), scale)
        return factored

    def context_map(self) -> None:
        return None

    def weights(self) -> dict[str, Tensor]:
        return dict(self.current)
