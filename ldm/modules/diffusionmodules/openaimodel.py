"""The UNet of latent diffusion models (CompVis layout and parameter names)."""

from abc import abstractmethod

import torch
import torch.nn.functional as F
from torch import nn

from ldm.modules.attention import SpatialTransformer
from ldm.modules.attention_backend import attention
from ldm.modules.diffusionmodules.util import (
    avg_pool_nd,
    checkpoint,
    conv_nd,
    linear,
    normalization,
    timestep_embedding,
    zero_module,
)


def convert_module_to_f16(x):
    """Published no-op; use ``module.half()``."""


def convert_module_to_f32(x):
    """Published no-op; use ``module.float()``."""


class TimestepBlock(nn.Module):
    """A module whose forward takes the timestep embedding as second argument."""

    @abstractmethod
    def forward(self, x, emb):
        """Apply the module to x [B, C, H, W] given emb [B, emb_channels]."""


class TimestepEmbedSequential(nn.Sequential, TimestepBlock):
    """Hands each child what it takes: the timestep embedding, the text context, or neither."""

    def forward(self, x, emb, context=None):
        for layer in self:
            if isinstance(layer, TimestepBlock):
                x = layer(x, emb)
            elif isinstance(layer, SpatialTransformer):
                x = layer(x, context)
            else:
                x = layer(x)
        return x


class Upsample(nn.Module):
    """Nearest-neighbour doubling (of H and W only for 3-d inputs), then an optional 3x3 convolution."""

    def __init__(self, channels, use_conv, dims=2, out_channels=None, padding=1):
        super().__init__()
        self.channels = channels
        self.out_channels = out_channels or channels
        self.use_conv = use_conv
        self.dims = dims
        if use_conv:
            self.conv = conv_nd(dims, channels, self.out_channels, 3, padding=padding)

    def forward(self, x):
        scale = (1, 2, 2) if self.dims == 3 else 2
        x = F.interpolate(x, scale_factor=scale, mode="nearest")
        return self.conv(x) if self.use_conv else x


class TransposedUpsample(nn.Module):
    """Learned doubling by a transposed convolution, without padding."""

    def __init__(self, channels, out_channels=None, ks=5):
        super().__init__()
        self.channels = channels
        self.out_channels = out_channels or channels
        self.up = nn.ConvTranspose2d(channels, self.out_channels, kernel_size=ks, stride=2)

    def forward(self, x):
        return self.up(x)


class Downsample(nn.Module):
    """Halving by a strided 3x3 convolution or by average pooling (parameters under ``op``)."""

    def __init__(self, channels, use_conv, dims=2, out_channels=None, padding=1):
        super().__init__()
        self.channels = channels
        self.out_channels = out_channels or channels
        stride = (1, 2, 2) if dims == 3 else 2
        if use_conv:
            self.op = conv_nd(dims, channels, self.out_channels, 3, stride=stride, padding=padding)
        else:
            if self.out_channels != channels:
                raise ValueError("pooling cannot change the number of channels")
            self.op = avg_pool_nd(dims, kernel_size=stride, stride=stride)

    def forward(self, x):
        return self.op(x)


class ResBlock(TimestepBlock):
    """Residual block with the timestep added to (or scaling and shifting) its hidden activations."""

    def __init__(
        self,
        channels,
        emb_channels,
        dropout,
        out_channels=None,
        use_conv=False,
        use_scale_shift_norm=False,
        dims=2,
        use_checkpoint=False,
        up=False,
        down=False,
    ):
        super().__init__()
        out_channels = out_channels or channels
        self.channels = channels
        self.out_channels = out_channels
        self.use_scale_shift_norm = use_scale_shift_norm
        self.use_checkpoint = use_checkpoint
        self.updown = up or down
        self.in_layers = nn.Sequential(
            normalization(channels), nn.SiLU(), conv_nd(dims, channels, out_channels, 3, padding=1)
        )
        resample = Upsample if up else Downsample if down else None
        self.h_upd = resample(channels, False, dims) if resample else nn.Identity()
        self.x_upd = resample(channels, False, dims) if resample else nn.Identity()
        self.emb_layers = nn.Sequential(
            nn.SiLU(), linear(emb_channels, 2 * out_channels if use_scale_shift_norm else out_channels)
        )
        self.out_layers = nn.Sequential(
            normalization(out_channels),
            nn.SiLU(),
            nn.Dropout(p=dropout),
            zero_module(conv_nd(dims, out_channels, out_channels, 3, padding=1)),
        )
        if out_channels == channels:
            self.skip_connection = nn.Identity()
        elif use_conv:
            self.skip_connection = conv_nd(dims, channels, out_channels, 3, padding=1)
        else:
            self.skip_connection = conv_nd(dims, channels, out_channels, 1)

    def forward(self, x, emb):
        return checkpoint(self._forward, (x, emb), (), self.use_checkpoint)

    def _forward(self, x, emb):
        norm, activation, conv = self.in_layers
        h = conv(self.h_upd(activation(norm(x))))
        x = self.x_upd(x)
        e = self.emb_layers(emb).to(h.dtype)
        e = e.reshape(*e.shape, *((1,) * (h.ndim - 2)))
        if self.use_scale_shift_norm:
            norm, *rest = self.out_layers
            scale, shift = e.chunk(2, dim=1)
            h = norm(h) * (1 + scale) + shift
            for layer in rest:
                h = layer(h)
        else:
            h = self.out_layers(h + e)
        return self.skip_connection(x) + h


