"""From settings and a base model to what a training reads: the texts of a concept, encoded, and the frozen projections."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from erasure.errors import UserError
from methods.cpe import anchors, prompts
from methods.cpe.projections import Projections
from methods.cpe.settings import CpeSettings
from methods.cpe.training import Problem


class Preparation:
    """What the concepts of a run share: spectral norms, states of general anchor words, states of candidates' names.

    targets: of the run, all of which `clean_anchors` keeps out of the anchors. cache_device: where anchors' states are kept, which
    for Stable Diffusion take 1.3 (artists) to 3.6 GB (celebrities); None: where the model is.
    """

    def __init__(self, model, targets: Sequence[str], cache_device: str | None = None, progress: bool = True):
        self.model, self.targets, self.progress = model, list(targets), progress
        self.device = torch.device(model.device)
        self.cache_device = torch.device(cache_device or self.device)
        self.projections: Projections | None = None
        self._blocks: dict[Any, tuple[Tensor, Tensor]] = {}

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> Tensor:
        """[B, T, D] float32."""
        return self.model.get_learned_conditioning(list(texts)).float()

    def problem(self, s: CpeSettings) -> Problem:
        """UserError for files of templates and words that are missing or empty."""
        templates = prompts.read_templates(s.scripts_file, s.word)
        empty = self.encode([""])
        if self.projections is None:
            self.projections = Projections.of(self.model.model.diffusion_model, empty.shape[1])
        target, neutral = (
            self._block(prompts.fill_all(templates, s.word, text, s.clean_anchors), what, repeats=True)
            for text, what in ((s.target, "the target"), (s.neutral, "its stand-in"))
        )
        cache = anchors.StateCache(self._protected(s, templates), self.device)
        return Problem(self.projections, target.to(self.device), neutral.to(self.device), empty.to(self.device), cache)

    def _block(self, texts: Sequence[str], what: str, repeats: bool = False):
        states, rows = anchors.encode_once(self.encode, texts, what, self.progress)
        states = states.to(self.cache_device)
        return states[rows] if repeats else (states, rows)

    def _kept(self, key: Any, texts: Sequence[str], what: str):
        """A block that other concepts of the run need too."""
        if key not in self._blocks:
            self._blocks[key] = self._block(texts, what)
        return self._blocks[key]

    def _protected(self, s: CpeSettings, templates: Sequence[str]) -> list[tuple[Tensor, Tensor]]:
        if "prompts" in s.anchors:
            return [self._kept("sentences", self._words(s, "prompts"), "anchors")]
        general, candidates = (self._words(s, name) for name in ("general", "candidates"))
        key = ("general", tuple(templates), s.word, s.clean_anchors)
        words = anchors.word_texts(general, templates, s.word, s.clean_anchors)
        similar = anchors.word_texts(self.similar(s, candidates), templates, s.word, s.clean_anchors)
        return [self._kept(key, words, "general anchors"), self._block(similar, f"anchors like {s.target}")]

    def _words(self, s: CpeSettings, name: str) -> list[str]:
        """Of one list of anchors. UserError if none is left."""
        words = prompts.read_words(s.anchors[name])
        if s.clean_anchors:
            words = prompts.cleaned_candidates(words, self.targets)
        if not words:
            raise UserError(f"no anchor is left: anchors.{name} holds targets of the run only")
        return words

    def similar(self, s: CpeSettings, candidates: Sequence[str]) -> list[str]:
        """The candidates most like the target, the most similar one last. UserError if none is left."""
        names = candidates if s.clean_anchors else prompts.candidates_without(candidates, s.target)
        if not names:
            raise UserError(f"no anchor is left for {s.target!r}: all candidates are left out")
        states, rows = self._kept("candidates", candidates, "names")
        place = dict(zip(candidates, rows.tolist(), strict=True))
        found = anchors.most_similar(self.encode([s.target])[0].to(states.device), states[[place[n] for n in names]])
        return [names[i] for i in found]


def concepts_of(entries: Any, path: str) -> list[Mapping[str, Any]]:
    """The entries of a prompts_file. UserError if they are none."""
    if (
        not isinstance(entries, list)
        or not entries
        or not all(isinstance(e, Mapping) and e.get("target") for e in entries)
    ):
        raise UserError(f"{path}: it is no list of concepts (- target: ...)")
    return entries
