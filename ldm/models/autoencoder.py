"""First-stage models: the KL autoencoder of Stable Diffusion, its vector-quantised relatives and the identity."""

import contextlib

from torch import nn

from ldm.loading import init_from_ckpt
from ldm.modules.diffusionmodules.model import Decoder, Encoder
from ldm.modules.distributions.distributions import DiagonalGaussianDistribution
from ldm.modules.ema import LitEma
from ldm.modules.quantize import VectorQuantizer2
from ldm.util import instantiate_from_config


class AutoencoderKL(nn.Module):
    """Images [B, 3, H, W] in [-1, 1] <-> latents [B, embed_dim, H / 8, W / 8] (arXiv 2112.10752, section 3.1)."""

    def __init__(
        self,
        ddconfig,
        lossconfig=None,
        embed_dim=4,
        ckpt_path=None,
        ignore_keys=(),
        image_key="image",
        colorize_nlabels=None,
        monitor=None,
    ):
        super().__init__()
        if not ddconfig["double_z"]:
            raise ValueError("AutoencoderKL needs ddconfig.double_z")
        self.image_key = image_key
        self.embed_dim = embed_dim
        self.encoder = Encoder(**ddconfig)
        self.decoder = Decoder(**ddconfig)
        self.loss = instantiate_from_config(lossconfig) if lossconfig else nn.Identity()
        self.quant_conv = nn.Conv2d(2 * ddconfig["z_channels"], 2 * embed_dim, 1)
        self.post_quant_conv = nn.Conv2d(embed_dim, ddconfig["z_channels"], 1)
        if monitor is not None:
            self.monitor = monitor
        if ckpt_path is not None:
            init_from_ckpt(self, ckpt_path, ignore_keys)

    def encode(self, x):
        """The posterior of the latents, a DiagonalGaussianDistribution."""
        return DiagonalGaussianDistribution(self.quant_conv(self.encoder(x)))

    def decode(self, z):
        """Images for latents z."""
        return self.decoder(self.post_quant_conv(z))

    def forward(self, input, sample_posterior=True):
        """(reconstruction, posterior)."""
        posterior = self.encode(input)
        return self.decode(posterior.sample() if sample_posterior else posterior.mode()), posterior

    def get_last_layer(self):
        return self.decoder.conv_out.weight


class VQModel(nn.Module):
    """Autoencoder with a codebook of ``n_embed`` latent vectors (arXiv 2012.09841).

    Training options of the published class (batch_resize_range, scheduler_config, lr_g_factor) are not supported.
    """

    def __init__(
        self,
        ddconfig,
        lossconfig=None,
        n_embed=1024,
        embed_dim=3,
        ckpt_path=None,
        ignore_keys=(),
        image_key="image",
        colorize_nlabels=None,
        monitor=None,
        remap=None,
        sane_index_shape=False,
        use_ema=False,
    ):
        super().__init__()
        self.embed_dim = embed_dim
        self.n_embed = n_embed
        self.image_key = image_key
        self.encoder = Encoder(**ddconfig)
        self.decoder = Decoder(**ddconfig)
        self.loss = instantiate_from_config(lossconfig) if lossconfig else nn.Identity()
        self.quantize = VectorQuantizer2(n_embed, embed_dim, 0.25, remap=remap, sane_index_shape=sane_index_shape)
        self.quant_conv = nn.Conv2d(ddconfig["z_channels"], embed_dim, 1)
        self.post_quant_conv = nn.Conv2d(embed_dim, ddconfig["z_channels"], 1)
        if monitor is not None:
            self.monitor = monitor
        self.use_ema = use_ema
        if use_ema:
            self.model_ema = LitEma(self)
        if ckpt_path is not None:
            init_from_ckpt(self, ckpt_path, ignore_keys)

    @contextlib.contextmanager
    def ema_scope(self, context=None):
        """Run with the averaged weights (a no-op for a model without EMA)."""
        if self.use_ema:
            self.model_ema.store(self.parameters())
            self.model_ema.copy_to(self)
        try:
            yield
        finally:
            if self.use_ema:
                self.model_ema.restore(self.parameters())

    def encode_to_prequant(self, x):
        """Latents [B, embed_dim, h, w] before quantisation."""
        return self.quant_conv(self.encoder(x))

    def encode(self, x):
        """(quantised latents, codebook loss, (None, None, indices))."""
        return self.quantize(self.encode_to_prequant(x))

    def _decode_quantised(self, quant):
        return self.decoder(self.post_quant_conv(quant))

    def decode(self, quant):
        """Images of quantised latents."""
        return self._decode_quantised(quant)

    def decode_code(self, code_b):
        """Images of code indices [B, h, w]."""
        codes = self.quantize.get_codebook_entry(code_b, (*code_b.shape, self.embed_dim))
        return self._decode_quantised(codes)

    def forward(self, input, return_pred_indices=False):
        """(reconstruction, codebook loss[, indices])."""
        quant, loss, (_, _, indices) = self.quantize(self.encode_to_prequant(input))
        out = self._decode_quantised(quant)
        return (out, loss, indices) if return_pred_indices else (out, loss)

    def get_last_layer(self):
        return self.decoder.conv_out.weight


class VQModelInterface(VQModel):
    """The same as a first stage: diffusion sees latents before quantisation, ``decode`` quantises them."""

    def encode(self, x):
        """Latents [B, embed_dim, h, w] before quantisation."""
        return self.encode_to_prequant(x)

    def decode(self, h, force_not_quantize=False):
        """Images of latents, which are replaced by their nearest codes first unless ``force_not_quantize``."""
        return self._decode_quantised(h if force_not_quantize else self.quantize(h)[0])


class IdentityFirstStage(nn.Module):
    """A first stage that leaves images as they are."""

    def __init__(self, *args, vq_interface=False, **kwargs):
        super().__init__()
        self.vq_interface = vq_interface

    def encode(self, x, *args, **kwargs):
        return x

    def decode(self, x, *args, **kwargs):
        return x

    def quantize(self, x, *args, **kwargs):
        return (x, None, [None, None, None]) if self.vq_interface else x

    def forward(self, x, *args, **kwargs):
        return x
