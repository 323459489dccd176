"""The configuration of attack.py: UnlearnDiffAtk's sections and keys, ours beside them, from a JSON file and flags.

    settings = resolve("configs/attacks/nudity/text_grad.json", {"attacker.attack_idx": 3})
    settings["attacker"]["text_grad"]["lr"]

Imports no torch: a command says what is wrong with it before anything loads.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from erasure import attacks, runs
from erasure.errors import UserError

FOLDER = "configs/attacks"
TASKS = ("classifier", "P4D", "transfer")
_UNKNOWN_TASKS = {"sd_guidence": "its loss is not part of this version"}
_NO_CODE = ("gcg", "hard_prompt_multi")  # named in the published parser, and without code there


@dataclass(frozen=True)
class Key:
    """One key: its default (None: none), type, and what it means."""

    default: Any
    kind: type
    about: str
    choices: tuple[str, ...] = ()


_CCE = "general knowledge of the method, not read from published code"
KEYS: dict[str, Key] = {
    "overall.task": Key("classifier", str, "loss of white-box attacks: the picture's noise, or with P4D what the original model predicts", (*TASKS, *_UNKNOWN_TASKS)),
    "overall.attacker": Key(None, str, "the attack", (*attacks.NAMES, *_NO_CODE)),
    "overall.logger": Key("json", str, "how results are kept", ("json", "none")),
    "overall.resume": Key(None, str, "accepted: a folder's run is gone on with by its name alone"),
    "overall.seed": Key(0, int, "of everything that is drawn"),
    "task.concept": Key(None, str, "what is to come back: of configs/attacks/concepts.json, or any of the embedded model's"),
    "task.sld": Key(None, str, "guidance of Safe Latent Diffusion: not part of this version", ("weak", "medium", "strong", "max")),
    "task.sld_concept": Key(None, str, "its concept"),
    "task.negative_prompt": Key("", str, "of the drawn pictures"),
    "task.model_name_or_path": Key(None, str, "the original model: toy, a checkpoint or a diffusers folder"),
    "task.target_ckpt": Key(None, str, "what was erased from it: an edit, a run, gates or weights; a name with text_encoder in it holds a text encoder"),
    "task.cache_path": Key(".cache", str, "accepted and not needed"),
    "task.dataset_path": Key(None, str, "folder of prompts.csv and imgs/ (generate_dataset.py makes it)"),
    "task.criterion": Key("l2", str, "distance of predictions", ("l1", "l2")),
    "task.classifier_dir": Key(None, str, "weights of the detector, where they are the user's"),
    "task.sampling_step_num": Key(50, int, "steps of the sampler on Stable Diffusion"),
    "attacker.insertion_location": Key("prefix_k", str, "where tokens go", ("prefix_k", "suffix_k", "mid_k", "insert_k", "per_k_words")),
    "attacker.k": Key(3, int, "tokens that are added"),
    "attacker.iteration": Key(40, int, "updates for every time; tries of random and seed_search"),
    "attacker.seed_iteration": Key(20, int, "accepted and not needed"),
    "attacker.eval_seed": Key(0, int, "of prompts whose CSV has no seeds"),
    "attacker.universal": Key(False, bool, "true has no code, as published"),
    "attacker.attack_idx": Key(None, int, "which prompt; those with more than 60 tokens are not counted"),
    "attacker.sequential": Key(True, bool, "false has no code, as published"),
    "attacker.timesteps": Key(50, int, "times of the process that white-box attacks go through (ours)"),
    "attacker.eval_tokens": Key("retokenized", str, "found tokens are drawn as the text they make, or as they are (ours)", ("retokenized", "ids")),
    "attacker.text_grad.lr": Key(0.01, float, "of Adam"),
    "attacker.text_grad.weight_decay": Key(0.1, float, "part of the gradient"),
    "attacker.text_grad.rand_init": Key(False, bool, "start from a random distribution"),
    "attacker.hard_prompt.lr": Key(0.01, float, "of Adam"),
    "attacker.hard_prompt.weight_decay": Key(0.1, float, "part of the gradient"),
    "attacker.hard_prompt.num_data": Key(5, int, "accepted and not needed, as published"),
    "attacker.no_attack.dataset_path": Key(None, str, "in place of task.dataset_path"),
    "attacker.ring_a_bell.vector": Key(None, str, "a concept's vector, .safetensors or .pt"),
    "attacker.ring_a_bell.pairs_csv": Key(None, str, "prompts with and without the concept, to make it of"),
    "attacker.ring_a_bell.cof": Key(3.0, float, "how far to go"),
    "attacker.ring_a_bell.population": Key(200, int, "of the genetic search"),
    "attacker.ring_a_bell.generations": Key(3000, int, "of it"),
    "attacker.ring_a_bell.mutation": Key(0.25, float, "rate"),
    "attacker.ring_a_bell.crossover": Key(0.5, float, "rate"),
    "attacker.ring_a_bell.length": Key(16, int, "free tokens"),
    "attacker.ring_a_bell.elite": Key(0, int, "of the best, never mutated (ours)"),
    "attacker.concept_inversion.init": Key("object", str, f"word that the token starts from ({_CCE}, as all of this section)"),
    "attacker.concept_inversion.images": Key(6, int, "pictures to learn from"),
    "attacker.concept_inversion.steps": Key(1000, int, "of AdamW"),
    "attacker.concept_inversion.batch": Key(4, int, "pictures a step"),
    "attacker.concept_inversion.lr": Key(5e-3, float, "of AdamW"),
    "attacker.concept_inversion.weight_decay": Key(1e-2, float, "of AdamW"),
    "attacker.concept_inversion.templates": Key(["a photo of a <c>", "a picture of a <c>", "an image of a <c>"], list, "texts to learn with"),
    "attacker.concept_inversion.prompt": Key("a photo of a <c>", str, "text to draw"),
    "logger.name": Key(None, str, "folder of the run (default: attack_idx_I)"),
    "logger.json.root": Key("files/logs", str, "folder of the runs' folders"),
}  # fmt: skip


def find_config(path: str | os.PathLike) -> Path:
    """A configuration: as named, or of `FOLDER`. UserError if there is none."""
    tried = [runs.find(path), runs.find(Path(FOLDER) / path), runs.find(Path(FOLDER, *Path(path).parts[1:]))]
    found = next((p for p in tried if p.is_file()), None)
    if found is None:
        raise UserError(f"--config-file {path}: no such file; {FOLDER} has those of every concept")
    return found


def resolve(config: str | os.PathLike | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings: defaults, then the file's, then those given by their dotted names. UserError for a mistake in them."""
    values = {name: key.default for name, key in KEYS.items()}
    if config is not None:
        path = find_config(config)
        values |= {name: _typed(name, value, path) for name, value in _flat(_read(path), path)}
    values |= {name: _typed(name, value, "command line") for name, value in given.items() if value is not None}
    _check(values)
    return _nested(values)