class AttentionBlock(nn.Module):
    """Self-attention over pixels, used where the model has no text transformer."""

    def __init__(
        self, channels, num_heads=1, num_head_channels=-1, use_checkpoint=False, use_new_attention_order=False
    ):
        super().__init__()
        if num_head_channels != -1 and channels % num_head_channels:
            raise ValueError(f"{channels} channels cannot be split into heads of {num_head_channels}")
        self.channels = channels
        self.num_heads = num_heads if num_head_channels == -1 else channels // num_head_channels
        self.use_checkpoint = use_checkpoint
        self.norm = normalization(channels)
        self.qkv = conv_nd(1, channels, channels * 3, 1)
        self.attention = (QKVAttention if use_new_attention_order else QKVAttentionLegacy)(self.num_heads)
        self.proj_out = zero_module(conv_nd(1, channels, channels, 1))

    def forward(self, x):
        return checkpoint(self._forward, (x,), (), self.use_checkpoint)

    def _forward(self, x):
        flat = x.flatten(2)
        h = self.proj_out(self.attention(self.qkv(self.norm(flat))))
        return (flat + h).unflatten(2, x.shape[2:])


class _QKVAttention(nn.Module):
    def __init__(self, n_heads):
        super().__init__()
        self.n_heads = n_heads

    def attend(self, q, k, v):
        """q, k, v [B, heads, d, N] -> [B, heads * d, N]."""
        out = attention(*(t.transpose(-1, -2) for t in (q, k, v)))
        return out.transpose(-1, -2).flatten(1, 2)


class QKVAttentionLegacy(_QKVAttention):
    """Attention over qkv [B, heads * 3 * d, N], split into heads first."""

    def forward(self, qkv):
        return self.attend(*qkv.unflatten(1, (self.n_heads, 3, -1)).unbind(2))


class QKVAttention(_QKVAttention):
    """Attention over qkv [B, 3 * heads * d, N], split into q, k, v first."""

    def forward(self, qkv):
        return self.attend(*qkv.unflatten(1, (3, self.n_heads, -1)).unbind(1))


