"""A run of train_cpe.py: concepts one after the other, or side by side on several devices."""

import argparse
import contextlib
import multiprocessing
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from erasure import devices, errors, runs
from erasure.base_flags import load_base
from erasure.base_models import published_base, resolve
from erasure.errors import UserError
from erasure.training.naming import plain
from methods.cpe.yaml_files import read_config, read_yaml

PUBLISHED_BASE = "CompVis/stable-diffusion-v1-4"  # in configurations: the default base
_NONE_IS_MINUS_1 = ("guidance_scale", "pal", "gate_rank", "lora_rank", "resume_stage")
_TO_SETTINGS = {"guidance_scale": "guidance", "lora_rank": "rank", "noise": "noise_scale"}


@dataclass
class Plan:
    """What flags and configuration ask for."""

    settings: list[Any]  # CpeSettings of the chosen concepts
    targets: list[str]  # of all concepts in the list, chosen or not
    skip_learned: bool


def main(arguments: argparse.Namespace) -> int | None:
    """From flags to files; returns the exit code."""
    from methods.cpe.settings import as_type, mapping_in

    base = mapping_in(read_config(arguments.config_file, ""), "pretrained_model")
    if base.get("v2"):
        raise UserError("pretrained_model.v2: Stable Diffusion 2 has another architecture, and only v1 can be loaded")
    arguments.ckpt_path = published_base(arguments.ckpt_path or arguments.base)
    if arguments.ckpt_path is None and base.get("name_or_path") not in (None, PUBLISHED_BASE):
        arguments.ckpt_path = as_type(str, base["name_or_path"], "pretrained_model.name_or_path")
    _, config_path = resolve(arguments.ckpt_path, arguments.config_path, arguments.unsafe_pickle)
    from erasure.base_models import family_of

    plan = plan_of(arguments, family_of(config_path))  # mistakes show before gigabytes are read
    places = devices.parse_devices(arguments.places) if arguments.places else [arguments.device]
    check_devices(places if arguments.places else (), arguments.cache_device)
    if len(places) == 1:
        (arguments.device,) = places
        return train_all(arguments, plan)
    return side_by_side(arguments, plan, places)


def check_devices(places: Sequence[str], cache_device: str | None) -> None:
    """UserError for a device that is not here, before there are several processes to say so."""
    import torch

    for place in (*places, cache_device):
        if place is not None:
            devices.choose_device(place, torch.cuda.device_count())


def plan_of(arguments: argparse.Namespace, family: str) -> Plan:
    """UserError for a configuration, list or flag that cannot be used."""
    from methods.cpe.preparing import concepts_of
    from methods.cpe.settings import CpeSettings, as_type, mapping_in

    config = read_config(arguments.config_file, family)
    prompts_file = as_type(str, config.get("prompts_file") or "", "prompts_file")
    if not prompts_file:
        raise UserError(f"{arguments.config_file}: no prompts_file")
    entries = concepts_of(read_yaml(prompts_file), prompts_file)
    train, flags = mapping_in(config, "train"), given(arguments)
    settings = [CpeSettings.of(config, entry, flags) for entry in chosen(entries, arguments, train)]
    if arguments.output_root:
        settings = [replace(s, folder=str(Path(arguments.output_root) / s.folder)) for s in settings]
    skip = arguments.skip_learned
    if skip is None:
        skip = as_type(bool, train.get("skip_learned") or False, "skip_learned")
    folders = [s.folder for s in settings]
    if twice := next((s for s in settings if folders.count(s.folder) > 1), None):
        raise UserError(f"two concepts of the run, {twice.target!r} and another, have the folder {twice.folder}")
    targets = dict.fromkeys([*(str(entry["target"]) for entry in entries), *(s.target for s in settings)])
    return Plan(settings, list(targets), skip)


def given(arguments: argparse.Namespace) -> dict[str, Any]:
    """The flags that the user gave, by the names of settings, and the noise as it was typed.

    The published defaults, "" and -1, are as good as none.
    """
    flags = {name: value for name, value in vars(arguments).items() if value not in (None, "")}
    flags = {name: value for name, value in flags.items() if name not in _NONE_IS_MINUS_1 or value != -1}
    return {_TO_SETTINGS.get(name, name): value for name, value in flags.items()} | {"noise": flags.get("noise")}


def chosen(entries: Sequence[Mapping], arguments: argparse.Namespace, train: Mapping[str, Any]) -> list[Mapping]:
    """The entries that --concepts names, else those from --st_prompt_idx to --end_prompt_idx, included. UserError for none."""
    from methods.cpe.settings import as_type

    if arguments.concepts:
        return named(entries, [name.strip() for name in arguments.concepts.split(",") if name.strip()])

    def index(name: str, default: int) -> int:
        flag, set_there = getattr(arguments, name), train.get(name)
        if flag is not None and flag >= 0:
            return flag
        return default if set_there is None else max(0, as_type(int, set_there, name))

    first, last = index("st_prompt_idx", 0), index("end_prompt_idx", len(entries) - 1)
    found = list(entries[first : last + 1])
    if not found:
        raise UserError(f"no concept from {first} to {last}: the list has {len(entries)}")
    return found


