"""Formulas over CLIP embeddings of several published scripts, and the mean that CPE's script prints."""

import pytest
import torch

from erasure.metrics.clip_score import HESSEL, hessel, logits, mean_and_deviation, nearer, paired, probabilities
from erasure.metrics.image_prompts import NameTable
from erasure.prompts import Row
from tests.golden.golden_data import load, load_json


@pytest.fixture(scope="module")
def golden():
    meta, tensors = load("eval/clip_formulas")
    return meta, tensors, float(meta["tolerance"])


def close(found, expected, tolerance):
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def test_logits_per_image(golden):
    meta, t, tolerance = golden
    scale = float(torch.tensor(meta["logit_scale"]).exp())
    close(logits(t["image_embeds"], t["text_embeds"], scale), t["logits_per_image"], tolerance)
    close(paired(t["image_embeds"], t["text_embeds"], scale), t["diag_logits"], tolerance)
    mean = float(paired(t["image_embeds"], t["text_embeds"]).clamp_min(0).mean())
    assert mean == pytest.approx(meta["torchmetrics_clip_score_mean"], rel=tolerance)


def test_spm(golden):
    meta, t, tolerance = golden
    own = hessel(paired(t["image_embeds"], t["text_embeds"], 1.0))
    close(own, t["spm_clip_score"], tolerance)
    # summed over a list of texts, the first few; how many it was is not recorded
    cosines = logits(t["image_embeds"], t["text_embeds"], 1.0)
    sums = [hessel(cosines[:, :n].sum(dim=1)) for n in range(2, cosines.shape[1])]
    assert any(torch.allclose(found, t["spm_cross_score"], rtol=tolerance, atol=tolerance) for found in sums)
    share = nearer(t["image_embeds"], t["text_embeds"], t["anchor_embeds"]).float().mean()
    assert float(share) == meta["spm_accuracy"] == meta["spm_eval"][1]
    assert float(own.mean()) == pytest.approx(meta["spm_eval"][0], rel=tolerance) and HESSEL > 0


def test_mace_and_q16(golden):
    _, t, tolerance = golden
    close(probabilities(t["image_embeds"], t["object_text_embeds"]), t["mace_object_probs"], tolerance)
    close(logits(t["image_embeds"], t["q16_prompts"]), t["q16_logits"], tolerance)
    found = probabilities(t["image_embeds"], t["q16_prompts"])
    close(found, t["q16_probs"], tolerance)
    assert torch.equal(found.argmax(dim=1), t["q16_label"])


def test_cpe_matches_names_and_prints_mean_and_deviation():
    case = load_json("eval/aggregation")["cases"]["cpe_clip_score"]
    rows = [Row(n, prompt, n + 1) for n, prompt in enumerate(one["prompt"] for one in case["images"].values())]
    table = NameTable(rows)
    for file, one in case["images"].items():
        assert table.prompt_of(file.rpartition(".")[0]) == one["prompt"]
    assert [table.prompt_of(file.rpartition(".")[0]) for file in case["ignored"]] == [None] * len(case["ignored"])
    mean, deviation = mean_and_deviation([one["score"] for one in case["images"].values()])
    assert case["stdout"] == [f"Mean CLIP score ± Standard Deviation: {mean:.4f}±{deviation:.4f}"]
