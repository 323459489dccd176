"""Residual attention gates on the cross-attention's key and value projections (CPE, arXiv 2506.22806).

One gate, shared by all layers, says for every token of a context and every erased concept how much of a residual is added to
the token's keys and values. N concepts are stacked along the leading axis of every tensor; of them, a token takes the
one whose gate is the largest. A residual is added to what the projection W of a layer yields:

    A = softmax(q k^T), q = x w_q, k = x w_k             [B, N, T, T]
    g = sigmoid(A x v)                                   [B, N, T]
    W x_t + alpha / rho * g_n (A_n x)_t down_n up_n      with n = argmax_n g_n of token t

CPE's released code computes k with w_q, and its published files were trained so: `separate_key` is the paper's form.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor


@dataclass(frozen=True)
class Gates:
    """Gates and residuals of N concepts. D: width of the context, r: gate rank, rho: rank of the residuals."""

    query: Tensor  # w_q [N, D, r]
    key: Tensor  # w_k [N, D, r]; without effect unless separate_key
    scaler: Tensor  # v [N, D, 1]
    down: Mapping[str, Tensor]  # name of a projection -> [N, D, rho]
    up: Mapping[str, Tensor]  # [N, rho, C]
    alpha: float = 1.0
    separate_key: bool = False

    @property
    def scale(self) -> float:
        """alpha / rho."""
        return self.alpha / next(iter(self.up.values())).shape[1]

    def to(self, device) -> "Gates":
        down, up = ({name: t.to(device) for name, t in side.items()} for side in (self.down, self.up))
        query, key, scaler = (t.to(device) for t in (self.query, self.key, self.scaler))
        return replace(self, query=query, key=key, scaler=scaler, down=down, up=up)


class Gated(NamedTuple):
    """What the gates make of a context."""

    embeddings: Tensor  # [B, T, D]: g_n (A_n x)_t of every token's concept n
    largest: Tensor  # [B, T]: g_n
    concept: Tensor  # [B, T] int64: n


def attention(x: Tensor, query: Tensor, key: Tensor) -> Tensor:
    """A [B, N, T, T] of a context x [B, T, D] under w_q and w_k [N, D, r]: neither scaled nor masked."""
    x = x.unsqueeze(1)
    q = x @ query
    return (q @ (q if key is query else x @ key).transpose(-1, -2)).softmax(dim=-1)


def openness(weights: Tensor, x: Tensor, scaler: Tensor) -> Tensor:
    """g [B, N, T] for attention weights A [B, N, T, T]: (A x) v, multiplied in the order that needs no [B, N, T, D]."""
    return torch.sigmoid(weights @ (x.unsqueeze(1) @ scaler)).squeeze(-1)


def gate(x: Tensor, gates: Gates) -> Gated:
    """The gates of a context x [B, T, D]. Of equal gates, the first concept's counts."""
    weights = attention(x, gates.query, gates.key if gates.separate_key else gates.query)
    largest, concept = openness(weights, x, gates.scaler).max(dim=1)
    tokens = x.shape[1]
    rows = weights.gather(1, concept[:, None, :, None].expand(-1, 1, -1, tokens)).squeeze(1)
    return Gated(largest.unsqueeze(-1) * (rows @ x), largest, concept)


def stacked_down(gates: Gates, names) -> Tensor:
    """[D, layers * N * rho]: all concepts' down matrices of the layers `names`, side by side."""
    down = torch.stack([gates.down[name] for name in names])  # [layers, N, D, rho]
    return down.permute(2, 0, 1, 3).flatten(1)


