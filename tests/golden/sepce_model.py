"""The small LatentDiffusion on which SepCE's family was recorded: 16 cross-attention layers, stored embeddings of texts."""

import pytest
import torch

from ldm.models.diffusion.ddpm import LatentDiffusion
from methods.sepce.objectives import Terms
from methods.sepce.training import Step, Trainer
from tests.golden.diffusion_model import IDENTITY
from tests.golden.golden_data import load
from tests.golden.numeric import assert_relative_to_max


class GoldenModel:
    """model (eval mode), encode (text -> [1, L, D]) and the orders in which tensors are numbered."""

    def __init__(self):
        meta, tensors = load("sepce/tiny_unet")
        self.model = LatentDiffusion(
            first_stage_config=IDENTITY,
            cond_stage_config=IDENTITY,
            unet_config={"target": "ldm.modules.diffusionmodules.openaimodel.UNetModel", "params": meta["unet_config"]},
            channels=meta["unet_config"]["in_channels"],
            use_ema=False,
            **meta["latent_diffusion"],
        ).eval()
        weights = {name.removeprefix("unet."): v.float() for name, v in tensors.items() if name.startswith("unet.")}
        self.model.model.diffusion_model.load_state_dict(weights)
        self.embeddings = {text: tensors[f"emb.{i}"] for i, text in meta["prompts"].items()}
        self.attn2_order, self.kv_order = meta["attn2_parameter_order"], meta["kv_parameter_order"]
        torch.testing.assert_close(self.model.alphas_cumprod, tensors["alphas_cumprod"], rtol=0, atol=1e-6)

    def encode(self, text):
        return self.embeddings[text]


def step_of(tensors, i):
    """Random choices of step i of a recording of one concept ([steps, ...]) or several ([steps, concepts, ...])."""

    def split(name):
        value = tensors[name][i]
        return list(value.unsqueeze(1)) if value.ndim == 4 else [value.unsqueeze(0)]

    return Step(tensors["t"][i].view(1), split("z0"), split("noise"))


class Replayed:
    """What one step of a replay left: its terms, gradients as Adam saw them, tensors after it, and whether it was the last."""

    def __init__(self, trainer, numbers):
        self.terms, self.finished = Terms(torch.tensor(numbers["loss"]), numbers), trainer.finished
        trained = trainer.objective.trained
        self.grads = {name: None if p.grad is None else p.grad.clone() for name, p in trained.items()}
        self.after = {name: p.detach().clone() for name, p in trained.items()}


def replay(objective, tensors, lr):
    """Yield step after step of a recording as `Replayed`, by our loop in its published form: gradients add up."""
    trainer = Trainer(objective, lr)
    for i in range(len(tensors["t"])):
        yield Replayed(trainer, trainer.update(step_of(tensors, i)))
        if trainer.finished:
            return


def check_numbers(numbers, recorded):
    """Losses and their terms: 1e-5, relative above 1."""
    for name, value in recorded.items():
        assert numbers[name] == pytest.approx(value, abs=1e-5, rel=1e-5), name


def check_tensors(values, tensors, prefix, order, rtol):
    """Tensors stored as prefix + number, relative to their maximum; returns the numbers there were."""
    found = [key for key in tensors if key.startswith(prefix)]
    for key in found:
        name = order[int(key.removeprefix(prefix))]
        assert_relative_to_max(values[name], tensors[key], rtol, f"{key} ({name})")
    return {int(key.removeprefix(prefix)) for key in found}


def check_step(step, tensors, i, order):
    """Gradients and weights of a step where they are stored; those without a stored gradient have none."""
    with_gradient = check_tensors(step.grads, tensors, f"step{i}.grad.", order, 1e-4)
    stored = check_tensors(step.after, tensors, f"step{i}.after.", order, 2e-4)
    if with_gradient:
        assert all(step.grads[order[j]] is None for j in stored - with_gradient)
