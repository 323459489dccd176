"""Shifts of the cross-attention's key and value projections, attached to an unchanged UNet (SepCE, arXiv 2402.05947).

For every concept n a layer's weight W [C, D] becomes W + A_n B_n, with A_n [C, n_base] trained and B_n [n_base, D] fixed
and shared by all layers. SepCE's own files passed these matrices through every forward of a forked UNet and read batch
item 0 only; here they are hooks on the projections, right for any batch.
"""

import contextlib
import inspect

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


class Shift:
    """What `shifted` yields: the way to have the unshifted network for a while."""

    def __init__(self, unet, bases):
        self.bases, self.on, self.rows = bases, True, None
        self.signature = inspect.signature(unet.forward)

    def prepare(self, _, args, kwargs):
        """c B_n^T of a forward's context c, for every base: all layers get the same c, so that it is computed once.

        Before the network runs, and not in the first layer: what a checkpointed block saves must not depend on its place.
        """
        if self.on:
            context = self.signature.bind(*args, **kwargs).arguments["context"]
            self.rows = [context @ base.T for base in self.bases]

    def hook(self, matrices):
        """Of a projection with these matrices."""

        def add(_, __, out):
            for matrix, rows in zip(matrices, self.rows if self.on else (), strict=self.on):
                out = out + rows @ matrix.T
            return out

        return add

    @contextlib.contextmanager
    def suspended(self):
        """The network without the shifts. Nothing that is run here may be recomputed for a gradient later."""
        before, self.on = self.on, False
        try:
            yield
        finally:
            self.on = before


@contextlib.contextmanager
def shifted(unet, params, bases):
    """Run the UNet with to_k/to_v of every cross-attention shifted by sum_n A_n B_n; differentiable in ``params``.

    params: flat list of [C, n_base], for each layer those of to_k by concept, then those of to_v; bases: list of
    [n_base, D]. Yields a `Shift`. Gradients have to be computed before the end where blocks are checkpointed, and before
    the next forward.
    """
    shift = Shift(unet, bases)
    handles = [projection.register_forward_hook(shift.hook(own)) for projection, own in _shifts(unet, params, bases)]
    handles.append(unet.register_forward_pre_hook(shift.prepare, with_kwargs=True))
    try:
        yield shift
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
