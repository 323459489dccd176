"""Convolutional encoder and decoder of the first-stage autoencoder (CompVis names)."""

import torch
import torch.nn.functional as F
from torch import nn

from ldm.modules.attention import LinearAttention, Normalize
from ldm.modules.attention_backend import attention

__all__ = ["AttnBlock", "Decoder", "Downsample", "Encoder", "Normalize", "ResnetBlock", "Upsample", "make_attn"]


def nonlinearity(x):
    """x * sigmoid(x)."""
    return F.silu(x)


class Upsample(nn.Module):
    """Nearest-neighbour doubling, then an optional 3x3 convolution."""

    def __init__(self, in_channels, with_conv):
        super().__init__()
        self.with_conv = with_conv
        if with_conv:
            self.conv = nn.Conv2d(in_channels, in_channels, 3, padding=1)

    def forward(self, x):
        x = F.interpolate(x, scale_factor=2.0, mode="nearest")
        return self.conv(x) if self.with_conv else x


class Downsample(nn.Module):
    """Halving: a strided 3x3 convolution padded right and below only, or average pooling."""

    def __init__(self, in_channels, with_conv):
        super().__init__()
        self.with_conv = with_conv
        if with_conv:
            self.conv = nn.Conv2d(in_channels, in_channels, 3, stride=2, padding=0)

    def forward(self, x):
        return self.conv(F.pad(x, (0, 1, 0, 1))) if self.with_conv else F.avg_pool2d(x, 2)


class ResnetBlock(nn.Module):
    """Two normalised 3x3 convolutions with a shortcut; ``temb`` [B, temb_channels] is added in between."""

    def __init__(self, *, in_channels, out_channels=None, conv_shortcut=False, dropout, temb_channels=512):
        super().__init__()
        out_channels = out_channels or in_channels
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.use_conv_shortcut = conv_shortcut
        self.norm1 = Normalize(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        if temb_channels > 0:
            self.temb_proj = nn.Linear(temb_channels, out_channels)
        self.norm2 = Normalize(out_channels)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        if in_channels != out_channels:
            if conv_shortcut:
                self.conv_shortcut = nn.Conv2d(in_channels, out_channels, 3, padding=1)
            else:
                self.nin_shortcut = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x, temb=None):
        h = self.conv1(nonlinearity(self.norm1(x)))
        if temb is not None:
            h = h + self.temb_proj(nonlinearity(temb))[:, :, None, None]
        h = self.conv2(self.dropout(nonlinearity(self.norm2(h))))
        if self.in_channels != self.out_channels:
            x = self.conv_shortcut(x) if self.use_conv_shortcut else self.nin_shortcut(x)
        return x + h


class AttnBlock(nn.Module):
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
        h = attention(q, k, v)[:, 0].transpose(1, 2).unflatten(-1, x.shape[-2:])
        return x + self.proj_out(h)


class LinAttnBlock(LinearAttention):
    """Linear attention with one head as wide as the input."""

    def __init__(self, in_channels):
        super().__init__(dim=in_channels, heads=1, dim_head=in_channels)


def make_attn(in_channels, attn_type="vanilla"):
    """The attention layer of a given type: ``vanilla``, ``linear`` or ``none``."""
    types = {"vanilla": AttnBlock, "linear": LinAttnBlock, "none": nn.Identity}
    if attn_type not in types:
        raise ValueError(f"attn_type {attn_type} unknown")
    return types[attn_type](in_channels)


def _middle(channels, dropout, attn_type):
    mid = nn.Module()
    mid.block_1 = ResnetBlock(in_channels=channels, dropout=dropout, temb_channels=0)
    mid.attn_1 = make_attn(channels, attn_type)
    mid.block_2 = ResnetBlock(in_channels=channels, dropout=dropout, temb_channels=0)
    return mid


def _level(channels_in, channels_out, blocks, with_attention, dropout, attn_type):
    level = nn.Module()
    level.block = nn.ModuleList(
        ResnetBlock(
            in_channels=channels_in if i == 0 else channels_out,
            out_channels=channels_out,
            dropout=dropout,
            temb_channels=0,
        )
        for i in range(blocks)
    )
    level.attn = nn.ModuleList(make_attn(channels_out, attn_type) for _ in range(blocks if with_attention else 0))
    return level