def named(entries: Sequence[Mapping], names: Sequence[str]) -> list[Mapping]:
    """The entries of these concepts. One that the list does not have gets the settings of its first concept."""
    of_list, once = {plain(str(entry["target"])): entry for entry in entries}, {}
    for name in names:
        once.setdefault(plain(name), name)
    if not names:
        raise UserError("--concepts names none")
    if others := [name for key, name in once.items() if key not in of_list]:
        print(f"not in the list, with the settings of {entries[0]['target']!r} there: {', '.join(others)}")
    own = {key: dict(entries[0]) | {"target": name, "positive": name} for key, name in once.items()}
    return [of_list.get(key, entry) for key, entry in own.items()]


# ---- training ------------------------------------------------------------------------------------------------------


def train_all(arguments: argparse.Namespace, plan: Plan) -> int | None:
    """Train the plan's concepts on the device of the flags, one after the other."""
    todo = [s for s in plan.settings if not (plan.skip_learned and not arguments.force and _learned(s))]
    if skipped := [s.target for s in plan.settings if s not in todo]:
        print(f"learned already, whatever the settings were: {', '.join(skipped)} (--no-skip_learned compares them)")
    if not todo:
        return None
    model, identity = load_base(arguments)
    from methods.cpe.preparing import Preparation

    preparation = Preparation(model, plan.targets, arguments.cache_device)
    runs.print_settings({name: v for name, v in todo[0].to_dict().items() if name not in ("target", "folder")})
    made = []
    for s in todo:
        try:
            made.append(_train(preparation, identity, s, arguments))
        except KeyboardInterrupt:
            return errors.stopped((Path(s.folder) / "checkpoint.safetensors").is_file())
    _print_made(made)
    return None


def _train(preparation, identity, s, arguments: argparse.Namespace) -> Path:
    """Gates of one concept: trained, resumed, or found finished."""
    from erasure.edits import Edit
    from methods.cpe.run_folder import RunFolder
    from methods.cpe.training import train

    folder = RunFolder(Path(s.folder), s, identity)
    found = folder.open(arguments.resume, arguments.force)
    if isinstance(found, Edit):
        print(f"{s.target}: {folder.edit_file} is there, finished (--force trains it again)")
        return folder.edit_file
    if found is None and s.resume_stage:
        folder.read_stage(s.resume_stage)  # what is wrong with its files shows before minutes of encoding
    problem = preparation.problem(s)
    count = len(problem.protected)
    print(f"{s.target}: {len(problem.target)} templates, {count} anchors, on {problem.device}")
    train(problem, folder, found)
    return folder.edit_file


def _last(s) -> Path:
    return Path(s.folder) / f"{s.name}_last.safetensors"


def _learned(s) -> bool:
    return _last(s).is_file()


def _print_made(made: Sequence[Path]) -> None:
    from erasure.generation.next_step import print_generate_command, print_written

    print_written(made)
    group = made[0].parent.parent
    print_generate_command("original", "--resag", str(group if len(made) > 1 else made[0]))


# ---- several devices -----------------------------------------------------------------------------------------------


def side_by_side(arguments: argparse.Namespace, plan: Plan, places: Sequence[str]) -> int | None:
    """One process a device, each with its share of the concepts. The first failure's exit code, if any."""
    workers, stopped = [], None

    def pass_on(*_):
        for worker in workers:
            worker.terminate()
        raise KeyboardInterrupt

    earlier = signal.signal(signal.SIGTERM, pass_on)
    try:
        for i, place in enumerate(places[: len(plan.settings)]):
            own = argparse.Namespace(**vars(arguments) | {"device": place})
            mine = Plan(plan.settings[i :: len(places)], plan.targets, plan.skip_learned)
            worker = multiprocessing.get_context("spawn").Process(target=_worker, args=(own, mine, len(places)))
            worker.start()
            workers.append(worker)
        for worker in workers:
            worker.join()
    except KeyboardInterrupt:  # the workers have been told, too: they save and stop
        stopped = errors.INTERRUPTED
        for worker in workers:
            worker.join()
    finally:
        signal.signal(signal.SIGTERM, earlier)
    codes = [worker.exitcode for worker in workers if worker.exitcode]
    return next((code if code > 0 else 128 - code for code in codes), stopped)


def _worker(arguments: argparse.Namespace, plan: Plan, count: int) -> None:
    import torch

    with contextlib.suppress(RuntimeError):
        torch.set_num_threads(max(1, torch.get_num_threads() // count))
    errors.run(lambda: train_all(arguments, plan))
