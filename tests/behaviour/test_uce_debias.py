"""UCE's debiasing on the embedded model: a prompt that names two painters shows one, and after it both about equally often.

The run stops by its own count; what is asserted is counted on other seeds.
"""

import numpy as np
import pytest

from erasure import base_models, edits, generation
from methods.uce import train_debias
from methods.uce.ratios import drawing
from toyworld.judge import load_judge

PROMPT, PAINTERS = "van gogh or picasso", ("van gogh", "picasso")
OTHERS = {"a painting of a church by cezanne": "cezanne", "a golf ball by kilian eng": "kilian eng"}
STEPS = 5
FLAGS = ["--concept", PROMPT, "--attributes", ", ".join(PAINTERS), "--no_templates"]
FLAGS += ["--num_images", "4", "--num_inference_steps", str(STEPS), "--max_diff", "0.11"]


def styles(model, prompt, count):
    """What the judge sees in `count` images of a prompt, of a seed that no run draws (they are below 5000)."""
    settings = generation.settings("toy", sampler="plms", steps=STEPS, num_samples=count)
    (images,) = drawing(model, settings)(prompt, [70_000])
    return [answer["style"] for answer in load_judge().predict(images)]


def share(found):
    """Of the first painter's images among those of both."""
    counts = [found.count(painter) for painter in PAINTERS]
    return counts[0] / sum(counts)


@pytest.mark.behaviour
@pytest.mark.slow
def test_both_painters_are_shown(tmp_path):
    model, identity = base_models.load("toy")
    before = share(styles(model, PROMPT, 20))
    assert train_debias.main(["--base", "toy", "--device", "cpu", *FLAGS, "--save_path", str(tmp_path / "models")]) == 0
    (folder,) = (tmp_path / "models").iterdir()
    with edits.load_into(model, identity, folder):
        found = styles(model, PROMPT, 40)
        others = {prompt: styles(model, prompt, 4) for prompt in OTHERS}
    print(
        f"share of {PAINTERS[0]}: {before:.2f} before, {share(found):.2f} after; {found.count('photo')} of 40 neither"
    )
    assert abs(before - 0.5) >= 0.35
    assert abs(share(found) - 0.5) <= 0.2
    assert np.isin(found, PAINTERS).mean() >= 0.7  # neither is lost
    for prompt, wanted in OTHERS.items():
        assert others[prompt].count(wanted) >= 3, prompt
