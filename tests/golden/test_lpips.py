"""LPIPS and the pictures fed to it, against ESD's and RECE's loaders and the authors' package on a procedural trunk."""

import hashlib
import math

import numpy as np
import pytest
import torch
from PIL import Image

from erasure.metrics import lpips_folders
from erasure.metrics.lpips import TRUNKS, Lpips
from erasure.metrics.network_inputs import full_resolution, lpips_esd, lpips_rece
from tests.golden.golden_data import load, load_json


def procedural(shape, k):
    """Weights by the formula of the golden data's README."""
    n = math.prod(shape)
    i = np.arange(1, n + 1, dtype=np.float64)
    if len(shape) > 1:
        angle = np.modf(i * (0.6180339887498949 + 0.01 * k))[0] * 2 * np.pi + 0.37 * k
        values = np.sqrt(3 / math.prod(shape[1:])) * np.sqrt(2) * np.sin(angle)
    else:
        values = 0.05 * np.sin(np.modf(i * 0.7548776662466927 + 0.1 * k)[0] * 2 * np.pi)
    return torch.from_numpy(values.astype(np.float32).reshape(shape))


@pytest.fixture(scope="module", params=TRUNKS)
def case(request):
    meta, tensors = load(f"eval/lpips_{request.param}")
    distance = Lpips(request.param, random=True)
    trunk = distance.network.net
    convolutions = [module for module in trunk.modules() if isinstance(module, torch.nn.Conv2d)]
    for k, module in enumerate(convolutions):
        module.weight.data = procedural(module.weight.shape, k)
        module.bias.data = procedural(module.bias.shape, k)
    parameters = dict(trunk.named_parameters())
    for name, sha256 in meta["trunk_param_sha256"].items():
        assert hashlib.sha256(parameters[name].detach().numpy().tobytes()).hexdigest() == sha256, name
    return meta, tensors, distance


def pictures(tensors, index):
    return [Image.fromarray(tensors[f"img{side}_{index}"].numpy()) for side in (0, 1)]


def assert_distance(found, expected):
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "preprocess"), [("esd", lpips_esd()), ("rece", lpips_rece()), ("fullres", full_resolution())]
)
def test_published_scripts(case, name, preprocess):
    meta, tensors, distance = case
    for one in meta["cases"]:
        x0, x1 = (preprocess(picture)[None] for picture in pictures(tensors, one["index"]))
        if (fed := tensors.get(f"{name}_in0_{one['index']}")) is not None:
            exact = dict(atol=0, rtol=0) if name == "esd" else dict(atol=meta["tolerance"]["rece_in0"], rtol=0)
            torch.testing.assert_close(x0, fed, **exact)
        assert_distance(distance(x0, x1), tensors[f"{name}_lpips_{one['index']}"])
        assert distance(x0, x1).item() == pytest.approx(one[name], abs=2e-5, rel=1e-4)
        if (layers := tensors.get(f"{name}_per_layer_{one['index']}")) is not None:
            assert_distance(distance.per_layer(x0, x1)[0], layers)


def test_batches_do_not_matter(case):
    meta, tensors, distance = case
    sides = [[lpips_rece()(picture) for picture in pictures(tensors, one["index"])] for one in meta["cases"]]
    together = distance(*(torch.stack(side) for side in zip(*sides, strict=True)))
    alone = torch.cat([distance(x0[None], x1[None]) for x0, x1 in sides])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=1e-5)


def test_csv_of_esd(tmp_path):
    """The published CSV from the recorded distances; a case without pictures has an empty cell."""
    recorded = load_json("eval/aggregation")["cases"]["lpips_eval_esd"]
    (tmp_path / "prompts.csv").write_text(recorded["prompts_csv"])
    by_name = recorded["per_image"]
    for folder in ("original", "edit"):
        (tmp_path / folder).mkdir()
        for name in by_name:
            (tmp_path / folder / name).touch()
    rows = [line.split(",") for line in recorded["prompts_csv"].splitlines()]
    cases = [int(row[rows[0].index("case_number")]) for row in rows[1:]]
    found = lpips_folders.by_case(tmp_path / "original", tmp_path / "edit", cases)
    assert sorted(pair.original.name for pair in found.pairs) == sorted(by_name)
    values = lpips_folders.means(found, [by_name[pair.original.name] for pair in found.pairs])
    written = tmp_path / recorded["output_file"]
    lpips_folders.write_case_columns(tmp_path / "prompts.csv", {"lpips_loss": values}, written)
    ours, theirs = (text.splitlines() for text in (written.read_text(), recorded["output_csv"]))
    assert len(ours) == len(theirs) and ours[0] == theirs[0]
    for one, other in zip(ours[1:], theirs[1:], strict=True):
        (*cells, loss), (*expected, expected_loss) = one.split(","), other.split(",")
        assert cells == expected
        assert loss == expected_loss or float(loss) == pytest.approx(float(expected_loss), rel=1e-6)
