"""Texts of UCE's golden files: embeddings that were recorded stand in for the text encoder."""

import torch

from erasure.text_states import TextStates
from tests.golden import golden_data


def recorded_texts(texts, embeddings, n_tokens) -> TextStates:
    """texts: in the order of embeddings [n, L, D] and n_tokens [n], which counts start and end, too."""
    known = {text: i for i, text in enumerate(texts)}

    def encode(wanted):
        rows = [known[text] for text in wanted]
        return embeddings[rows], [int(n_tokens[row]) - 2 for row in rows]

    return TextStates(encode)


def load(name: str):
    """(json, tensors, texts, original weights) of one file."""
    meta, tensors = golden_data.load(f"uce/{name}")
    texts = recorded_texts(meta["texts"], tensors["embeddings"], tensors["n_tokens"])
    old = {key.removeprefix("old."): weight for key, weight in tensors.items() if key.startswith("old.")}
    return meta, tensors, texts, old


def results(tensors, case: int, double: bool):
    """Weights after a case: of the original's run in float64, or of its own in float32."""
    start = f"case{case}.f64." if double else f"case{case}."
    found = {key.removeprefix(start): weight for key, weight in tensors.items() if key.startswith(start)}
    return {key: weight for key, weight in found.items() if not key.startswith("f64.")}


def assert_weights(found, wanted, tolerance, what):
    """The same names, and relative Frobenius differences within the tolerance."""
    assert found.keys() == wanted.keys(), what
    assert wanted, what
    for name, weight in wanted.items():
        difference = torch.linalg.norm(found[name].double() - weight.double()) / torch.linalg.norm(weight.double())
        assert difference <= tolerance, f"{what}, {name}: {difference:.2g}"
