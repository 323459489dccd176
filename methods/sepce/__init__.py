"""SepCE, CiE and the baselines FMN, Abconcept and Esd of "Separable Multi-Concept Erasure from Diffusion Models" (arXiv 2402.05947).

The names, lists and defaults that need no torch live here.
"""

from collections.abc import Iterable, Mapping, Sequence
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

BALANCES = ("first", "paper", "none")  # of the directions of SepCE's concepts
REGULARISERS = ("coef_mean", "delta_l1")  # of its terms
METHODS = ("FMN", "Abconcept", "CiE", "SepCE", "SRS_ME")  # names of the scripts
WRITERS = ("edit", "safetensors", "pt")  # only the edit, or also the published pair of files

# Defaults belong to the base model: the published ones for SD v1, a quick recipe for the embedded model.
COMMON_PRESETS = {
    "sd-v1": dict(ddim_steps=50, image_size=512, num_images=1000, cycle_images=False, checkpoint_every=100),
    "toy": dict(ddim_steps=50, image_size=128, num_images=32, cycle_images=True, checkpoint_every=50),
}
PRESETS = {
    "FMN": {"sd-v1": dict(lr=1e-5, iter_break=20), "toy": dict(lr=1e-4, iter_break=140)},
    "Abconcept": {"sd-v1": dict(lr=1e-6, iter_break=50), "toy": dict(lr=5e-5, iter_break=240)},
    "CiE": {
        "sd-v1": dict(lr=1e-6, iter_break=1000, threshold=5e-5, reg_beta=1e-5),
        "toy": dict(lr=1e-4, iter_break=100, threshold=0.0, reg_beta=3e-5),
    },
    "SepCE": {
        "sd-v1": dict(
            lr=1e-6, iter_break=1000, reg_beta=1e-5, scale_factor=1e-4, thresholds=[0.0, 0.00015, 0.0], min_iter=11
        ),
        "toy": dict(lr=0.1, iter_break=100, reg_beta=1e-3, scale_factor=1e-2, thresholds=[0.0], min_iter=40),
    },
    "SRS_ME": {
        "sd-v1": dict(lr=1e-6, iter_break=1000, reg_beta=1e-5, threshold=5e-5, scale_factor=1e-2, min_iter=11),
        "toy": dict(lr=0.1, iter_break=100, reg_beta=1e-6, threshold=0.0, scale_factor=1e-2, min_iter=40),
    },
}

# How null spaces are solved. The 96 dimensions of the embedded model's conditioning do not hold two prompts: there, directions
# whose singular value is below a share (tolerance) of the largest stay unprotected, and prompts are protected in several
# wordings, since what is protected is only these very texts.
NULL_SPACES = {
    "sd-v1": dict(basis="rref", tolerance=0.0, protect_as=["{}"]),
    "toy": dict(
        basis="svd",
        tolerance=4e-3,
        protect_as=["{}", "a painting by {}", "church by {}", "a painting of a tench in the style of {}"],
    ),
}

# What SepCE.py's flags say where they say nothing.
SEPCE_DEFAULTS = dict(
    mode="joint", known=[], protect=[], bases_dir=None, max_base=None, reg="coef_mean", balance="first", momentum=0.9
)  # fmt: skip

# Esd is methods/esd with other numbers: these come before its presets.
ESD_PRESETS = {
    "sd-v1": dict(iterations=50, lr=1e-5),
    "toy": dict(iterations=80, lr=1e-4),
}


def preset(method: str, family: str) -> dict[str, Any]:
    """Default settings of a script for a model family (``sd-v1`` or ``toy``)."""
    others = SEPCE_DEFAULTS | NULL_SPACES[family] if method == "SepCE" else {}
    return COMMON_PRESETS[family] | others | PRESETS[method][family]


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


def subset_suffix(chosen: Iterable[int]) -> str:
    """How the name of a SepCE model ends that erases some of a run's concepts, given by position: 13 for the first and third."""
    chosen = [str(j + 1) for j in chosen]
    return ("" if len(chosen) < 10 else "-").join(chosen)


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
            given = settings["thresholds"]
            given = given * len(concepts) if len(given) == 1 else given
            # published: "threshold1" for every concept but the first
            thresholds = "-".join(f"threshold{min(i, 1)}_{format_number(value)}" for i, value in enumerate(given))
            beta = float(settings["reg_beta"])
            name = name_part(f"train-{settings['mode']}-SepCE-{thresholds}-iter_{steps}_beta-{beta}-onlykv")
            return name + subset_suffix(range(len(concepts)))
        case "SRS_ME":
            lr, threshold, beta = (float(settings[name]) for name in ("lr", "threshold", "reg_beta"))
            return (
                f"train-sepme-{category}-scene_{settings['scenei']}-time_{settings['timei']}-lr_{lr}"
                f"-threshold_{threshold}-iter_{steps}-beta_{beta}-{index}"
            )
    raise ValueError(f"unknown method {method!r}")
