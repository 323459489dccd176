"""One run of UCE's erasure: from settings and a model to an edit, and what that edit does.

model, identity = base_models.load("toy")
settings = UceSettings(concepts="van gogh", concept_type="art", guided_concepts="art")
run = erase(model, identity, settings, settings.plan(concepts.read_artists()))
run.edit, run.check
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from erasure import edits
from erasure.edits import ContextMap, context_projections
from erasure.edits.applying import UNET
from erasure.edits.context_maps import KIND
from erasure.errors import UserError
from erasure.runs import versions
from erasure.text_states import TextStates
from methods.uce.erase import Erasure, context_map, edited_weights, own_guides, preserved_gram
from methods.uce.self_check import SelfCheck, check, products_of_map, products_of_weights
from methods.uce.settings import Plan, UceSettings

_BLOCKS = {"input_blocks": 0, "down_blocks": 0, "output_blocks": 1, "up_blocks": 1, "middle_block": 2, "mid_block": 2}


@dataclass(frozen=True)
class Run:
    edit: edits.Edit
    check: SelfCheck
    condition: float  # of the system that was solved; of several, the largest
    kept: list[str]  # texts that are their own guide
    layers: list[str]  # that are edited
    seconds: float  # of encoding and solving, without the check


def erase(model, identity, settings: UceSettings, plan: Plan, progress: bool = True) -> Run:
    """The edit of a LatentDiffusion, which itself stays as it is. UserError if it would change nothing, or has no solution."""
    start = time.perf_counter()
    weights = {name.removeprefix(UNET): p.data.cpu() for name, p in context_projections(model).items()}
    names = chosen_layers(weights, settings.with_to_k, settings.layers)
    texts = TextStates.of(model)
    texts.prepare((text for pair in plan.pairs for text in pair[:2]), progress)
    parts = erasures(settings, plan)
    kept = _refuse_no_op(parts, texts) if settings.technique == "replace" else []
    gram = preserved_gram(parts[0], texts, progress)
    if settings.technique == "replace" and len(names) == len(weights):
        total, condition = mapped_in_turn(parts, texts, gram)
        tensors, kind = total.tensors(), KIND
        seconds = time.perf_counter() - start
        products = products_of_map(weights.values(), ContextMap.from_tensors(tensors))
    else:
        weights = {name: weights[name] for name in names}
        edited, condition = edited_in_turn(parts, texts, weights, gram)
        tensors, kind = {name: new.to(weights[name].dtype) for name, new in edited.items()}, "tensors"
        seconds = time.perf_counter() - start
        products = products_of_weights(weights.values(), edited.values())
    report = check(parts, texts, gram, products)
    about = settings.resolved(plan).to_dict()
    edit = edits.Edit("uce", list(plan.concepts), about, identity.to_dict(), tensors, kind, versions())
    return Run(edit, report, condition, kept, names, seconds)


def erasures(settings: UceSettings, plan: Plan) -> list[Erasure]:
    """What is solved at once: everything, or with `sequential` one concept after the other."""
    return [
        Erasure(
            pairs, plan.preserved, settings.variant, settings.technique, settings.lamb, settings.erase_scale,
            plan.preserve_scale,
        )
        for pairs in plan.parts(settings.sequential)
    ]  # fmt: skip


def mapped_in_turn(parts: Sequence[Erasure], texts: TextStates, gram: Tensor | None = None) -> tuple[ContextMap, float]:
    """One erasure after the other as one map, and the largest condition number of their systems."""
    total, condition = None, 0.0
    for part in parts:
        found, factored = context_map(part, texts, kept=gram)
        total = found if total is None else total.then(found)
        condition = max(condition, factored.condition())
    return total, condition


def edited_in_turn(
    parts: Iterable[Erasure], texts: TextStates, weights: Mapping[str, Tensor], gram: Tensor | None = None
) -> tuple[dict[str, Tensor], float]:
    """Each erasure of the weights that the one before it left: name -> weight [O, D] float64, and that number."""
    condition = 0.0
    for part in parts:
        weights, factored = edited_weights(part, texts, weights, kept=gram)
        condition = max(condition, factored.condition())
    return weights, condition


def chosen_layers(names: Iterable[str], with_to_k: bool = True, layers: tuple[int, ...] | None = None) -> list[str]:
    """The projections to edit. layers: positions in the published order, all V before all K. UserError if there is no such."""
    ordered = published_order(name for name in names if with_to_k or "to_k" not in name)
    if layers is None:
        return ordered
    if max(layers) >= len(ordered):
        raise UserError(f"--layers {max(layers)}: the positions here are 0 to {len(ordered) - 1}")
    return [ordered[i] for i in sorted(set(layers))]


def published_order(names: Iterable[str]) -> list[str]:
    """Projections as the 2023 code lists them: to_v then to_k, each from diffusers' down, up and mid blocks."""

    def place(name: str):
        return "to_k" in name, _BLOCKS.get(name.split(".")[0], 3), [int(n) for n in re.findall(r"\d+", name)]

    return sorted(names, key=place)


def _refuse_no_op(parts: Iterable[Erasure], texts: TextStates) -> list[str]:
    """Texts that the edit keeps, being their own guide. UserError if these are all."""
    kept = list(dict.fromkeys(text for part in parts for text in own_guides(part, texts)))
    if len(kept) == len({old for part in parts for old, _ in part.pairs}):
        raise UserError(
            f"nothing to erase: the guide of {edits.few(map(repr, kept))} is the same text; give other --guided_concepts"
        )
    return kept