def _run_level(level, h):
    for i, block in enumerate(level.block):
        h = block(h)
        if len(level.attn):
            h = level.attn[i](h)
    return h


class Encoder(nn.Module):
    """Images [B, in_channels, H, W] -> [B, 2 * z_channels (or z_channels), H / f, W / f], f = 2 ** (levels - 1)."""

    def __init__(
        self,
        *,
        ch,
        out_ch,
        ch_mult=(1, 2, 4, 8),
        num_res_blocks,
        attn_resolutions,
        dropout=0.0,
        resamp_with_conv=True,
        in_channels,
        resolution,
        z_channels,
        double_z=True,
        use_linear_attn=False,
        attn_type="vanilla",
        **ignored_keys,  # the decoder's: both get the same ddconfig
    ):
        super().__init__()
        attn_type = "linear" if use_linear_attn else attn_type
        widths = [ch * mult for mult in ch_mult]
        self.conv_in = nn.Conv2d(in_channels, ch, 3, padding=1)
        self.down = nn.ModuleList()
        for i, width in enumerate(widths):
            before = ch if i == 0 else widths[i - 1]
            attends = resolution // 2**i in attn_resolutions
            level = _level(before, width, num_res_blocks, attends, dropout, attn_type)
            if i != len(widths) - 1:
                level.downsample = Downsample(width, resamp_with_conv)
            self.down.append(level)
        self.mid = _middle(widths[-1], dropout, attn_type)
        self.norm_out = Normalize(widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], 2 * z_channels if double_z else z_channels, 3, padding=1)

    def forward(self, x):
        h = self.conv_in(x.contiguous(memory_format=torch.channels_last))
        for level in self.down:
            h = _run_level(level, h)
            if hasattr(level, "downsample"):
                h = level.downsample(h)
        h = self.mid.block_2(self.mid.attn_1(self.mid.block_1(h)))
        return self.conv_out(nonlinearity(self.norm_out(h)))


class Decoder(nn.Module):
    """Latents [B, z_channels, h, w] -> images [B, out_ch, h * f, w * f]; ``up[i]`` is level i of the encoder."""

    def __init__(
        self,
        *,
        ch,
        out_ch,
        ch_mult=(1, 2, 4, 8),
        num_res_blocks,
        attn_resolutions,
        dropout=0.0,
        resamp_with_conv=True,
        in_channels,
        resolution,
        z_channels,
        give_pre_end=False,
        tanh_out=False,
        use_linear_attn=False,
        attn_type="vanilla",
        **ignored_keys,  # the encoder's: both get the same ddconfig
    ):
        super().__init__()
        attn_type = "linear" if use_linear_attn else attn_type
        widths = [ch * mult for mult in ch_mult]
        self.give_pre_end = give_pre_end
        self.tanh_out = tanh_out
        self.conv_in = nn.Conv2d(z_channels, widths[-1], 3, padding=1)
        self.mid = _middle(widths[-1], dropout, attn_type)
        levels = []
        for i in reversed(range(len(widths))):
            before = widths[min(i + 1, len(widths) - 1)]
            attends = resolution // 2**i in attn_resolutions
            level = _level(before, widths[i], num_res_blocks + 1, attends, dropout, attn_type)
            if i:
                level.upsample = Upsample(widths[i], resamp_with_conv)
            levels.insert(0, level)
        self.up = nn.ModuleList(levels)
        self.norm_out = Normalize(widths[0])
        self.conv_out = nn.Conv2d(widths[0], out_ch, 3, padding=1)

    def forward(self, z):
        h = self.conv_in(z.contiguous(memory_format=torch.channels_last))
        h = self.mid.block_2(self.mid.attn_1(self.mid.block_1(h)))
        for level in reversed(self.up):
            h = _run_level(level, h)
            if hasattr(level, "upsample"):
                h = level.upsample(h)
        if self.give_pre_end:
            return h
        h = self.conv_out(nonlinearity(self.norm_out(h)))
        return torch.tanh(h) if self.tanh_out else h
