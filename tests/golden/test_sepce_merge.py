"""Merged weights of several models against SepCE's own script."""

import re
from pathlib import PurePosixPath

import torch

from methods.sepce import merging
from tests.golden.golden_data import load


def test_merged_weights():
    meta, tensors = load("sepce/merge_model")
    models = {}
    for key, tensor in tensors.items():
        number, name = re.fullmatch(r"in(\d+)\.(.+)", key).groups() if key.startswith("in") else (None, None)
        if number:
            models.setdefault(int(number), {})[name] = tensor
    assert meta["saved"], "no merged model in the golden data"
    for path in meta["saved"]:
        selection = re.fullmatch(r".*?(\d+)", PurePosixPath(path).stem)[1]
        chosen = [int(digit) for digit in selection]
        keys = ["attn2" if number == 1 else "kv" for number in chosen]
        found = merging.merged(models[0], [models[number] for number in chosen], keys)
        prefix = f"out.{selection}."
        expected = {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}
        assert found.keys() == expected.keys()
        for name, tensor in expected.items():
            scale = max(tensor.abs().max().item(), 1e-12)
            torch.testing.assert_close(found[name], tensor, rtol=0, atol=1e-6 * scale, msg=f"{path} {name}")
