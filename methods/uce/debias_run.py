"""One debiasing run: measure, edit, measure again, until all texts are balanced.

model, identity = base_models.load("toy")
settings = DebiasSettings(concept="van gogh or picasso", attributes="van gogh, picasso").for_family("toy")
run = debias(model, identity, settings, settings.plan("toy"), meter, DebiasFolder(folder, settings, identity))
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from erasure import edits
from erasure.edits import ContextMap, context_projections
from erasure.edits.applying import UNET
from erasure.edits.context_maps import KIND
from erasure.runs import versions
from erasure.text_states import TextStates
from methods.uce import debias as algorithm
from methods.uce import ratios
from methods.uce.debias import Debiasing, Round
from methods.uce.debias_folder import DebiasFolder
from methods.uce.debias_settings import DebiasPlan, DebiasSettings
from methods.uce.ratios import Meter


@dataclass(frozen=True)
class DebiasRun:
    edit: edits.Edit | None  # None if the model was balanced already
    weights: Tensor  # [K, J] of the last edit
    ratios: list[Tensor]  # [K, J] as measured before every edit, and after the last one if it balanced all
    balanced: bool


class _Balancer2023:
    """Edits the weights as they are, and leaves alone what is balanced."""

    def __init__(self, debiasing: Debiasing, texts: TextStates, originals: Mapping[str, Tensor]):
        self.debiasing, self.texts = debiasing, texts
        self.round: Round | None = None
        self.weights = torch.zeros(len(debiasing.texts), len(debiasing.attributes[0]))

    def known(self) -> dict[int, Tensor]:
        """Ratios of the texts that are not measured again."""
        if self.round is None:
            return {}
        kept = self.round.bypassed(self.debiasing.tolerance)
        return {k: self.round.ratios[k] for k, bypassed in enumerate(kept) if bypassed}

    def balanced(self, measured: Tensor) -> bool:
        self.round = algorithm.next_round(self.debiasing, measured, self.round)
        if not self.round.balanced:
            self.weights = self.round.weights
        return self.round.balanced

    def edited(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return algorithm.edited_weights(self.debiasing, self.weights, self.round.preserved, self.texts, weights)[0]

    def result(self, weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str]:
        return {name.removeprefix(UNET): weight.cpu() for name, weight in weights.items()}, "tensors"


class _Balancer2025:
    """Edits the original weights by all directions so far."""

    def __init__(self, debiasing: Debiasing, texts: TextStates, originals: Mapping[str, Tensor]):
        self.debiasing, self.texts, self.originals = debiasing, texts, originals
        self.weights = torch.zeros(len(debiasing.texts), len(debiasing.attributes[0]), dtype=torch.float64)

    def known(self) -> dict[int, Tensor]:
        return {}

    def balanced(self, measured: Tensor) -> bool:
        direction = algorithm.directions(self.debiasing, measured)
        self.weights = algorithm.accumulated(self.weights, direction, self.debiasing.step)
        return not direction.any()

    def _map(self) -> dict[str, Tensor]:
        return algorithm.context_map(self.debiasing, self.weights, self.texts)[0].tensors()

    def edited(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        context_map = ContextMap.from_tensors(self._map())  # as it will be read from the edit's file
        return {name: context_map.applied(weight).to(weight.dtype) for name, weight in self.originals.items()}

    def result(self, weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str]:
        return {name: tensor.cpu() for name, tensor in self._map().items()}, KIND


_BALANCERS = {"2023": _Balancer2023, "2025": _Balancer2025}


def debiasing_of(settings: DebiasSettings, plan: DebiasPlan) -> Debiasing:
    return Debiasing(
        plan.texts, plan.attribute_texts, plan.preserved, plan.desired, settings.lamb, settings.erase_scale,
        settings.preserve_scale, settings.step_size, settings.max_diff,
    )  # fmt: skip


def debias(
    model,
    identity,
    settings: DebiasSettings,
    plan: DebiasPlan,
    meter: Meter,
    folder: DebiasFolder,
    report: Callable[[int, Tensor], None] = lambda iteration, measured: None,
) -> DebiasRun:
    """Balance a LatentDiffusion, which itself is as it was in the end. `settings` are those of its family.

    Every text's ratios, and the weights after every edit, go into `folder`, and a run that finds some there goes on
    from them to the same weights. report(iteration, ratios [K, J]): called after every measurement.
    """
    parameters = context_projections(model)
    originals = {name: p.data.cpu() for name, p in parameters.items()}  # where texts are, and closed forms are solved
    balancer = _BALANCERS[settings.variant](debiasing_of(settings, plan), TextStates.of(model), originals)
    weights, history, edited, balanced = originals, [], folder.edited, False
    with _restored(parameters):
        for iteration in range(settings.max_iterations):
            history.append(_measure(meter, settings, plan, folder, iteration, balancer.known()))
            report(iteration, history[-1])
            if balanced := balancer.balanced(history[-1]):
                break
            if iteration + 1 < edited:
                continue
            weights = folder.weights(originals) if iteration + 1 == edited else balancer.edited(weights)
            if iteration + 1 > edited:
                folder.save_weights(weights, iteration + 1)
            for name, p in parameters.items():
                p.data = weights[name].to(p.device)
    if balanced and len(history) == 1:
        return DebiasRun(None, balancer.weights, history, True)
    tensors, kind = balancer.result(weights)
    about = [settings.to_dict(), identity.to_dict(), tensors, kind, versions()]
    return DebiasRun(edits.Edit("uce", list(plan.concepts), *about), balancer.weights, history, balanced)


def _measure(meter: Meter, settings, plan: DebiasPlan, folder: DebiasFolder, iteration: int, known) -> Tensor:
    """Ratios [K, J] of one iteration, each text's saved as soon as it is known."""
    there = folder.measured(iteration)
    seeds = ratios.seeds_of(settings.seed, iteration, ratios.SEEDS[settings.variant])
    known = known | dict(enumerate(there))
    found = []
    for k, shares in enumerate(meter.ratios(plan.texts, plan.attribute_texts, seeds, known)):
        found.append(shares.double())
        if k >= len(there):
            folder.add(iteration, shares)
    return torch.stack(found)


@contextlib.contextmanager
def _restored(parameters: Mapping[str, Tensor]) -> Iterator[None]:
    """The parameters are what they were when the block ends."""
    originals = {name: p.data for name, p in parameters.items()}
    try:
        yield
    finally:
        for name, p in parameters.items():
            p.data = originals[name]
