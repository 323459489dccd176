"""Thresholding of predicted clean latents, against the over-saturation of strong guidance."""


def append_dims(x, target_dims):
    """Append dimensions of size 1 to x until it has ``target_dims`` dimensions."""
    missing = target_dims - x.ndim
    if missing < 0:
        raise ValueError(f"input has {x.ndim} dims but target_dims is {target_dims}, which is less")
    return x[(...,) + (None,) * missing]


def _shrink(x, mean_square, value):
    rms = mean_square.sqrt().clamp(min=value)
    return x * (value / rms)


def norm_thresholding(x0, value):
    """Scale each item of x0 [B, ...] down to a root mean square of at most ``value``."""
    return _shrink(x0, append_dims(x0.pow(2).flatten(1).mean(1), x0.ndim), value)


def spatial_norm_thresholding(x0, value):
    """Scale each position of x0 [B, C, H, W] down to a root mean square over channels of at most ``value``."""
    return _shrink(x0, x0.pow(2).mean(1, keepdim=True), value)


def renorm_thresholding(x0, value):
    """Clamp each item of x0 [B, ...] to its own 95 % quantile of absolute values, rescaled to at most ``value``.

    The published function of this name used undefined names and never ran; this is dynamic thresholding as in
    Imagen (arXiv 2205.11487, section 2.3).
    """
    bound = append_dims(x0.flatten(1).abs().quantile(0.95, dim=1), x0.ndim).clamp(min=value)
    return x0.clamp(-bound, bound) / bound * value
