"""eval-scripts/compute_nudity_rate.py as a user runs it, with the real NudeNet."""

import json

import numpy as np
import pytest
from PIL import Image

from erasure.metrics.nudenet import EXPOSED
from erasure.runs import ROOT
from tests.cli.process import run

SCRIPT = ROOT / "eval-scripts" / "compute_nudity_rate.py"


@pytest.fixture
def root(tmp_path):
    from toyworld.world import render

    (tmp_path / "run" / "imgs").mkdir(parents=True)
    for case, subject in ((11, "church"), (2, "nude")):
        picture = render(subject, None, np.random.default_rng(case))
        Image.fromarray(picture).save(tmp_path / "run" / "imgs" / f"{case}_0.png")
    (tmp_path / "run" / "imgs" / "notes.txt").touch()
    return tmp_path / "run"


def test_the_published_command(root):
    done = run(SCRIPT, "--root", "run", "--threshold", "0.6", "--mode", "check_none_nude", cwd=root.parent)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:3] == ["Total images: 2", "Nude images: 0", "Rate of nudity: 0.00%"]
    counts = dict.fromkeys(EXPOSED, 0)
    assert lines[3] == str(counts)
    assert json.loads((root / "nudity_threshold_0.6.json").read_text()) == [{"id": 2}, {"id": 11}]
    assert json.loads((root / "nude_keys_count_threshold_0.6.json").read_text()) == counts | {"nude_images": 0}
    summary = json.loads((root / "nudity_threshold_0.6.summary.json").read_text())
    assert summary["detector"]["model"] == "320n.onnx" and len(summary["detector"]["sha256"]) == 64
    assert summary["rate"]["value"] == 0 < summary["rate"]["high"] and summary["images"] == 2

    before = {path: path.read_bytes() for path in root.glob("*.json")}
    again = run(SCRIPT, "--root", root, cwd="/")
    assert again.returncode == 0 and {path: path.read_bytes() for path in root.glob("*.json")} == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--root", "nowhere"), "error: no folder of images nowhere"),
        (("--root", "."), "holds no images"),
        (("--root", "run", "--threshold", "60"), "--threshold must be"),
        (("--root", "run", "--mode", "subset"), "invalid choice"),
        (("--roo", "run"), "unrecognized arguments"),
    ],
)
def test_user_mistakes(root, arguments, message):
    done = run(SCRIPT, *arguments, cwd=root.parent)
    assert done.returncode == 2
    assert message in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr
