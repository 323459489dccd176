"""Multi-head attention with three interchangeable back ends.

``sdpa`` (default) is PyTorch's fused kernel, ``xformers`` its memory-efficient peer (GPU builds), ``einsum`` the plain
formula that the other two are tested against. ``set_backend`` switches the whole process.
"""

import contextlib

import torch
import torch.nn.functional as F

BACKENDS = ("sdpa", "xformers", "einsum")
_active = "sdpa"


def set_backend(name):
    """Select the attention back end for every layer; raises ValueError for an unknown or unusable one."""
    global _active
    if name not in BACKENDS:
        raise ValueError(f"unknown attention back end '{name}': choose from {', '.join(BACKENDS)}")
    if name == "xformers" and not xformers_available():
        raise ValueError("xformers is not installed or has no attention kernel for this machine")
    _active = name


def get_backend():
    """Name of the back end in use."""
    return _active


@contextlib.contextmanager
def backend(name):
    """Use a back end inside a ``with`` block."""
    previous = get_backend()
    set_backend(name)
    try:
        yield
    finally:
        set_backend(previous)


def xformers_available():
    """Whether xformers can be imported and a CUDA device is there for its kernels."""
    if not torch.cuda.is_available():
        return False
    try:
        import xformers.ops  # noqa: F401
    except Exception:  # an incompatible build fails in many ways; any of them means "not usable"
        return False
    return True


def attention(q, k, v, scale=None, mask=None, is_causal=False):
    """softmax(q k^T * scale) v.

    q: [B, heads, N, d]; k, v: [B, heads, M, d]; mask: boolean, True = keep, broadcastable to [B, heads, N, M];
    ``scale`` defaults to d ** -0.5. Returns [B, heads, N, d].
    """
    if _active == "einsum":
        return _einsum(q, k, v, scale, mask, is_causal)
    if _active == "xformers" and mask is None and not is_causal and q.is_cuda:
        import xformers.ops

        q, k, v = (t.transpose(1, 2) for t in (q, k, v))
        return xformers.ops.memory_efficient_attention(q, k, v, scale=scale).transpose(1, 2)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=is_causal, scale=scale)


def _einsum(q, k, v, scale, mask, is_causal):
    scores = torch.einsum("bhid,bhjd->bhij", q, k) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if is_causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).tril()
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.finfo(scores.dtype).max)
    return torch.einsum("bhij,bhjd->bhid", scores.softmax(dim=-1), v)
