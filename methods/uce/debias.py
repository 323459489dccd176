"""UCE's debiasing: texts whose images should show every attribute equally often (arXiv 2308.14761, section 4.2).

From the shares that the model's images show, an edited text's answers are pushed along those of its attributes, in small steps,
each followed by new images. Two generations of the published code (rohitgandikota/unified-concept-editing):

variant "2023": `next_round` decides, `edited_weights` edits the weights as they are now; rows from the last token on.
variant "2025": `accumulated` directions, `context_map` from the original weights; the row of the last token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from erasure.edits import ContextMap
from erasure.text_states import TextState, TextStates
from methods.uce import closed_form
from methods.uce.closed_form import Factored, NormalMatrix, SharedMap
from methods.uce.erase import aligned, preserve


@dataclass(frozen=True)
class Debiasing:
    """K texts, what each is balanced between, and what is to stay."""

    texts: Sequence[str]
    attributes: Sequence[Sequence[str]]  # of each text, J texts in the order of the ratios
    preserved: Sequence[str] = ()
    desired: Sequence[float] | None = None  # J shares; None: equal
    lamb: float = 0.5
    erase_scale: float = 1.0
    preserve_scale: float = 0.1
    step: float = 0.1
    tolerance: float = 0.05

    def desired_ratios(self, dtype=torch.float32) -> Tensor:
        """Shares [J]."""
        count = len(self.attributes[0])
        return torch.tensor(self.desired or [1 / count] * count, dtype=dtype)


def attribute_texts(texts: Sequence[str], attributes: Sequence[Sequence[str]], add: bool = False) -> list[list[str]]:
    """The attributes of each text as published: a single one counts twice; `add` puts the text behind those without it."""
    doubled = [list(own) * 2 if len(own) == 1 else list(own) for own in attributes]
    if not add:
        return doubled
    pairs = zip(texts, doubled, strict=True)
    return [[a if text.lower() in a.lower() else f"{a} {text}" for a in own] for text, own in pairs]


# ---- 2023 ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Round:
    """What the shares of one outer iteration lead to. float32 as published, which decides on the tolerance's edge."""

    ratios: Tensor  # [K, J] float32
    deviations: Tensor  # [K]: largest difference of a share from the desired one
    weights: Tensor  # [K, J]: how far each text moves along each attribute, of its own norm
    preserved: tuple[str, ...]
    balanced: bool  # all texts are: nothing is left to edit

    def bypassed(self, tolerance: float) -> list[bool]:
        """Which texts are not measured again: their ratios stay for good."""
        return (self.deviations < tolerance).tolist()


def next_round(debiasing: Debiasing, ratios: Tensor, previous: Round | None = None) -> Round:
    """ratios [K, J] that were measured, those of bypassed texts as they were.

    Quirk kept: a text whose first weight is 0 is preserved from then on, which with three or more attributes also
    happens to texts whose first share alone is right; it goes on being edited.
    """
    ratios = ratios.float()
    away = debiasing.desired_ratios() - ratios
    deviations = away.abs().amax(dim=1)
    weights = debiasing.step * away * (deviations > debiasing.tolerance)[:, None]
    preserved = tuple(debiasing.preserved if previous is None else previous.preserved)
    still = [text for text, weight in zip(debiasing.texts, weights[:, 0].tolist(), strict=True) if weight == 0]
    if still:
        preserved = tuple(sorted({*preserved, *still}))
    return Round(ratios, deviations, weights, preserved, bool((deviations < debiasing.tolerance).all()))


