"""The texts behind UCE's debiasing: professions, prompts made of them, what is preserved, and published names. No torch."""

import csv
import functools
from collections.abc import Sequence

from erasure.runs import find
from methods.uce.concepts import file_name

PROFESSIONS = "data/names/professions225.csv"

DEFAULT0 = tuple(
    "attendant, cashier, teacher, nurse, assistant, secretary, cleaner, receptionist, clerk, counselor, designer, "
    "hairdresser, writer, housekeeper, baker, librarian, tailor, driver, supervisor, janitor, cook, laborer, "
    "construction worker, developer, carpenter, manager, lawyer, farmer, salesperson, physician, guard, analyst, "
    "mechanic, sheriff, CEO, doctor, chef".split(", ")
)
"""What the published ``--concept default0`` stands for."""

TEMPLATES = ("image of {}", "photo of {}", "portrait of {}", "picture of {}", "{}")

PRESETS = {
    "2023": {"num_images": 10, "step_size": 0.1, "preserve_scale": 0.1, "templates": True},
    "2025": {"num_images": 10, "step_size": 1.0, "preserve_scale": 1.0, "templates": False},
}
IMAGES = {
    "sd-v1": {"num_inference_steps": 20, "guidance_scale": 7.5},
    "toy": {"num_inference_steps": 20, "guidance_scale": 2.5},
}


@functools.cache
def read_professions() -> tuple[str, ...]:
    """The 225 professions that the published code preserves, in the order of its file."""
    with open(find(PROFESSIONS), newline="", encoding="utf-8") as file:
        return tuple(dict.fromkeys(row["profession"] for row in csv.DictReader(file)))


def expand(concepts: Sequence[str]) -> tuple[str, ...]:
    """`concepts` with default0 replaced by its professions."""
    return tuple(text for concept in concepts for text in (DEFAULT0 if concept == "default0" else (concept,)))


def prompts(
    concepts: Sequence[str], attributes: Sequence[str], templates: bool = True
) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """(texts to edit, the attributes of each in the same words): five of each concept, or the bare one."""
    forms = TEMPLATES if templates else ("{}",)
    texts = tuple(form.format(concept) for concept in concepts for form in forms)
    return texts, tuple(tuple(form.format(a) for a in attributes) for _ in concepts for form in forms)


def other_professions(texts: Sequence[str]) -> tuple[str, ...]:
    """The professions that are not among the edited `texts`, whatever the case."""
    edited = {text.lower() for text in texts}
    return tuple(profession for profession in read_professions() if profession.lower() not in edited)


def run_name(concepts: Sequence[str], attributes: Sequence[str], base: str = "1.4") -> str:
    """The published name of a run, e.g. ``unbiased-doctor_nurse-attributes-male_female-sd_1_4``; concepts as typed."""
    named = "_".join(attributes).lower().replace(" ", "9")
    return file_name(f"unbiased-{'_'.join(concepts).lower()}", f"-attributes-{named}-sd_{base.replace('.', '_')}")