class Residuals:
    """What `attach` puts into a UNet: computes the gates once per context, whatever the number of layers and steps."""

    def __init__(self, gates: Gates, forward: Callable, dtype: Callable[[], torch.dtype]):
        self.gates, self.names = gates, {name: i for i, name in enumerate(gates.down)}
        self.down = stacked_down(gates, self.names)
        self.up = {name: up.flatten(0, 1) * gates.scale for name, up in gates.up.items()}  # [N * rho, C]
        self.signature, self.dtype = inspect.signature(forward), dtype
        self.current: Tensor | None = None  # the context of the forward that is running
        self.context: Tensor | None = None  # that of `rows`
        self.rows: Tensor | None = None

    def coefficients(self, x: Tensor) -> Tensor:
        """[B, T, layers, N * rho]: of every layer, zero but for the concept of each token."""
        if self.down.device != x.device:
            self.gates, self.down = self.gates.to(x.device), self.down.to(x.device)
            self.up = {name: up.to(x.device) for name, up in self.up.items()}
        gated = gate(x.float(), self.gates)
        count = self.gates.scaler.shape[0]
        rows = (gated.embeddings @ self.down).unflatten(-1, (len(self.names), count, -1))
        chosen = torch.nn.functional.one_hot(gated.concept, count)[:, :, None, :, None].to(rows.dtype)
        return (rows * chosen).flatten(-2)

    def prepare(self, _, args, kwargs) -> None:
        """Before a forward of the UNet. Kept from the last one if the context has the same values, as while sampling.

        Before the network runs, and not in the first layer: a layer in a checkpointed block would save it again.
        """
        context = self.signature.bind(*args, **kwargs).arguments["context"].to(self.dtype())
        self.current = context
        if self._is(context) and not self._differentiated(context):
            return
        self.rows = self.coefficients(context)
        self.context = context.detach().clone()  # its memory may be written to

    def end(self, *_) -> None:
        """After a forward: a graph serves one backward pass, and is not kept."""
        self.current = None
        if self.rows is not None and self.rows.requires_grad:
            self.context = self.rows = None

    def _differentiated(self, x: Tensor) -> bool:
        """Whether someone may ask for gradients of what is made of x."""
        return torch.is_grad_enabled() and (x.requires_grad or self.gates.query.requires_grad)

    def _is(self, x: Tensor) -> bool:
        """Whether the rows are those of x, by its values."""
        known = self.context
        if known is None:
            return False
        same = known.shape == x.shape and known.dtype == x.dtype and known.device == x.device
        return same and torch.equal(known, x)

    def of(self, x: Tensor) -> Tensor:
        """The coefficients of what a projection is given: in a forward those of its context."""
        alone = self.current is None
        if x is self.current or (self._is(x) and not (alone and self._differentiated(x))):
            return self.rows
        # Outside of a forward a checkpointed block may be running again. It must save what it saved the first time
        # and no more: hooks within its own keep from it what the gates save.
        with torch.autograd.graph.saved_tensors_hooks(_same, _same):
            return self.coefficients(x)

    def hook(self, name: str):
        """Of the projection `name`."""

        def add(_, inputs, out):
            (x,) = inputs
            return out + (self.of(x)[:, :, self.names[name]] @ self.up[name]).to(out.dtype)

        return add


def _same(tensor: Tensor) -> Tensor:
    return tensor


def attach(unet, gates: Gates) -> Callable[[], None]:
    """Add the residuals to a UNet's projections (names of modules, as `gates` has them); returns what removes them.

    Outputs are right for any context, also for one that changes between calls (the published code kept the residual of the
    first context until it was told to forget it). KeyError for a projection that the UNet does not have.
    """
    modules = dict(unet.named_modules())
    projections = {name: modules[name] for name in gates.down}
    residuals = Residuals(gates, unet.forward, lambda: unet.dtype)
    handles = [module.register_forward_hook(residuals.hook(name)) for name, module in projections.items()]
    handles.append(unet.register_forward_pre_hook(residuals.prepare, with_kwargs=True))
    handles.append(unet.register_forward_hook(residuals.end, always_call=True))

    def remove() -> None:
        for handle in handles:
            handle.remove()

    return remove