def edited_weights(
    debiasing: Debiasing, weights_kj: Tensor, preserved: Sequence[str], texts: TextStates, weights: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], Factored]:
    """One edit of the weights [O, D] as they are now, in their dtype: text k moves by weights_kj [K, J].

    A text with rows C and attributes with rows C_j (a layer's answers O = C W^T and U_j) is to be answered as

        V* = O + sum_j w_j |V*| U_j / |U_j|

    where |V*|, over all rows, is that of the sum so far. Only the factors b_j = w_j |V*| / |U_j| differ between layers:
    W' = W + s_e W (sum_kj b_kj C_kj^T C_k) A^-1, with norms from C_i^T C_j and W^T W.
    """
    texts.prepare(_all_texts(debiasing, preserved))
    layers = [weight.double() for weight in weights.values()]
    squares = torch.stack([closed_form.gram(weight).flatten() for weight in layers])  # W^T W of every layer
    dim = layers[0].shape[1]
    normal = NormalMatrix(dim, debiasing.lamb, layers[0].device)
    change = torch.zeros_like(squares)  # sum_kj b_kj C_kj^T C_k
    for text, attributes, w in zip(debiasing.texts, debiasing.attributes, weights_kj.tolist(), strict=True):
        rows = _aligned_rows(texts[text], [texts[a] for a in attributes])
        own = normal.add(rows[0], debiasing.erase_scale)
        if any(w):
            factors = _factors(rows, own, torch.tensor(w, dtype=torch.float64, device=squares.device), squares)
            for j, other in enumerate(rows[1:]):
                change.addr_(factors[:, j], (other.T @ rows[0]).flatten())
    preserve(normal, debiasing.preserve_scale, texts, preserved)
    factored = normal.factor()
    # rows X of change A^-1 solve X A = change
    new = {}
    for (name, old), layer, moved in zip(weights.items(), layers, change.view(-1, dim, dim), strict=True):
        if moved.any():
            layer = torch.addmm(layer, layer, factored.right(moved), alpha=debiasing.erase_scale)
        new[name] = layer.to(old.dtype)
    return new, factored


def _aligned_rows(own: TextState, attributes: Sequence[TextState]) -> list[Tensor]:
    """Rows [n, D] of a text and its attributes from their last token on, as many as the longest of them has."""
    farthest = max((own, *attributes), key=lambda state: state.last)
    return [aligned(state, farthest)[0] for state in (own, *attributes)]


def _factors(rows: Sequence[Tensor], own: Tensor, w: Tensor, squares: Tensor) -> Tensor:
    """b [layers, J] of one text. rows: C and C_1 ... C_J; own: C^T C; squares [layers, D D]."""
    count = len(rows)
    products = squares.new_empty(len(squares), count, count)  # of the answers of every layer to two sets of rows
    for i in range(count):
        for j in range(i, count):
            both = own if i == j == 0 else rows[i].T @ rows[j]
            products[:, i, j] = products[:, j, i] = squares @ both.flatten()
    factors = squares.new_zeros(len(squares), count)
    factors[:, 0] = 1  # V* starts as C's answers
    for j in range(1, count):
        norm = torch.einsum("li,lij,lj->l", factors, products, factors).clamp_min(0).sqrt()
        factors[:, j] = w[j - 1] * norm / products[:, j, j].sqrt()
    return factors[:, 1:]


# ---- 2025 ----------------------------------------------------------------------------------------------------------


def directions(debiasing: Debiasing, ratios: Tensor) -> Tensor:
    """desired - measured shares [K, J] float64; zeros for a text inside the tolerance."""
    away = debiasing.desired_ratios(torch.float64) - ratios.double()
    inside = (away.amax(dim=1) < debiasing.tolerance) & (away.amin(dim=1).abs() < debiasing.tolerance)
    return away * ~inside[:, None]


def accumulated(alpha: Tensor | None, direction: Tensor, step_size: float = 1.0) -> Tensor:
    """alpha [K, J] after one more iteration.

    The published code has a --step_size of 0.1 that it never uses, and adds up directions in a cached tensor: step 1.
    """
    return step_size * direction if alpha is None else alpha + step_size * direction


def context_map(debiasing: Debiasing, alpha: Tensor, texts: TextStates) -> tuple[ContextMap, Factored]:
    """The edit of the original weights that answers text k as e_k + sum_j alpha_kj e_j, one row each."""
    texts.prepare(_all_texts(debiasing, debiasing.preserved))
    last = {text: texts[text].states[texts[text].last][None] for text in _all_texts(debiasing, ())}
    row = last[debiasing.texts[0]]
    shared = SharedMap(row.shape[1], debiasing.lamb, debiasing.erase_scale, row.device)
    for text, attributes, own in zip(debiasing.texts, debiasing.attributes, alpha.tolist(), strict=True):
        pushed = sum((a * last[attribute] for a, attribute in zip(own, attributes, strict=True)), last[text])
        shared.erase(last[text], pushed)
    preserve(shared.normal, debiasing.preserve_scale, texts, debiasing.preserved, "2025")
    return shared.solve()


# ---- both ----------------------------------------------------------------------------------------------------------


def _all_texts(debiasing: Debiasing, preserved: Sequence[str]) -> list[str]:
    return [*debiasing.texts, *(a for own in debiasing.attributes for a in own), *preserved]
