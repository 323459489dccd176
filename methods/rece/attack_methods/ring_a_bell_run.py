"""A run of RingABell.py: from its flags to a vector, images and a rate."""

import argparse
import re
from collections.abc import Collection, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from erasure import prompts, runs
from erasure.errors import UserError
from erasure.generation import command, models
from erasure.prompt_sets import prompt_file
from erasure.prompts import Row

_PUBLISHED = {  # concept -> RECE's files of pairs and of prompts, eta
    "nudity": ("dataset/nudity-ring-a-bell.csv", "dataset/nudity.csv", 3.0),
    "vangogh": ("dataset/vangogh-ring-a-bell.csv", "dataset/big_artist_prompts.csv", 0.9),
}
_ETA = 3.0
SUMMARY = "ring_a_bell.summary.json"


def run(args: argparse.Namespace) -> None:
    _check(args)
    choice = _choice(args)
    from erasure.generation import generate
    from erasure.generation.drawing import resolved
    from erasure.generation.presets import NAMINGS

    model, identity, family = models.load(args, choice)
    args.preset = args.preset or ("toy" if family == "toy" else "rece")
    files = _files(args, family)
    settings = resolved(command.settings_for(args, family, model.device.type), model)
    if family == "toy":
        _check_judged(settings.image_size)
    rows = _rows(args, files["prompts"], settings.default_seed)
    attack, facts = _attack(args, model, identity, files)
    folder = Path(args.img_path or Path("images") / "ring-a-bell" / _slug(args.concept) / choice.label)
    drawn = {"ddim_eta" if name == "eta" else name: value for name, value in asdict(settings).items()}
    runs.print_settings({"concept": args.concept, **facts, "rows": len(rows), "images": folder, **drawn})
    identity = identity | attack.identity()
    images = folder / "emb2imgs"
    print(generate(model, rows, images, settings, identity, overwrite=args.overwrite, encode=attack.encode(model)))
    drawn_files = {NAMINGS[settings.naming](row, k) for row in rows for k in range(settings.num_samples)}
    measured = _measured(args, family, folder, rows, drawn_files)
    runs.write_json(
        folder / SUMMARY,
        {"attack": facts, "concept": args.concept, "model": identity, "settings": drawn, **measured},
    )


def _check(args: argparse.Namespace) -> None:
    if args.attack_eta is not None and not abs(args.attack_eta) < float("inf"):
        raise UserError(f"--eta must be a number, not {args.attack_eta}")
    if not 0 <= args.threshold < 1:
        raise UserError(f"--threshold must be from 0 to below 1, not {args.threshold}")
    if not _slug(args.concept):
        raise UserError(f"--concept {args.concept!r} names nothing")
    if args.emb_path and (args.csv_file or args.num_prompts is not None):
        raise UserError("--emb_path takes a vector as it is: --csv_file and --num_prompts have no part in it")


def _check_judged(image_size: int) -> None:
    from toyworld.concepts import IMAGE_SIZE

    if image_size != IMAGE_SIZE:
        raise UserError(f"--image_size {image_size}: the embedded judge looks at {IMAGE_SIZE} pixels a side")


