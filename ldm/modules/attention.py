"""Transformer blocks of the UNet: cross-attention, feed-forward, spatial transformer (CompVis names)."""

import math
from inspect import isfunction

import torch
import torch.nn.functional as F
from torch import nn

from ldm.modules.attention_backend import attention
from ldm.modules.diffusionmodules.util import checkpoint as run_checkpointed
from ldm.modules.diffusionmodules.util import zero_module

__all__ = [
    "BasicTransformerBlock",
    "CrossAttention",
    "CrossAttention2",
    "FeedForward",
    "GEGLU",
    "LinearAttention",
    "Normalize",
    "PixelLinear",
    "SpatialSelfAttention",
    "SpatialTransformer",
    "default",
    "exists",
    "init_",
    "max_neg_value",
    "uniq",
    "zero_module",
]


def exists(val):
    return val is not None


def uniq(arr):
    """Distinct items in order of first appearance."""
    return dict.fromkeys(arr).keys()


def default(val, d):
    if val is not None:
        return val
    return d() if isfunction(d) else d


def max_neg_value(t):
    return -torch.finfo(t.dtype).max


def init_(tensor):
    """Uniform initialisation in +-1/sqrt(last dimension), in place."""
    bound = 1 / math.sqrt(tensor.shape[-1])
    return tensor.uniform_(-bound, bound)


def Normalize(in_channels):
    """GroupNorm of the attention layers: 32 groups, eps 1e-6 (the UNet's other norms use 1e-5)."""
    return nn.GroupNorm(num_groups=32, num_channels=in_channels, eps=1e-6, affine=True)


class GEGLU(nn.Module):
    """Linear layer gated by an exact GELU (arXiv 2002.05202)."""

    def __init__(self, dim_in, dim_out):
        super().__init__()
        self.proj = nn.Linear(dim_in, dim_out * 2)

    def forward(self, x):
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    """Two-layer perceptron over the last dimension, GEGLU or GELU inside."""

    def __init__(self, dim, dim_out=None, mult=4, glu=False, dropout=0.0):
        super().__init__()
        inner = int(dim * mult)
        first = GEGLU(dim, inner) if glu else nn.Sequential(nn.Linear(dim, inner), nn.GELU())
        self.net = nn.Sequential(first, nn.Dropout(dropout), nn.Linear(inner, default(dim_out, dim)))

    def forward(self, x):
        return self.net(x)


class CrossAttention(nn.Module):
    """Multi-head attention from x [B, N, query_dim] to context [B, M, context_dim] (to itself without a context)."""

    def __init__(self, query_dim, context_dim=None, heads=8, dim_head=64, dropout=0.0):
        super().__init__()
        inner = heads * dim_head
        context_dim = default(context_dim, query_dim)
        self.heads = heads
        self.scale = dim_head**-0.5
        self.to_q = nn.Linear(query_dim, inner, bias=False)
        self.to_k = nn.Linear(context_dim, inner, bias=False)
        self.to_v = nn.Linear(context_dim, inner, bias=False)
        self.to_out = nn.Sequential(nn.Linear(inner, query_dim), nn.Dropout(dropout))

    def split_heads(self, t):
        """[B, N, heads * d] -> [B, heads, N, d]."""
        return t.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(self, x, context=None, mask=None):
        context = default(context, x)
        q, k, v = (self.split_heads(t) for t in (self.to_q(x), self.to_k(context), self.to_v(context)))
        if mask is not None:
            mask = mask.flatten(1)[:, None, None]
        out = attention(q, k, v, scale=self.scale, mask=mask)
        return self.to_out(out.transpose(1, 2).flatten(2))


class CrossAttention2(CrossAttention):
    """SepCE's cross-attention: weight shifts on to_k/to_v and the logits difference against a second context.

    ``add_params = (params, bases, index)``: 2N matrices [inner, n_base] (N for to_k, then N for to_v) and N bases
    [n_base, context_dim]. The original evaluated the shift on batch item 0 only; here every item gets its own.
    ``index`` is ignored, as published. With ``context2`` also returns scale * q (k(context) - k(context2))^T,
    [B * heads, N, M].
    """

    def forward(self, x, context=None, mask=None, add_params=None, context2=None):
        context = default(context, x)
        k, v = self.to_k(context), self.to_v(context)
        if add_params is not None:
            params, bases = add_params[0], add_params[1]
            for n, base in enumerate(bases):
                coordinates = context @ base.T
                k = k + coordinates @ params[n].T
                v = v + coordinates @ params[len(bases) + n].T
        q, k, v = (self.split_heads(t) for t in (self.to_q(x), k, v))
        mask = None if mask is None else mask.flatten(1)[:, None, None]
        out = self.to_out(attention(q, k, v, scale=self.scale, mask=mask).transpose(1, 2).flatten(2))
        if context2 is None:
            return out
        shift = k - self.split_heads(self.to_k(context2))
        return out, (q @ shift.transpose(-1, -2) * self.scale).flatten(0, 1)


