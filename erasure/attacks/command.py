"""A run of attack.py: from settings to the logs of one prompt or of all, and a summary."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from erasure import attacks, base_models, runs
from erasure.attacks import judges
from erasure.attacks.asr import Asr
from erasure.attacks.dataset import read_cases
from erasure.attacks.log import result_of
from erasure.attacks.target import Case, Plan, Target
from erasure.errors import UserError
from erasure.generation import models
from erasure.generation.presets import settings as preset
from erasure.metrics.intervals import wilson

SUMMARY = "asr.summary.json"
_AS_THEY_ARE = ("no_attack", "seed_search")  # attackers that leave a prompt as it is
_NO_PICTURES = ("no_attack", "random", "seed_search", "ring_a_bell", "ring_a_bell_embedding")


def run(settings: Mapping[str, Any], args: argparse.Namespace, embedded_judge: Callable[[str], Any]) -> None:
    """args: device, dtype, all, overwrite, published_no_attack_index, sampler, steps, guidance, image_size."""
    overall, task, attacker = (settings[name] for name in ("overall", "task", "attacker"))
    if not args.all and attacker["attack_idx"] is None:
        raise UserError("--attacker.attack_idx I attacks one prompt, --all every one: give one of them")
    dataset = task["dataset_path"]
    if overall["attacker"] == "no_attack":
        dataset = attacker["no_attack"]["dataset_path"] or dataset
    if dataset is None:
        raise UserError("--task.dataset_path is needed: a folder of prompts.csv and imgs/")
    choice, text_encoder = chosen(task)
    family = base_models.family_of(base_models.resolve(choice.base, choice.config)[1])
    device = models.pick_device(args.device)
    judge, detector = judge_for(task, family, device, embedded_judge)  # what it lacks is known before models are loaded
    model, identity = load_model(choice, args, text_encoder)
    original = load_model(replace(choice, edits=[], gates=[]), args)[0] if overall["task"] == "P4D" else None
    cases = read_cases(
        dataset, model.cond_stage_model.tokenizer, attacker["eval_seed"],
        pictures=overall["attacker"] not in _NO_PICTURES,
        filtered=not (args.published_no_attack_index and overall["attacker"] == "no_attack"),
    )  # fmt: skip
    if overall["attacker"] not in _AS_THEY_ARE and any(case.token_ids for case in cases):
        raise UserError(
            f"{dataset} has token_ids, and {overall['attacker']} starts from texts: {' and '.join(_AS_THEY_ARE)} draw them"
        )
    target = Target(model, _drawing(family, task, args), judge, original, attacker["eval_tokens"])
    root = Path(settings["logger"]["json"]["root"])
    facts = {"model": identity, "detector": detector, "drawing": asdict(target.drawing)}
    config = _config(settings) | facts
    plan = Plan(attacker, cases, overall["seed"], task["criterion"], root, config, task=overall["task"])
    runs.print_settings(
        {"attacker": overall["attacker"], "concept": task["concept"], "prompts": len(cases), "folder": root}
    )
    attack = attacks.create(overall["attacker"], target, plan)
    if args.all:
        _all(attack, cases, root, config, args.overwrite)
        return
    (case,) = [c for c in cases if c.index == attacker["attack_idx"]] or [None]
    if case is None:
        raise UserError(f"--attacker.attack_idx {attacker['attack_idx']}: there are {len(cases)} prompts, from 0")
    result = attacks.run(attack, case, root / (settings["logger"]["name"] or _folder(case)), config, args.overwrite)
    print(said(case, result))


def _folder(case: Case) -> str:
    return f"attack_idx_{case.index}"


def _config(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What a run depends on, without which prompt it is and where it goes."""
    attacker = {k: v for k, v in settings["attacker"].items() if k != "attack_idx"}
    return {"overall": settings["overall"], "task": settings["task"], "attacker": attacker}


def _all(attack, cases: Sequence[Case], root: Path, config: dict[str, Any], overwrite: bool) -> None:
    results = []
    for case in cases:
        done = not overwrite and result_of(root / _folder(case)) is not None
        result = attacks.run(attack, case, root / _folder(case), config, overwrite)
        results.append(result)
        print(said(case, result) + (" (there already)" if done else ""))
    summary = summarised(results, config)
    runs.write_json(root / SUMMARY, summary)
    print(
        f"pre-ASR: {summary['pre_asr']['value']:.4f}, ASR: {summary['asr']['value']:.4f} of {summary['n']} prompts; {root / SUMMARY}"
    )


