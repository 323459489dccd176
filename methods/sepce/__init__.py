"""SepCE, CiE and the baselines FMN, Abconcept and Esd of "Separable Multi-Concept Erasure from Diffusion Models" (arXiv 2402.05947).

The names, lists and defaults that need no torch live here.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from erasure.errors import UserError
from erasure.training.naming import format_number, name_part

# What --erase_cat and --erased_index choose from, in the order of the published lists; spellings as published.
STYLES = (
    "Cezanne", "VanGogh", "Picasso", "Jackson Pollock", "Caravaggio", "KeithHaring", "Kelly McKernan", "Tyler Edlin",
    "Kilian Eng",
)  # fmt: skip
OBJECTS = (
    "chain saw", "church", "gas pump", "tench", "garbage truck", "english springer", "golf ball", "parachute",
    "french horn",
)  # fmt: skip
SIMILAR = ("Cezanne", "Cezanne's painting", "painting", "cat", "Picasso")  # of the ablation
WATERMARKS = ("watermark SRS-ME", "CCS 2024")  # prompts that null spaces protect, after the nine concepts
CATEGORIES = {"object": OBJECTS, "style": STYLES, "similar": SIMILAR, "nudity": ("nudity",)}

METHODS = ("FMN", "Abconcept", "CiE", "SepCE", "SRS_ME")  # names of the scripts
WRITERS = ("edit", "safetensors", "pt")  # only the edit, or also the published pair of files

# Defaults belong to the base model: the published ones for SD v1, a quick recipe for the embedded model.
COMMON_PRESETS = {
    "sd-v1": dict(ddim_steps=50, image_size=512, num_images=1000, cycle_images=False, checkpoint_every=100),
    "toy": dict(ddim_steps=50, image_size=128, num_images=50, cycle_images=True, checkpoint_every=50),
}
PRESETS = {
    "FMN": {"sd-v1": dict(lr=1e-5, iter_break=20), "toy": dict(lr=1e-4, iter_break=100)},
    "Abconcept": {"sd-v1": dict(lr=1e-6, iter_break=50), "toy": dict(lr=1e-4, iter_break=100)},
    "CiE": {
        "sd-v1": dict(lr=1e-6, iter_break=1000, threshold=5e-5, reg_beta=1e-5),
        "toy": dict(lr=1e-4, iter_break=100, threshold=5e-5, reg_beta=1e-5),
    },
    "SepCE": {
        "sd-v1": dict(lr=1e-6, iter_break=1000, reg_beta=1e-5, scale_factor=1e-4),
        "toy": dict(lr=1e-4, iter_break=100, reg_beta=1e-5, scale_factor=1e-4),
    },
    "SRS_ME": {
        "sd-v1": dict(lr=1e-6, iter_break=1000, reg_beta=1e-5, threshold=5e-5, scale_factor=1e-2),
        "toy": dict(lr=1e-4, iter_break=100, reg_beta=1e-5, threshold=5e-5, scale_factor=1e-2),
    },
}

# Share of the largest singular value below which directions of protected prompts are left unprotected: 96 dimensions of
# the embedded model's conditioning hold no two prompts exactly.
TOLERANCE = {"sd-v1": 0.0, "toy": 0.01}

# Esd is methods/esd with other numbers: these come before its presets.
ESD_PRESETS = {
    "sd-v1": dict(iterations=50, lr=1e-5),
    "toy": dict(iterations=80, lr=1e-4),
}


def preset(method: str, family: str) -> dict[str, Any]:
    """Default settings of a script for a model family (``sd-v1`` or ``toy``)."""
    return COMMON_PRESETS[family] | PRESETS[method][family]


def concept_list(category: str, watermarks: bool = False) -> tuple[str, ...]:
    """Concepts of a category by their published index; `watermarks`: styles and objects end with the two prompts of these."""
    return CATEGORIES[category] + (WATERMARKS if watermarks and category in ("object", "style") else ())


def concept_of(category: str, index: int) -> str:
    """The concept that --erase_cat and --erased_index mean. UserError for an index that the list does not have."""
    concepts = concept_list(category)
    if not 0 <= index < len(concepts):
        named = ", ".join(f"{i} {concept}" for i, concept in enumerate(concepts))
        raise UserError(f"--erased_index {index}: {category} has {named}")
    return concepts[index]


# ---- names of runs, as published -----------------------------------------------------------------------------------


def run_name(method: str, concepts: Sequence[str], settings: Mapping[str, Any]) -> str:
    """Published name of a run: of its folder under models/ and of the files in it.

    settings: those of the run; with `erase_cat` and `erased_index` the name is that of the later scripts.
    """
    category, index, steps = settings.get("erase_cat"), settings.get("erased_index"), int(settings["iter_break"])
    who = name_part(concepts[0]) if category is None else f"{category}-erased_index_{index}"
    match method:
        case "FMN" | "Abconcept":
            return f"{'FMN' if method == 'FMN' else 'abconcept'}-{who}-iter_{steps}"
        case "Esd":
            return f"esd-{who}-iter_{steps}"
        case "CiE":
            who = name_part(concepts[0])  # in both generations
            threshold, beta = float(settings["threshold"]), float(settings["reg_beta"])
            return f"CiE-{who}-threshold_{threshold}-iter_{steps}_beta-{beta}"
        case "SepCE":
            # published: "threshold1" for every concept but the first
            thresholds = "-".join(
                f"threshold{min(i, 1)}_{format_number(value)}" for i, value in enumerate(settings["thresholds"])
            )
            beta = float(settings["reg_beta"])
            return name_part(f"train-joint-SepCE-{thresholds}-iter_{steps}_beta-{beta}-onlykv")
        case "SRS_ME":
            lr, threshold, beta = (float(settings[name]) for name in ("lr", "threshold", "reg_beta"))
            return (
                f"train-sepme-{category}-scene_{settings['scenei']}-time_{settings['timei']}-lr_{lr}"
                f"-threshold_{threshold}-iter_{steps}-beta_{beta}-{index}"
            )
    raise ValueError(f"unknown method {method!r}")
