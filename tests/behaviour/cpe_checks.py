"""The gates that train_cpe.py trains on the embedded model with the shipped configurations."""

import functools

import torch

from erasure import base_models, edits
from erasure.runs import ROOT
from methods.cpe import run
from methods.cpe.preparing import Preparation
from methods.cpe.run_folder import RunFolder
from methods.cpe.training import train
from tests.behaviour.conftest import FEW, QUICK_SAMPLER
from tests.behaviour.erasure_checks import ErasureChecks
from tests.cli import process


@functools.cache
def settings_of(domain, output):
    """Settings of every concept in the embedded model's list of a domain, by concept."""
    command = process.load(ROOT / "methods" / "cpe" / "train_cpe.py")
    config = ["--config_file", str(ROOT / "configs" / f"train_{domain}" / "config.yaml")]
    plan = run.plan_of(command.build_parser().parse_args([*config, "--output_root", output]), "toy")
    return {s.target: s for s in plan.settings}


def gates(bench, domain, *concepts):
    """The edit of some concepts; each is trained once for the whole run of the tests."""
    model, identity = base_models.load("toy")
    every = settings_of(domain, str(bench.folder / "cpe"))
    found = []
    for concept in concepts:
        with bench.locked(f"cpe-{concept}"):
            folder = RunFolder(every[concept].folder, every[concept], identity)
            made = folder.open()
            if not isinstance(made, edits.Edit):
                problem = Preparation(model, list(every), progress=False).problem(every[concept])
                made = train(problem, folder, progress=False)
            found.append(made)
    return edits.compose(found)


class CpeChecks(ErasureChecks):
    others = FEW
    drawing = QUICK_SAMPLER
    gone = 0.1
    kept = 0.95
    domain: str
    concepts: tuple[str, ...]

    @classmethod
    def make(cls, bench):
        return gates(bench, cls.domain, *cls.concepts)

    def test_removing_the_edit_gives_the_base_back_bit_for_bit(self, edit):
        """Weights are never touched: it is what the UNet says that has to be the base's again."""
        model, identity = base_models.load("toy")
        weights = {key: tensor.clone() for key, tensor in model.state_dict().items()}
        x, t = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0)), torch.tensor([500])
        with torch.no_grad():
            context = model.get_learned_conditioning([self.targets[0]])
            base = model.apply_model(x, t, context)
            with edits.apply(model, edit, identity) as applied:
                assert len(applied.matched) == sum(name.endswith("lora_up.weight") for name in edit.tensors)
                assert not torch.equal(model.apply_model(x, t, context), base)
            assert torch.equal(model.apply_model(x, t, context), base)
        for key, tensor in model.state_dict().items():
            assert torch.equal(tensor, weights[key]), key
