"""Whether a model can be trained on what it is given."""

from erasure.errors import UserError

_PIXELS = 8  # a side of a latent's pixel


def check_image_size(model, image_size: int) -> None:
    """UserError for a side in pixels whose latent the UNet of a LatentDiffusion cannot halve as often as it does."""
    multiple = _PIXELS * 2 ** (len(model.model.diffusion_model.channel_mult) - 1)
    if image_size % multiple:
        raise UserError(f"image_size must be a multiple of {multiple} for this model, not {image_size}")