def _slug(concept: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", concept.lower()).strip("-")


def _choice(args: argparse.Namespace) -> models.Choice:
    """The base with --ckpt in it; of a base with two sets of weights, those that diffusers ships."""
    given = argparse.Namespace(
        model_name=args.ckpt or "original", base=args.base, config=args.config, exp_name=None, edit=[],
        weights=args.weights or "auto",
    )  # fmt: skip
    choice = models.choose_model(given)
    return replace(choice, weights="prefer_ema") if choice.weights == "auto" else choice


# ---- inputs --------------------------------------------------------------------------------------------------------


def _files(args: argparse.Namespace, family: str) -> dict[str, Any]:
    """The files of pairs and prompts, and eta: the user's, else the concept's. UserError for a file that is not there."""
    if family == "toy":
        pairs, rows, eta = *_toy_files(args.concept), _ETA
    else:
        pairs, rows, eta = _PUBLISHED.get(_slug(args.concept).replace("-", ""), (None, None, _ETA))
    found = {"eta": eta if args.attack_eta is None else args.attack_eta, "pairs": None}
    wanted = [("prompts", "--prompt_file", args.prompt_file or rows)]
    if not args.emb_path:
        wanted.append(("pairs", "--csv_file", args.csv_file or pairs))
    for name, flag, path in wanted:
        if path is None:
            raise UserError(f"no {name} for {args.concept!r} are known: name a file with {flag}")
        found[name] = prompt_file(path)
    return found


def _toy_files(concept: str) -> tuple[Path | None, Path | None]:
    from toyworld.attack_prompts import pairs_file, prompts_file

    try:
        files = pairs_file(concept), prompts_file(concept)
    except ValueError as error:
        raise UserError(str(error)) from None
    return tuple(path if path.is_file() else None for path in files)


def _rows(args: argparse.Namespace, path: Path, default_seed: int | None) -> list[Row]:
    rows = prompts.read_csv(path, default_seed)
    chosen = [
        r for r in rows if args.from_case <= r.case_number and (args.to_case is None or r.case_number < args.to_case)
    ]
    if not chosen:
        raise UserError(f"{path}: no case from {args.from_case} to before {args.to_case}")
    return chosen


def _attack(args: argparse.Namespace, model, identity: dict, files: dict):
    """(the attack, what it was made of); the vector is read, or made and saved."""
    from erasure.attacks import ring_a_bell
    from erasure.text_states import TextStates

    facts = {"eta": files["eta"]}
    if args.emb_path:
        vector = ring_a_bell.read_vector(args.emb_path)
        facts["vector"] = str(args.emb_path)
    else:
        pairs = ring_a_bell.sampled(ring_a_bell.read_pairs(files["pairs"]), args.num_prompts, args.seed)
        facts |= {"pairs": len(pairs), "csv_file": files["pairs"].name, "csv_sha256": runs.sha256_file(files["pairs"])}
        texts = TextStates.of(model)
        vector = ring_a_bell.vector_of(texts, pairs, progress=True)
        name = f"{_slug(args.concept)}_embedding_ring_a_bell.{args.save_format}"
        ring_a_bell.save_vector(vector, Path(args.output_path) / name, base=identity["base"]["sha256"], **facts)
        print(f"vector: {Path(args.output_path) / name}")
    attack = ring_a_bell.RingABell(vector, files["eta"])
    attack.attacked(
        model.get_learned_conditioning([""])[0]
    )  # a vector of another model is known before anything is drawn
    return attack, facts


# ---- success -------------------------------------------------------------------------------------------------------


def _measured(
    args: argparse.Namespace, family: str, folder: Path, rows: Sequence[Row], files: Collection[str]
) -> dict[str, Any]:
    """The rate of success with its definition; nothing for what no detector here can see.

    files: names of this run's images. Others in the folder may be of another attack, and do not count.
    """
    if family == "toy":
        measured = _judged(args.concept, folder, rows, files)
    elif _slug(args.concept) == "nudity":
        measured = _nudity(folder, args.threshold, files)
    else:
        print(f"no rate: NudeNet, which the published script asks here too, says nothing about {args.concept!r}")
        return {"success": None}
    rate = measured["success"]
    print(f"success of the attack: {100 * rate['value']:.2f}% of {rate['n']} images "
          f"[{100 * rate['low']:.0f}, {100 * rate['high']:.0f}]; {folder / SUMMARY}")  # fmt: skip
    return measured


def _judged(concept: str, folder: Path, rows: Sequence[Row], files: Collection[str]) -> dict[str, Any]:
    from erasure.metrics import judging
    from toyworld.attack_prompts import concept_of
    from toyworld.judge import JUDGE_PATH, load_judge

    kind, name = concept_of(concept)
    wanted = [replace(row, extra=row.extra | {"concept_kind": kind, "concept": name}) for row in rows]
    judged = judging.judge_folder(folder / "emb2imgs", wanted, load_judge().predict)
    judged = [one for one in judged if one.file in files]
    judging.write_judgements(judged, folder / "judged.csv")
    return {
        "metric": f"share of images in which the embedded judge sees {name}",
        "judge_sha256": runs.sha256_file(JUDGE_PATH),
        "success": judging.share_shown(judged).as_dict(),
    }


def _nudity(folder: Path, threshold: float, files: Collection[str]) -> dict[str, Any]:
    from erasure.metrics import nudenet

    detector = nudenet.NudeNet()
    seen = [one for one in nudenet.detections_of(folder, detector) if one.file in files]
    rate = nudenet.write_files(folder, seen, threshold, detector.identity)
    summary = nudenet.summary(rate, detector.identity)
    return summary | {"success": summary.pop("rate")}
