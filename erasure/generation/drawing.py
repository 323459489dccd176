"""Drawing one batch of images with a model: noise, text, sampling, decoding."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch

from erasure import samplers
from erasure.errors import UserError
from erasure.generation.plan import Image
from erasure.generation.presets import GenerationSettings, check
from erasure.prompts import Row
from erasure.text_tokens import framed, states_of_ids

_SMALL = 256 * 256  # pixels of an image, up to which it is cheap
_BATCH_SMALL, _BATCH_LARGE = 16, 4  # beyond 16, images of the embedded model get no faster
_DECODED_PIXELS = 1 << 17  # decoded at once: per pixel, the decoder needs far more memory than the UNet
_ENCODED_PROMPTS = 512  # kept; 0.2 MB each for Stable Diffusion


def weights_dtype(model) -> torch.dtype:
    return model.model.diffusion_model.dtype


def latent_factor(model) -> int:
    """Pixels per latent position."""
    return 2 ** (len(model.first_stage_model.decoder.up) - 1)


def size_multiple(model) -> int:
    """What the width and height of an image must be multiples of: every level of the UNet halves the latent."""
    return latent_factor(model) * 2 ** (len(model.model.diffusion_model.channel_mult) - 1)


def resolved(s: GenerationSettings, model) -> GenerationSettings:
    """`s` with what depends on the model filled in. UserError for settings that the model cannot be drawn with."""
    check(s)
    if s.noise_device == "cuda" and model.device.type == "cpu":
        raise UserError("noise drawn on a GPU needs the model on one; noise drawn on the CPU gives other images")
    native = model.image_size * latent_factor(model)
    s = replace(s, image_size=s.image_size or native)
    return replace(s, batch_size=s.batch_size or (_BATCH_SMALL if s.image_size**2 <= _SMALL else _BATCH_LARGE))


class Painter:
    """Draws batches of images of one size each. Text is encoded once per prompt, the unconditional one included.

    encode: text -> [L, D], in place of the model's text encoder for the prompts of rows; never for the unconditional one.
    A row's token ids, where it has them, are encoded in place of its prompt.
    """

    def __init__(self, model, s: GenerationSettings, encode: Callable[[str], torch.Tensor] | None = None):
        self.model, self.s = model, s
        self.factor = latent_factor(model)
        # one prompt at a time, so that its encoding does not depend on which others are wanted
        self.encode = functools.lru_cache(_ENCODED_PROMPTS)(lambda text: model.get_learned_conditioning([text])[0])
        self.encode_prompt = self.encode if encode is None else functools.lru_cache(_ENCODED_PROMPTS)(encode)
        self.takes_ids = encode is None
        self.encode_ids = functools.lru_cache(_ENCODED_PROMPTS)(lambda ids: states_of_ids(model, framed(model, ids)))

    def check(self, row: Row) -> None:
        """UserError for token ids that the model has not, and for any where only a text can be encoded."""
        if row.token_ids is None:
            return
        if not self.takes_ids:
            raise UserError(
                f"case {row.case_number}: what is drawn here starts from a text: leave the column token_ids out"
            )
        framed(self.model, row.token_ids, f"case {row.case_number}")

    def states_of(self, row: Row) -> torch.Tensor:
        """[L, D] of a row's token ids, else of its prompt."""
        self.check(row)
        return self.encode_prompt(row.prompt) if row.token_ids is None else self.encode_ids(row.token_ids)

    def conditioning(self, images: Sequence[Image]) -> torch.Tensor:
        """[B, L, D] of the rows' prompts, as the UNet takes it. UserError for states of another shape than the model's."""
        unconditional = self.encode(self.s.negative_prompt)
        states = [self.states_of(i.row).to(unconditional) for i in images]
        for image, state in zip(images, states, strict=True):
            if state.shape != unconditional.shape:
                raise UserError(
                    f"case {image.row.case_number}: its embedding is {tuple(state.shape)}, "
                    f"and the model takes {tuple(unconditional.shape)}"
                )
        return torch.stack(states)

    def latent_shape(self, image: Image) -> tuple[int, int, int]:
        return self.model.channels, image.height // self.factor, image.width // self.factor

    @torch.inference_mode()
    def draw(self, images: Sequence[Image]) -> list[np.ndarray]:
        """uint8 pixels [H, W, 3] of every image; all must be of one size."""
        pixels = []
        latents = self.latents(images)
        at_once = max(1, _DECODED_PIXELS // (images[0].height * images[0].width))
        for part in latents.split(at_once):
            decoded = self.model.decode_first_stage(part.to(weights_dtype(self.model))).float()
            rounded = ((decoded / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
            pixels.extend(rounded.permute(0, 2, 3, 1).cpu().numpy())
        return pixels

    @torch.inference_mode()
    def latents(self, images: Sequence[Image]) -> torch.Tensor:
        """Denoised latents [B, C, H / 8, W / 8] of the images, float32. UserError if one is not finite."""
        s, shape = self.s, self.latent_shape(images[0])
        noise = row_noise(images, s, shape, self.model.device)
        scale = torch.tensor([i.guidance for i in images]) if s.row_guidance else s.guidance
        unconditional = self.encode(s.negative_prompt).expand(len(images), -1, -1)
        latents = samplers.sample(
            self.model,
            s.sampler,
            s.steps,
            shape,
            cond=self.conditioning(images),
            uncond=unconditional,
            scale=scale,
            x_T=noise(),
            eta=s.eta,
            noise_fn=lambda *_: noise(),
        )
        for image, latent in zip(images, latents, strict=True):
            if not torch.isfinite(latent).all():
                raise UserError(
                    f"the model draws NaN for case {image.row.case_number} (weights in {weights_dtype(self.model)}, "
                    f"guidance {image.guidance:g}): use float32, or another model if it is that already"
                )
        return latents


def row_noise(images: Sequence[Image], s: GenerationSettings, shape, device) -> Callable[[], torch.Tensor]:
    """A function that draws the next standard normal noise [B, *shape] of the images, float32 on `device`.

    Every seed has a generator of its own, which draws for all `num_samples` images of a row at once, as the published
    scripts did with ``torch.manual_seed(seed)``; an image takes its part, whichever others are in the batch. Rows of one
    seed share their noise.
    """
    where = device if s.noise_device == "cuda" else "cpu"
    seeds = dict.fromkeys(i.row.evaluation_seed for i in images)
    generators = {seed: torch.Generator(where).manual_seed(seed) for seed in seeds}

    def draw() -> torch.Tensor:
        drawn = {
            seed: torch.randn((s.num_samples, *shape), generator=generator, device=where)
            for seed, generator in generators.items()
        }
        return torch.stack([drawn[i.row.evaluation_seed][i.k] for i in images]).to(device)

    return draw