class BasicTransformerBlock(nn.Module):
    """Self-attention, cross-attention and feed-forward, each pre-normalised and residual."""

    def __init__(
        self,
        dim,
        n_heads,
        d_head,
        dropout=0.0,
        context_dim=None,
        gated_ff=True,
        checkpoint=True,
        disable_self_attn=False,
    ):
        super().__init__()
        self.disable_self_attn = disable_self_attn
        self_context = context_dim if disable_self_attn else None
        self.attn1 = CrossAttention(dim, self_context, heads=n_heads, dim_head=d_head, dropout=dropout)
        self.ff = FeedForward(dim, dropout=dropout, glu=gated_ff)
        self.attn2 = CrossAttention(dim, context_dim, heads=n_heads, dim_head=d_head, dropout=dropout)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.norm3 = nn.LayerNorm(dim)
        self.checkpoint = checkpoint

    def forward(self, x, context=None):
        return run_checkpointed(self._forward, (x, context), (), self.checkpoint)

    def _forward(self, x, context=None):
        x = self.attn1(self.norm1(x), context if self.disable_self_attn else None) + x
        x = self.attn2(self.norm2(x), context) + x
        return self.ff(self.norm3(x)) + x


class PixelLinear(nn.Conv2d):
    """A 1x1 convolution of pixels given as [B, N, C]: a linear layer whose weight keeps the published shape [O, C, 1, 1]."""

    def __init__(self, in_channels, out_channels):
        super().__init__(in_channels, out_channels, kernel_size=1)

    def forward(self, x):
        return F.linear(x, self.weight.flatten(1), self.bias)


class SpatialTransformer(nn.Module):
    """Transformer over the pixels of x [B, C, H, W], conditioned on context [B, M, context_dim]."""

    def __init__(
        self,
        in_channels,
        n_heads,
        d_head,
        depth=1,
        dropout=0.0,
        context_dim=None,
        disable_self_attn=False,
        use_checkpoint=True,
    ):
        super().__init__()
        inner = n_heads * d_head
        self.in_channels = in_channels
        self.norm = Normalize(in_channels)
        self.proj_in = PixelLinear(in_channels, inner)
        self.transformer_blocks = nn.ModuleList(
            BasicTransformerBlock(
                inner,
                n_heads,
                d_head,
                dropout=dropout,
                context_dim=context_dim,
                checkpoint=use_checkpoint,
                disable_self_attn=disable_self_attn,
            )
            for _ in range(depth)
        )
        self.proj_out = zero_module(PixelLinear(inner, in_channels))

    def forward(self, x, context=None):
        height, width = x.shape[-2:]
        # Pixels last to first: a view, not a copy, when the activations are channels_last.
        h = self.proj_in(self.norm(x).permute(0, 2, 3, 1).flatten(1, 2))
        for block in self.transformer_blocks:
            h = block(h, context)
        h = self.proj_out(h).unflatten(1, (height, width)).permute(0, 3, 1, 2)
        return x + h  # in this order, for the sum to be laid out in memory as x is


class LinearAttention(nn.Module):
    """Attention without a softmax over pairs: keys normalised over positions (arXiv 1812.01243)."""

    def __init__(self, dim, heads=4, dim_head=32):
        super().__init__()
        self.heads = heads
        self.to_qkv = nn.Conv2d(dim, heads * dim_head * 3, 1, bias=False)
        self.to_out = nn.Conv2d(heads * dim_head, dim, 1)

    def forward(self, x):
        height, width = x.shape[-2:]
        q, k, v = self.to_qkv(x).flatten(2).unflatten(1, (3, self.heads, -1)).unbind(1)  # each [B, heads, d, N]
        context = torch.einsum("bhdn,bhen->bhde", k.softmax(dim=-1), v)
        out = torch.einsum("bhde,bhdn->bhen", context, q)
        return self.to_out(out.flatten(1, 2).unflatten(-1, (height, width)))


class SpatialSelfAttention(nn.Module):
    """Single-head self-attention over pixels with 1x1 convolutions, residual."""

    def __init__(self, in_channels):
        super().__init__()
        self.in_channels = in_channels
        self.norm = Normalize(in_channels)
        self.q = nn.Conv2d(in_channels, in_channels, 1)
        self.k = nn.Conv2d(in_channels, in_channels, 1)
        self.v = nn.Conv2d(in_channels, in_channels, 1)
        self.proj_out = nn.Conv2d(in_channels, in_channels, 1)

    def forward(self, x):
        h = self.norm(x)
        q, k, v = (conv(h).flatten(2).transpose(1, 2)[:, None] for conv in (self.q, self.k, self.v))
        out = attention(q, k, v)[:, 0].transpose(1, 2).unflatten(-1, x.shape[-2:])
        return x + self.proj_out(out)