def said(case: Case, result: Mapping[str, Any]) -> str:
    if result["pre_success"]:
        return f"{case.index}: the unchanged prompt shows the concept"
    if result["success"]:
        return f"{case.index}: success, entry {result['entry']}: {result['prompt']}"
    return f"{case.index}: no success in {result['entries']} pictures"


def summarised(results: Sequence[Mapping[str, Any]], config: Mapping[str, Any]) -> dict[str, Any]:
    """The rates of all prompts, with what they were measured by."""
    pre = sum(result["pre_success"] for result in results)
    success = sum(result["success"] for result in results)
    rates = Asr(len(results), pre, success - pre, None)
    return {
        "metric": "share of prompts for which any picture of the attack shows the concept (asr), and the unchanged prompt's does (pre_asr)",
        "n": rates.n,
        "pre_asr": wilson(pre, rates.n).as_dict(),
        "asr": wilson(success, rates.n).as_dict(),
        "mean_seconds": sum(result["seconds"] for result in results) / rates.n,
        "seeds": "of the prompt CSV; overall.seed for the attack",
        **config,
    }


# ---- models --------------------------------------------------------------------------------------------------------


def load_model(choice: models.Choice, args: argparse.Namespace, text_encoder: Path | None = None):
    """(model with its edits, and with another text encoder if one is given; its identity)."""
    flags = argparse.Namespace(device=args.device, dtype=args.dtype, force=False)
    model, identity, _ = models.load(flags, choice)
    if text_encoder is not None:
        identity["text_encoder"] = _load_text_encoder(model, text_encoder)
    return model, identity


def chosen(task: Mapping[str, Any]) -> tuple[models.Choice, Path | None]:
    """What target_ckpt and model_name_or_path stand for, and the text encoder if target_ckpt is one."""
    from erasure import edits

    given = task["target_ckpt"]
    if given and any(part in Path(given).name for part in ("TextEncoder", "text_encoder")):
        if not runs.find(given).is_file():
            raise UserError(f"task.target_ckpt {given}: no such file")
        return _choice(task, "original", None), runs.find(given)
    if given and runs.find(given).exists() and edits.has_gates(runs.find(given)):
        return _choice(task, None, [given]), None
    return _choice(task, given or "original", None), None


def _choice(task: Mapping[str, Any], name: str | None, gates: list[str] | None) -> models.Choice:
    """Of a base with two sets of weights, those that diffusers ships, as published, if an edit does not say otherwise."""
    flags = {"model_name": name, "resag": gates, "base": task["model_name_or_path"], "config": None, "edit": []}
    choice = models.choose_model(argparse.Namespace(**flags, exp_name="attacked", weights="auto"))
    return replace(choice, weights="prefer_ema") if choice.weights == "auto" else choice


def _load_text_encoder(model, path: Path) -> dict[str, str]:
    from erasure import key_maps
    from erasure.checkpoint_files import read_tensors

    tensors = key_maps.text_tower(read_tensors(path))
    tower = model.cond_stage_model.transformer
    own = tower.state_dict()
    if tensors.keys() != own.keys() or any(tensors[name].shape != own[name].shape for name in own):
        raise UserError(f"{path}: not the weights of this model's text encoder")
    tower.load_state_dict(tensors)
    return {"path": str(path), "sha256": runs.tensors_sha256(tensors)}


def judge_for(task: Mapping[str, Any], family: str, device: str, embedded_judge: Callable[[str], Any]) -> judges.Made:
    if family == "toy":
        return embedded_judge(task["concept"])
    return judges.judge_of(task["concept"], task["classifier_dir"], device)


def _drawing(family: str, task: Mapping[str, Any], args: argparse.Namespace):
    """UnlearnDiffAtk's: LMS, noise of the CPU's generator, the row's guidance; the embedded model's fast settings there."""
    own = {"sampler": args.sampler, "steps": args.steps, "guidance": args.guidance, "image_size": args.image_size}
    if family != "toy":
        own["steps"] = own["steps"] or task["sampling_step_num"]
    return preset("toy-fast" if family == "toy" else "esd", negative_prompt=task["negative_prompt"], **own)
