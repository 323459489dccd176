"""What runs cost: the one place where it is estimated.

A cost is floating-point operations (a multiplication and an addition are two), one at a time or in batches, and steps that wait
for each other. Time is operations / rate + steps * 5 ms, a step's least time. Operations are those of the network, the autoencoder
and the text tower, as `torch.utils.flop_counter` counts them at batch 1; a backward pass counts as two forward ones. Left out:
loading, metrics, attacks, files.

Rates: the embedded model's were measured on an AMD EPYC (benchmarks/README.md: an iteration of ESD, 28 GFLOP/s a core; images in
batches of 16, 51 GFLOP/s), and are those of two such cores with a job each. Stable Diffusion's are assumed, one data-centre GPU
in float32; --tflops gives yours.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from erasure.errors import UserError
from erasure.generation.presets import GenerationSettings

STEP_SECONDS = 0.005


@dataclass(frozen=True)
class Cost:
    single: float = 0.0  # operations at batch 1
    batched: float = 0.0
    steps: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.single + other.single, self.batched + other.batched, self.steps + other.steps)

    @property
    def flops(self) -> float:
        return self.single + self.batched

    def hours(self, model: "Model", rate: float | None = None) -> float:
        """rate: operations per second in place of the model's."""
        seconds = self.single / (rate or model.rate) + self.batched / (rate or model.batched_rate)
        return (seconds + self.steps * STEP_SECONDS) / 3600


@dataclass(frozen=True)
class Model:
    """Operations of a base model's parts for one image or text."""

    family: str
    unet: float
    decode: float
    encode: float
    text: float
    width: int  # of the text states
    projected: int  # sum over the key and value projections of their output widths
    rate: float  # operations per second, at batch 1
    batched_rate: float
    device: str
    preset: str  # that training images are drawn with


MODELS = {
    "sd-v1-4": Model(
        "sd-v1", 803.3e9, 2514.5e9, 1116.7e9, 13.3e9, 768, 24960, 20e12, 20e12, "one GPU at 20 TFLOP/s (assumed)", "esd"
    ),
    "toy": Model("toy", 0.6977e9, 5.231e9, 1.714e9, 0.077e9, 96, 1792, 56e9, 102e9, "two CPU cores as measured", "toy"),
}


def images(model: Model, n: int, s: GenerationSettings) -> Cost:
    """Drawing n images: every step of the sampler with the prompt and without."""
    calls = (s.steps + (s.sampler == "plms")) * (1 if s.guidance == 1 else 2)
    return Cost(batched=n * (calls * model.unet + model.decode), steps=math.ceil(n / 16) * s.steps)


def training(model: Model, cost: str, settings: Mapping[str, Any]) -> Cost:
    """One run of a method's command; `cost` is what reproduce/methods.yaml says of the method."""
    return COSTS[cost](model, settings)


def pictures(model: Model, cost: str, s: Mapping[str, Any]) -> dict[str, int]:
    """{concept: images of it that the base model draws before the command trains on them}; they serve other commands too."""
    from methods.sepce import concept_list, concept_of, preset

    method = {"fmn": "FMN", "abconcept": "Abconcept", "cie": "CiE", "separable": "SepCE", "scenes": "SRS_ME"}.get(cost)
    if method is None:
        return {}
    if cost == "scenes":
        concepts = concept_list(s["CATEGORY"])[:6]
    elif "erase_cat" in s:
        concepts = [concept_of(s["erase_cat"], s["erased_index"])]
    else:
        concepts = [name.strip() for name in str(s.get("concepts", s.get("prompt"))).split(",")]
    return dict.fromkeys(concepts, s.get("num_images", preset(method, model.family)["num_images"]))


# ---- methods -------------------------------------------------------------------------------------------------------


def _esd(model: Model, s: Mapping[str, Any]) -> Cost:
    """A latent drawn over half of the grid on average, with guidance; then two frozen predictions and a trained one."""
    from methods.esd import preset

    chosen = preset(model.family, s.get("train_method", "xattn")) | s
    iterations = s.get("iter_break", chosen["iterations"])
    return Cost(iterations * (chosen["ddim_steps"] + 5) * model.unet, steps=iterations * chosen["ddim_steps"] // 2)


def _on_images(method: str, forwards: int):
    """Steps on images of the concepts (`pictures`): `forwards` of the UNet, a step and concept."""

    def cost(model: Model, s: Mapping[str, Any], concepts: int | None = None) -> Cost:
        from methods.sepce import preset

        steps = s.get("iter_break", preset(method, model.family)["iter_break"])
        n = concepts or len(str(s.get("concepts", "one")).split(","))
        return Cost(steps * n * (forwards * model.unet + model.encode), steps=steps)

    return cost


def _scenes(model: Model, s: Mapping[str, Any]) -> Cost:
    """All scenes of the paper erase six concepts."""
    if str(s.get("SCENE", 1)) not in "1234":
        raise UserError(f"the paper has scenes 1 to 4, not {s['SCENE']}")
    return _on_images("SRS_ME", 8)(model, {}, concepts=6)


def _closed_form(model: Model, s: Mapping[str, Any]) -> Cost:
    """Texts, those that are preserved by default too, and two products with all projections."""
    concepts = str(s["concepts"])
    n = int(concepts.removesuffix("artists")) if concepts.endswith("artists") else len(concepts.split(","))
    kept = (10 if model.family == "toy" else 1734) if s.get("concept_type") == "art" else 1
    return Cost((n + kept) * model.text + 2 * _projections(model), steps=n)


def _rece(model: Model, s: Mapping[str, Any]) -> Cost:
    epochs = s.get("epochs", 3)
    return _closed_form(model, s) + Cost(3 * epochs * _projections(model), steps=epochs)


def _projections(model: Model) -> float:
    return 2 * model.projected * model.width**2


def _debias(model: Model, s: Mapping[str, Any]) -> Cost:
    """At most so many rounds of images, 5 seeds of each concept."""
    concepts = 37 if s["concept"] == "default0" else len(str(s["concept"]).split(","))
    rounds = s.get("max_iterations", 30)
    drawn = GenerationSettings(sampler="plms", steps=s.get("num_inference_steps", 20))
    return images(model, concepts * rounds * 5 * s.get("num_images", 10), drawn)


def _gates(model: Model, s: Mapping[str, Any]) -> Cost:
    """Losses on some 64 texts, by quadratic forms of the text states: the UNet is never run."""
    t, listed = _configuration(s["config_file"], model.family)
    own = s.get("concepts")
    concepts = len(own.split(",")) if own else listed
    iterations = t["iterations"] * (t["factor_init_iter"] + t["num_stages"] - 1) + t["iterations_adv"] * t["num_stages"]
    return Cost(concepts * iterations * 6 * 64 * 77 * model.width**2, steps=concepts * iterations)


@cache
def _configuration(path: str, family: str) -> tuple[Mapping[str, Any], int]:
    """(training settings of a configuration of CPE, how many concepts it lists)."""
    from methods.cpe.yaml_files import read_config, read_yaml

    config = read_config(path, family)
    return config["train"], len(read_yaml(config["prompts_file"]))


COSTS = {
    "esd": _esd,
    "closed_form": _closed_form,
    "rece": _rece,
    "debias": _debias,
    "fmn": _on_images("FMN", 3),
    "abconcept": _on_images("Abconcept", 7),
    "cie": _on_images("CiE", 8),
    "separable": _on_images("SepCE", 8),
    "scenes": _scenes,
    "gates": _gates,
}
