"""Shifts of the cross-attention's key and value projections, attached to an unchanged UNet (SepCE, arXiv 2402.05947).

For every concept n a layer's weight W [C, D] becomes W + A_n B_n, with A_n [C, n_base] trained and B_n [n_base, D] fixed
and shared by all layers. SepCE's own files passed these matrices through every forward of a forked UNet and read batch
item 0 only; here they are hooks on the projections, right for any batch.
"""

import contextlib

import torch


def cross_attentions(unet):
    """Name -> module of the cross-attention layers (``attn2``), in the order of the UNet's parameters."""
    return {name: module for name, module in unet.named_modules() if name.rpartition(".")[2] == "attn2"}


def _projections(unet):
    return [projection for layer in cross_attentions(unet).values() for projection in (layer.to_k, layer.to_v)]


def _shifts(unet, params, bases):
    """(projection, its concepts' matrices) of a flat list: per layer all of to_k, then all of to_v."""
    projections, concepts = _projections(unet), len(bases)
    if len(params) != len(projections) * concepts:
        raise ValueError(
            f"{len(projections)} projections and {concepts} bases need {len(projections) * concepts} matrices"
        )
    return [(p, params[i * concepts : (i + 1) * concepts]) for i, p in enumerate(projections)]


@contextlib.contextmanager
def shifted(unet, params, bases):
    """Run the UNet with to_k/to_v of every cross-attention shifted by sum_n A_n B_n; differentiable in ``params``.

    params: flat list of [C, n_base], for each layer those of to_k by concept, then those of to_v; bases: list of
    [n_base, D].
    """

    def hook(own):
        def add(_, inputs, out):
            for matrix, base in zip(own, bases, strict=True):
                out = out + (inputs[0] @ base.T) @ matrix.T
            return out

        return add

    handles = [projection.register_forward_hook(hook(own)) for projection, own in _shifts(unet, params, bases)]
    try:
        yield unet
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def merge(unet, params, bases):
    """Add the shifts to the weights for good; the outputs equal those under ``shifted``."""
    for projection, own in _shifts(unet, params, bases):
        for matrix, base in zip(own, bases, strict=True):
            projection.weight += (matrix @ base).to(projection.weight)


@contextlib.contextmanager
def logit_differences(unet, context2):
    """Yield a dict that each forward fills with layer name -> scale * q (k(context) - k(context2))^T.

    context2: [B, M, D] like the context of the forward; values [B * heads, N, M].
    """
    found = {}

    def hook(name):
        def record(layer, inputs, _):
            x, context = inputs
            q = layer.split_heads(layer.to_q(x))
            k = layer.split_heads(layer.to_k(context - context2))  # the projection is linear
            found[name] = (q @ k.transpose(-1, -2) * layer.scale).flatten(0, 1)

        return record

    handles = [layer.register_forward_hook(hook(name)) for name, layer in cross_attentions(unet).items()]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
