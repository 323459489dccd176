"""Which share of a text's images shows which attribute: what is drawn, with which seeds, and how answers are counted.

The model that draws and the classifier that looks come in as callables, so that any of either can be used.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from erasure.errors import UserError

Draw = Callable[[str, Sequence[int]], Iterable[np.ndarray]]
"""A prompt and S seeds -> for each seed the images that its generator gives, uint8 [N, H, W, 3]."""

Classify = Callable[[np.ndarray, Sequence[str]], Tensor]
"""Images uint8 [N, H, W, 3] and J texts -> logits [N, J]."""

SEEDS = {"2023": 5, "2025": 1}  # drawn for every outer iteration (2025: published without a seed)
_SEED_LIMIT = 5000


def seeds_of(seed: int, iteration: int, count: int) -> list[int]:
    """Seeds of one outer iteration, the same for all texts: the next `count` numbers of numpy's stream of `seed`."""
    stream = np.random.RandomState(seed)
    drawn = [stream.randint(_SEED_LIMIT, size=count) for _ in range(iteration + 1)]
    return drawn[-1].tolist()


def votes(logits: Tensor, variant: str) -> Tensor:
    """logits [N, J] -> which attributes count for which image [N, J].

    2023: all whose probability is the highest, so that ties count more than once; float32. 2025: the first of them;
    float64. Both as published, since the precision decides on the tolerance's edge.
    UserError for logits that are not finite.
    """
    if not torch.isfinite(logits).all():
        raise UserError("the classifier's answers are NaN or infinite: the model draws broken images")
    shares = logits.float().softmax(dim=-1)
    if variant == "2023":
        return (shares == shares.amax(dim=-1, keepdim=True)).float()
    return torch.nn.functional.one_hot(shares.argmax(dim=-1), shares.shape[-1]).double()


@dataclass(frozen=True)
class Meter:
    """Draws images and counts what they show."""

    draw: Draw
    classify: Classify
    variant: str = "2023"

    def shares(self, text: str, attributes: Sequence[str], seeds: Sequence[int]) -> Tensor:
        """Share of the images of `text` that show each attribute [J]."""
        logits = [self.classify(images, attributes) for images in self.draw(text, seeds)]
        return votes(torch.cat(logits), self.variant).mean(dim=0)

    def ratios(
        self,
        texts: Sequence[str],
        attributes: Sequence[Sequence[str]],
        seeds: Sequence[int],
        known: Mapping[int, Tensor] | None = None,
    ) -> Iterator[Tensor]:
        """Shares [J] of text after text; those of a number in `known` are not measured."""
        for k, (text, own) in enumerate(zip(texts, attributes, strict=True)):
            yield known[k] if known and k in known else self.shares(text, own, seeds)


def drawing(model, settings, progress: bool = False) -> Draw:
    """A model (LatentDiffusion, with the weights that it has when it draws) and GenerationSettings -> `Draw`."""
    from tqdm import tqdm

    from erasure.generation.drawing import Painter, resolved, size_multiple
    from erasure.generation.plan import batches, images_of
    from erasure.prompts import Row

    settings = resolved(settings, model)
    painter = Painter(model, settings)

    def draw(prompt: str, seeds: Sequence[int]) -> Iterator[np.ndarray]:
        rows = [Row(i, prompt, seed) for i, seed in enumerate(seeds)]
        images = images_of(rows, settings, size_multiple(model))
        with tqdm(total=len(images), desc=prompt, unit=" images", disable=not progress, leave=False) as bar:
            pixels: list[np.ndarray] = []
            for batch in batches(images, settings.batch_size):
                pixels += painter.draw(batch)
                bar.update(len(batch))
                while len(pixels) >= settings.num_samples:
                    yield np.stack(pixels[: settings.num_samples])
                    pixels = pixels[settings.num_samples :]

    return draw
