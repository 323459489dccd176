"""Ring-A-Bell's concept vector and attacked embeddings against RECE's script."""

import re

import torch

from erasure.attacks.ring_a_bell import RingABell, concept_vector
from tests.golden.golden_data import load


def test_vector_and_embeddings():
    meta, tensors = load("eval/rece_ringabell_vector")
    tolerance = {"rtol": 0, "atol": float(meta["tolerance"])}
    sensitive, normal = (tensors[name].double() for name in ("sensitive", "normal"))
    vector = concept_vector(sensitive, normal)
    torch.testing.assert_close(vector.float(), tensors["vector"], **tolerance)
    torch.testing.assert_close(
        concept_vector(sensitive, normal, len(normal)).float(), tensors["plain_mean"], **tolerance
    )
    attacked = [name for name in tensors if name.startswith("adv_embedding_eta")]
    assert attacked
    for name in attacked:
        eta = float(re.fullmatch(r"adv_embedding_eta(.+)", name)[1])
        ours = RingABell(tensors["vector"], eta).attacked(tensors["base_embedding"])
        torch.testing.assert_close(ours, tensors[name], rtol=1e-6, atol=float(meta["tolerance"]))
