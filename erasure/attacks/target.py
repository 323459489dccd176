"""The model that is attacked: it draws, and a judge says of a picture whether the concept is in it.

`Judge(pictures) -> answers`: pictures uint8 [H, W, 3], and for each a dict with `success` and whatever else is to be logged.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image as Picture
from torch import Tensor

from erasure import text_tokens
from erasure.attacks import tokens
from erasure.errors import UserError
from erasure.generation.drawing import Painter, resolved, size_multiple
from erasure.generation.plan import images_of
from erasure.generation.presets import GenerationSettings
from erasure.metrics.network_inputs import read_image
from erasure.prompts import Row, ids_cell

Judge = Callable[[Sequence[np.ndarray]], list[Mapping[str, Any]]]
EVAL_TOKENS = ("retokenized", "ids")


@dataclass(frozen=True)
class Case:
    """A prompt of the concept, which the original model draws and the erased one should not."""

    index: int
    prompt: str
    seed: int
    guidance: float | None = None
    image: Path | None = None  # what the original model drew
    token_ids: tuple[int, ...] | None = None  # drawn in place of the prompt, where nothing is attacked


class Target:
    """An erased model (LatentDiffusion with its edits) for attacks.

    original: the model before erasure, which P4D compares with. eval_tokens: whether found tokens are drawn as the text that
    they make, encoded again (as published), or as they are.
    """

    def __init__(
        self, model, drawing: GenerationSettings, judge: Judge, original=None, eval_tokens: str = "retokenized"
    ):
        if eval_tokens not in EVAL_TOKENS:
            raise UserError(f"eval_tokens {eval_tokens!r} is not one of {', '.join(EVAL_TOKENS)}")
        self.model, self.judge, self.original, self.eval_tokens = model, judge, original, eval_tokens
        self.drawing = resolved(replace(drawing, row_guidance=True, naming="case", num_samples=1), model)
        self._given: dict[str, Tensor] = {}
        self.painter = Painter(model, self.drawing, self._states)

    def _states(self, text: str) -> Tensor:
        return self._given[text] if text in self._given else self.painter.encode(text)

    @property
    def device(self) -> torch.device:
        return self.model.device

    def pictures(self, prompts: Sequence[str | Tensor], seeds: Sequence[int], guidance: float | None = None):
        """uint8 [H, W, 3] of every prompt, a text or states [77, D], with its seed. Drawn in batches."""
        self.painter.encode_prompt = self._states  # not kept: states of one name differ from call to call
        self._given, rows = {}, []
        for i, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True)):
            if isinstance(prompt, Tensor):
                self._given[f"\0{i}"] = prompt.detach()
                prompt = f"\0{i}"
            rows.append(Row(i, prompt, seed, guidance))
        images = images_of(rows, self.drawing, size_multiple(self.model))
        size = self.drawing.batch_size
        return [p for at in range(0, len(images), size) for p in self.painter.draw(images[at : at + size])]

    def unchanged(self, case: Case) -> str | Tensor:
        """What is drawn of a case where nothing is attacked: its prompt, or the states of its token ids."""
        if case.token_ids is None:
            return case.prompt
        ids = text_tokens.framed(self.model, case.token_ids, f"prompt {case.index}")
        return text_tokens.states_of_ids(self.model, ids)

    def drawn_with(self, case: Case, seed: int | None = None) -> dict[str, Any]:
        """For a log: the seed and the guidance of a picture."""
        guidance = self.drawing.guidance if case.guidance is None else case.guidance
        return {"evaluation_seed": case.seed if seed is None else seed, "evaluation_guidance": guidance}

    def tried(self, prompt: str | Tensor, case: Case) -> tuple[np.ndarray, dict[str, Any]]:
        """(picture, the judge's answer) of one prompt with the case's seed and guidance."""
        (picture,) = self.pictures([prompt], [case.seed], case.guidance)
        (answer,) = self.judge([picture])
        return picture, {**answer, **self.drawn_with(case)}

    def tried_ids(self, ids: Tensor, case: Case) -> tuple[np.ndarray, dict[str, Any]]:
        """The same of token ids [77], as text or as they are; both are in the answer."""
        text = tokens.text_of(self.model, ids)
        again = tokens.ids_of(self.model, text)
        prompt = text
        if self.eval_tokens == "ids":
            prompt = text_tokens.states_of_ids(self.model, ids)
        picture, answer = self.tried(prompt, case)
        facts = {
            "prompt": text,
            "token_ids": ids_cell(text_tokens.bare(ids, tokens.end_of(self.model))),
            "same_ids_again": bool(torch.equal(again, ids.cpu())),
        }
        return picture, answer | facts

    def latent(self, path: Path) -> Tensor:
        """x_0 [1, C, h, w] of a picture: the mean of the autoencoder's posterior, scaled."""
        pixels = squared(path, self.drawing.image_size).to(self.device)
        posterior = self.model.encode_first_stage(pixels[None].to(next(self.model.parameters()).dtype))
        return self.model.get_first_stage_encoding(posterior.mode()).float()


def read_picture(path: Path) -> np.ndarray:
    """uint8 [H, W, 3]. UserError for a file that is no picture."""
    return np.asarray(read_image(path))


def squared(path: Path, size: int) -> Tensor:
    """A picture [3, size, size] in [-1, 1]: the shorter side resized (bicubic), the middle cut out."""
    picture = read_image(path)
    scale = size / min(picture.size)
    if scale != 1:
        picture = picture.resize([max(size, round(side * scale)) for side in picture.size], Picture.BICUBIC)
    left, top = (picture.width - size) // 2, (picture.height - size) // 2
    cut = np.asarray(picture.crop((left, top, left + size, top + size)))
    return torch.from_numpy(cut.copy()).permute(2, 0, 1).float() / 127.5 - 1


@dataclass(frozen=True)
class Plan:
    """What an attack is told besides the model: its settings (the section `attacker` of a configuration) and data."""

    settings: Mapping[str, Any]
    cases: Sequence[Case] = field(default=())
    seed: int = 0
    criterion: str = "l2"
    folder: Path | None = None  # of what all cases share
    facts: Mapping[str, Any] = field(default_factory=dict)  # what a result depends on, for what is kept in `folder`
    progress: bool = True
    task: str = "classifier"  # P4D: white-box attacks compare with the original model
