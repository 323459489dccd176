"""Vector quantisation of latents (arXiv 1711.00937), with the interface of taming-transformers' VectorQuantizer2."""

import numpy as np
import torch
from torch import nn


class VectorQuantizer2(nn.Module):
    """Replaces every latent vector by the nearest of ``n_e`` codes of width ``e_dim``.

    ``legacy`` keeps the published loss, whose weight ``beta`` sits on the codebook's term instead of the commitment's.
    ``remap`` names a .npy file of the codes in use: indices are then positions in it, and an index outside becomes
    ``unknown_index`` ("random", "extra" for one more, or a number). ``sane_index_shape`` gives indices [B, H, W].
    """

    def __init__(self, n_e, e_dim, beta, remap=None, unknown_index="random", sane_index_shape=False, legacy=True):
        super().__init__()
        self.n_e, self.e_dim, self.beta = n_e, e_dim, beta
        self.legacy = legacy
        self.sane_index_shape = sane_index_shape
        self.embedding = nn.Embedding(n_e, e_dim)
        nn.init.uniform_(self.embedding.weight, -1.0 / n_e, 1.0 / n_e)
        self.remap = remap
        self.unknown_index = unknown_index
        self.re_embed = n_e
        if remap is not None:
            self.register_buffer("used", torch.from_numpy(np.load(remap)).long())
            self.re_embed = len(self.used)
            if unknown_index == "extra":
                self.unknown_index = self.re_embed
                self.re_embed += 1

    def forward(self, z, temp=None, rescale_logits=False, return_logits=False):
        """z [B, e_dim, H, W] -> (quantised z with straight-through gradients, loss, (None, None, indices)).

        indices: [B * H * W], or [B, H, W] with ``sane_index_shape``. The other arguments belong to an interface shared
        with sampling quantisers and must keep their defaults.
        """
        if temp not in (None, 1.0) or rescale_logits or return_logits:
            raise ValueError("a nearest-code quantiser has no temperature and no logits")
        channels_last = z.permute(0, 2, 3, 1)
        indices = self._nearest(channels_last.reshape(-1, self.e_dim))
        codes = self.embedding(indices).reshape(channels_last.shape).permute(0, 3, 1, 2)
        commitment = (codes.detach() - z).square().mean()
        codebook = (codes - z.detach()).square().mean()
        loss = commitment + self.beta * codebook if self.legacy else self.beta * commitment + codebook
        quantised = z + (codes - z).detach()
        if self.remap is not None:
            indices = self.remap_to_used(indices.reshape(z.shape[0], -1)).flatten()
        if self.sane_index_shape:
            indices = indices.reshape(z.shape[0], *z.shape[2:])
        return quantised, loss, (None, None, indices)

    def _nearest(self, flat):
        codes = self.embedding.weight
        distances = flat.square().sum(dim=1, keepdim=True) + codes.square().sum(dim=1) - 2 * flat @ codes.T
        return distances.argmin(dim=1)

    def remap_to_used(self, indices):
        """Codebook indices [B, ...] as positions among the codes in use."""
        match = indices[..., None] == self.used
        positions, known = match.int().argmax(-1), match.any(-1)
        if self.unknown_index == "random":
            unknown = torch.randint(0, self.re_embed, positions.shape, device=positions.device)
        else:
            unknown = torch.full_like(positions, self.unknown_index)
        return torch.where(known, positions, unknown)

    def unmap_to_all(self, positions):
        """The way back; a position past the codes in use (``extra``) becomes the first of them."""
        return self.used[torch.where(positions < len(self.used), positions, 0)]

    def get_codebook_entry(self, indices, shape):
        """Codes of the given indices; with ``shape`` = (B, H, W, C) as [B, C, H, W], else [n, C]."""
        if self.remap is not None:
            indices = self.unmap_to_all(indices)
        codes = self.embedding(indices.reshape(-1))
        return codes if shape is None else codes.reshape(shape).permute(0, 3, 1, 2).contiguous()