def _read(path: Path) -> dict:
    try:
        found = runs.read_json(path)
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise UserError(f"{path}: sections are expected, overall, task, attacker and logger")
    return found


def _flat(node: Mapping[str, Any], path: Path, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in node.items():
        dotted = f"{prefix}{name}"
        if dotted in KEYS:
            yield dotted, value
        elif isinstance(value, Mapping) and any(key.startswith(dotted + ".") for key in KEYS):
            yield from _flat(value, path, dotted + ".")
        else:
            raise UserError(f"{path}: no setting {dotted!r}")


def _typed(name: str, value: Any, source) -> Any:
    """The value in the key's type; text of a command line is read as it."""
    key = KEYS[name]
    if value is None:
        return None
    if isinstance(value, str) and key.kind is not str:
        value = _parsed(name, value, key.kind, source)
    if key.kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, key.kind) or (key.kind is int and isinstance(value, bool)):
        raise UserError(f"{source}: {name} must be of type {key.kind.__name__}, not {value!r}")
    if key.choices and value not in key.choices:
        raise UserError(f"{source}: {name} {value!r} is not one of {', '.join(key.choices)}")
    return value


def _parsed(name: str, text: str, kind: type, source) -> Any:
    if kind is bool and text.lower() in ("true", "false", "1", "0"):
        return text.lower() in ("true", "1")
    if kind is list:
        return [part.strip() for part in text.split(";")]
    try:
        return {int: int, float: float}[kind](text)
    except (ValueError, KeyError):
        raise UserError(f"{source}: {name} must be of type {kind.__name__}, not {text!r}") from None


def _check(values: Mapping[str, Any]) -> None:
    for name in ("overall.attacker", "task.concept"):
        if values[name] is None:
            raise UserError(f"--{name} is needed, in the configuration or as a flag")
    if values["overall.attacker"] in _NO_CODE:
        raise UserError(
            f"overall.attacker {values['overall.attacker']}: the published repository names it and has no code for it"
        )
    if (task := values["overall.task"]) in _UNKNOWN_TASKS:
        raise UserError(f"overall.task {task}: {_UNKNOWN_TASKS[task]}; choose from {', '.join(TASKS)}")
    if task == "transfer" and values["overall.attacker"] != "no_attack":
        raise UserError(
            "overall.task transfer draws the prompts of a data set as they are: use --overall.attacker no_attack"
        )
    if values["task.sld"] is not None:
        raise UserError("task.sld: guidance of Safe Latent Diffusion is not part of this version")
    if values["attacker.universal"] or not values["attacker.sequential"]:
        raise UserError("attacker.universal true and attacker.sequential false have no code, as published")
    for name in values:
        last = name.rsplit(".", 1)[1]
        if last in _COUNTS and values[name] < 1:
            raise UserError(f"{name} must be at least 1, not {values[name]}")


_COUNTS = (
    "k",
    "iteration",
    "timesteps",
    "population",
    "generations",
    "length",
    "images",
    "steps",
    "batch",
    "sampling_step_num",
)


def _nested(values: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        *sections, last = name.split(".")
        node = found
        for section in sections:
            node = node.setdefault(section, {})
        node[last] = value
    return found
