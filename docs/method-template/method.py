"""The method as pure functions: model, texts and random choices come in as arguments. This is the file to replace.

The example: every key and value projection W of the text becomes a W' that answers a concept as W answers a neutral text, position
by position, and answers other texts as before:

    min  |W' c - W n|^2 + s |W' p - W p|^2        c, n: states of the concept and the neutral text in one prompt; p: of a text to keep
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from erasure.edits import context_projections
from erasure.edits.applying import UNET
from erasure.training.draws import iteration_generators
from erasure.training.frozen import FrozenWeights
from methods.mymethod import NAME, TEMPLATES
from methods.mymethod.settings import Settings


@dataclass(frozen=True)
class Draws:
    """The random choices of one iteration."""

    concept: str  # in a prompt
    neutral: str  # in the same
    preserved: str


def trained(model) -> dict[str, nn.Parameter]:
    """The weights of a LatentDiffusion that the method changes, by their names in the UNet."""
    return {name.removeprefix(UNET): weight for name, weight in context_projections(model).items()}


def texts(settings: Settings) -> list[str]:
    """All texts that `draw` may choose."""
    prompts = [template.format(text) for template in TEMPLATES for text in (settings.concept, settings.neutral)]
    return list(dict.fromkeys((*prompts, *settings.preserved)))


def draw(settings: Settings, iteration: int) -> Draws:
    """Random choices of an iteration, from the seed and its number alone: a resumed run draws what an undisturbed one does."""
    chooser, _ = iteration_generators(NAME, settings.seed, iteration)  # the other one draws noise, if you need any
    template = chooser.choice(TEMPLATES)
    return Draws(
        template.format(settings.concept), template.format(settings.neutral), chooser.choice(settings.preserved)
    )


def loss(weights: FrozenWeights, states: Mapping[str, Tensor], draws: Draws, settings: Settings) -> Tensor:
    """What one step of Adam lowers: a scalar.

    weights: the trained tensors (selected) and what they were (originals), by name. For methods that run the network,
    weights.apply_model(z, t, context) is the one in training, weights(z, t, context) the original. states: text -> [1, L, D].
    """
    total = 0.0
    for name, weight in weights.selected.items():
        original = weights.originals[name]
        erased = F.mse_loss(F.linear(states[draws.concept], weight), F.linear(states[draws.neutral], original))
        kept = F.mse_loss(F.linear(states[draws.preserved], weight), F.linear(states[draws.preserved], original))
        total = total + erased + settings.preserve_scale * kept
    return total / len(weights.selected)