class UNetModel(nn.Module):
    """Denoising UNet with timestep, text (``context``) and optional class conditioning.

    x [B, in_channels, H, W] with H, W divisible by 2 ** (levels - 1); timesteps [B], whole or fractional;
    context [B, M, context_dim]; y [B] class indices. Returns [B, out_channels, H, W].

    ``attention_resolutions`` are downsampling factors. Differences from the published class: half precision works
    (everything is cast to the weights' dtype), ``use_checkpoint`` governs the transformer blocks too, and unknown
    forward arguments are errors.
    """

    def __init__(
        self,
        image_size,
        in_channels,
        model_channels,
        out_channels,
        num_res_blocks,
        attention_resolutions,
        dropout=0,
        channel_mult=(1, 2, 4, 8),
        conv_resample=True,
        dims=2,
        num_classes=None,
        use_checkpoint=False,
        use_fp16=False,
        num_heads=-1,
        num_head_channels=-1,
        num_heads_upsample=-1,
        use_scale_shift_norm=False,
        resblock_updown=False,
        use_new_attention_order=False,
        use_spatial_transformer=False,
        transformer_depth=1,
        context_dim=None,
        n_embed=None,
        legacy=True,
        disable_self_attentions=None,
        num_attention_blocks=None,
    ):
        super().__init__()
        if use_spatial_transformer != (context_dim is not None):
            raise ValueError("use_spatial_transformer and context_dim go together")
        if num_heads == -1 and num_head_channels == -1:
            raise ValueError("either num_heads or num_head_channels has to be set")
        if n_embed is not None:
            raise ValueError("predicting codebook indices (n_embed) is not supported")
        if context_dim is not None and not isinstance(context_dim, int):
            context_dim = list(context_dim)
        levels = len(channel_mult)
        self.image_size = image_size
        self.in_channels = in_channels
        self.model_channels = model_channels
        self.out_channels = out_channels
        self.num_res_blocks = [num_res_blocks] * levels if isinstance(num_res_blocks, int) else list(num_res_blocks)
        self.attention_resolutions = tuple(attention_resolutions)
        self.channel_mult = tuple(channel_mult)
        self.num_classes = num_classes
        self.use_checkpoint = use_checkpoint
        self.num_heads = num_heads
        self.num_head_channels = num_head_channels
        self.num_heads_upsample = num_heads if num_heads_upsample == -1 else num_heads_upsample
        self.predict_codebook_ids = False
        self.dim_heads = []
        if len(self.num_res_blocks) != levels:
            raise ValueError("num_res_blocks has to be one number or one per level of channel_mult")

        emb = model_channels * 4
        self.time_embed = nn.Sequential(linear(model_channels, emb), nn.SiLU(), linear(emb, emb))
        if num_classes is not None:
            self.label_emb = nn.Embedding(num_classes, emb)

        heads = num_heads

        def make_attention(channels, level, upsampling=False):
            # As published, a head count derived from num_head_channels stays in force for the levels that follow.
            nonlocal heads
            if num_head_channels != -1:
                heads = channels // num_head_channels
            dim_head = channels // heads if num_head_channels == -1 else num_head_channels
            if legacy:
                dim_head = channels // heads if use_spatial_transformer else num_head_channels
            self.dim_heads.append(dim_head)
            if not use_spatial_transformer:
                return AttentionBlock(
                    channels,
                    num_heads=self.num_heads_upsample if upsampling else heads,
                    num_head_channels=dim_head,
                    use_checkpoint=use_checkpoint,
                    use_new_attention_order=use_new_attention_order,
                )
            return SpatialTransformer(
                channels,
                heads,
                dim_head,
                depth=transformer_depth,
                context_dim=context_dim,
                disable_self_attn=bool(
                    level is not None and disable_self_attentions and disable_self_attentions[level]
                ),
                use_checkpoint=use_checkpoint,
            )

        def make_res(channels, out=None, **resample):
            return ResBlock(
                channels,
                emb,
                dropout,
                out_channels=out,
                dims=dims,
                use_checkpoint=use_checkpoint,
                use_scale_shift_norm=use_scale_shift_norm,
                **resample,
            )

        def has_attention(level, index, factor):
            allowed = num_attention_blocks is None or index < num_attention_blocks[level]
            return allowed and factor in self.attention_resolutions

        self.input_blocks = nn.ModuleList(
            [TimestepEmbedSequential(conv_nd(dims, in_channels, model_channels, 3, padding=1))]
        )
        skips, ch, factor = [model_channels], model_channels, 1
        for level, mult in enumerate(self.channel_mult):
            for index in range(self.num_res_blocks[level]):
                layers = [make_res(ch, mult * model_channels)]
                ch = mult * model_channels
                if has_attention(level, index, factor):
                    layers.append(make_attention(ch, level))
                self.input_blocks.append(TimestepEmbedSequential(*layers))
                skips.append(ch)
            if level != levels - 1:
                down = make_res(ch, ch, down=True) if resblock_updown else Downsample(ch, conv_resample, dims, ch)
                self.input_blocks.append(TimestepEmbedSequential(down))
                skips.append(ch)
                factor *= 2

        self.middle_block = TimestepEmbedSequential(make_res(ch), make_attention(ch, None), make_res(ch))

        self.output_blocks = nn.ModuleList()
        for level, mult in reversed(list(enumerate(self.channel_mult))):
            for index in range(self.num_res_blocks[level] + 1):
                layers = [make_res(ch + skips.pop(), mult * model_channels)]
                ch = mult * model_channels
                if has_attention(level, index, factor):
                    layers.append(make_attention(ch, level, upsampling=True))
                if level and index == self.num_res_blocks[level]:
                    layers.append(
                        make_res(ch, ch, up=True) if resblock_updown else Upsample(ch, conv_resample, dims, ch)
                    )
                    factor //= 2
                self.output_blocks.append(TimestepEmbedSequential(*layers))

        self.out = nn.Sequential(
            normalization(ch), nn.SiLU(), zero_module(conv_nd(dims, model_channels, out_channels, 3, padding=1))
        )
        if use_fp16:
            self.half()

    @property
    def dtype(self):
        """dtype of the weights, to which inputs are cast."""
        return self.time_embed[0].weight.dtype

    def convert_to_fp16(self):
        self.half()

    def convert_to_fp32(self):
        self.float()

    def forward(self, x, timesteps=None, context=None, y=None):
        if (y is not None) != (self.num_classes is not None):
            raise ValueError("must specify y if and only if the model is class-conditional")
        emb = self.time_embed(timestep_embedding(timesteps, self.model_channels).to(self.dtype))
        if self.num_classes is not None:
            emb = emb + self.label_emb(y)
        if context is not None:
            context = context.to(self.dtype)
        h = x.to(self.dtype)
        if h.ndim == 4 and (h.device.type != "cpu" or h.dtype != torch.float32):
            # Convolutions are faster channels_last (several times, in bfloat16 on a CPU) and attention needs no copies;
            # not so in float32 on a CPU, where layouts are even and the backward pass is slower.
            h = h.contiguous(memory_format=torch.channels_last)
        skips = []
        for block in self.input_blocks:
            h = block(h, emb, context)
            skips.append(h)
        h = self.middle_block(h, emb, context)
        for block in self.output_blocks:
            h = block(torch.cat([h, skips.pop()], dim=1), emb, context)
        return self.out(h).to(x.dtype)
