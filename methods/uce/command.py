"""The command line that UCE's erasing scripts share: flags of both generations, a run, and what it writes and prints."""

import argparse
import json
from pathlib import Path

from erasure import runs
from erasure.base_flags import add_base_flags, load_base
from erasure.errors import UserError
from methods.uce import concepts
from methods.uce.settings import FORMATS, NAME_2025, TECHNIQUES, VARIANTS, Plan, UceSettings

_HUB_NAMES = {"compvis/stable-diffusion-v1-4": "1.4"}
_SHOWN = 10  # texts


# ---- flags ---------------------------------------------------------------------------------------------------------


def build_parser(prog: str, description: str, concept_type: str | None = None) -> argparse.ArgumentParser:
    """concept_type: the default; None where the flag is required."""
    parser = argparse.ArgumentParser(
        prog=prog, description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    _add_text_flags(parser, concept_type)
    _add_solver_flags(parser)
    add_model_and_output_flags(parser)
    return parser


def add_model_and_output_flags(parser: argparse.ArgumentParser):
    """Flags of all UCE scripts; returns the group of the output's."""
    add_base_flags(parser)
    parser.add_argument_group("base model, as 2025 names it").add_argument("--model_id", help="the same as --base")
    out = parser.add_argument_group("output")
    out.add_argument(
        "--save_path", "--save_dir", help="folder of run folders (default: models, here or in the repository)"
    )
    out.add_argument(
        "--save_format", choices=FORMATS, default=FORMATS[0],
        help="beside the edit also the published file: the UNet under diffusers' names; in 2025 what was edited of it "
        "(default: %(default)s, only the edit)",
    )  # fmt: skip
    out.add_argument("--exp_name", help=f"name of the run (default: the published tag; in 2025 {NAME_2025})")
    return out


def take_model_id(arguments: argparse.Namespace) -> None:
    """Make --base of --model_id. UserError if there is one already."""
    if not arguments.model_id:
        return
    if arguments.base or arguments.ckpt_path:
        raise UserError("--model_id is another name of --base and --ckpt_path: give one of them")
    arguments.base = _HUB_NAMES.get(arguments.model_id.lower(), arguments.model_id)


def _add_text_flags(parser: argparse.ArgumentParser, concept_type: str | None) -> None:
    group = parser.add_argument_group(
        "what to erase", "Lists are divided by ';' where one of them has it, else by ','. Names of 2025 mean the same."
    )
    group.add_argument(
        "--concepts", "--edit_concepts", required=True,
        help=f"list; {', '.join(concepts.PRESETS)}, or <N>artists for N of {concepts.ARTISTS}",
    )  # fmt: skip
    group.add_argument(
        "--guided_concepts", "--guided_concept", "--guide_concepts", "--guide_concept",
        help="what they are to be answered like: one text, or one for each (default: the empty one; in 2025 art for art)",
    )  # fmt: skip
    group.add_argument(
        "--preserve_concepts",
        help="list of what is to stay (default: for art all other artists of the file, in 2025 nothing)",
    )
    group.add_argument("--preserve_number", type=int, help="so many of those artists, drawn by --seed")
    group.add_argument(
        "--concept_type", required=concept_type is None, default=concept_type,
        help="art, object, unsafe, ..." + (f" (default: {concept_type})" if concept_type else ""),
    )  # fmt: skip
    group.add_argument(
        "--add_prompts", "--expand_prompts", type=_truth, nargs="?", const=True, default=False, metavar="BOOL",
        help="erase five prompts with each concept, too (default: false)",
    )  # fmt: skip


def _add_solver_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("closed form")
    group.add_argument(
        "--variant", choices=VARIANTS, default=VARIANTS[0],
        help="2023, the paper's numbers: texts from their last token on; 2025: last tokens only (default: %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--technique", choices=TECHNIQUES, default=TECHNIQUES[0],
        help="answer as the guide, or as the guide without the concept's direction (default: %(default)s)",
    )  # fmt: skip
    group.add_argument("--erase_scale", type=float, default=1.0, help="weight of what is erased (default: %(default)g)")
    group.add_argument(
        "--preserve_scale", type=float,
        help="of each preserved text (default: 1/their number, the empty one included, and at least 0.1; in 2025 1)",
    )  # fmt: skip
    group.add_argument("--lamb", type=float, default=0.5, help="of the weights as they are (default: %(default)g)")
    keys = group.add_mutually_exclusive_group()
    keys.add_argument("--with_to_k", action="store_true", default=True, help="edit keys and values (default)")
    keys.add_argument("--no_to_k", dest="with_to_k", action="store_false", help="edit only values")
    group.add_argument(
        "--layers", type=_positions, metavar="N,N,...",
        help="only these projections: values of down, up and mid blocks from 0 on, then keys (SD v1: 0-15, 16-31)",
    )  # fmt: skip
    group.add_argument("--sequential", action="store_true", help="one concept after the other (default: all at once)")
    group.add_argument("--seed", type=int, default=0, help="of artists that are drawn (default: %(default)s)")


def _truth(text: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text.lower() in ("true", "1")


def _positions(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers such as 0,1,16") from None


# ---- a run ---------------------------------------------------------------------------------------------------------


def main(parser: argparse.ArgumentParser, argv: list[str] | None = None) -> int:
    arguments = parser.parse_args(argv)
    take_model_id(arguments)
    settings = UceSettings.of(arguments)
    plan = settings.plan(concepts.read_artists())  # a mistake among the flags shows before gigabytes are read
    for note in plan.notes:
        print(f"note: {note}")
    model, identity = load_base(arguments)
    plan = settings.plan(*concepts.world(identity.family))
    runs.print_settings(_shown(settings, plan))

    from methods.uce.run import erase

    run = erase(model, identity, settings, plan)
    print_report(run, plan)
    folder = Path(arguments.save_path) if arguments.save_path else runs.find("models")
    files = write(run, model, identity, settings, plan, folder, arguments.save_format)

    from erasure.generation.next_step import print_generate_command, print_written

    print_written(files)
    print_generate_command(str(folder / plan.name) if arguments.save_path else plan.name)
    return 0


def _shown(settings: UceSettings, plan: Plan) -> dict:
    """Resolved settings, lists spelled out."""
    lists = {
        "concepts": plan.concepts,
        "guided_concepts": dict.fromkeys(plan.guides),
        "preserve_concepts": plan.preserved,
    }
    return settings.resolved(plan).to_dict() | {name: few_texts(texts) for name, texts in lists.items()}


def few_texts(texts) -> str:
    """For messages: the first of them, and how many there are."""
    texts = [repr(text) for text in texts]
    more = f", ... ({len(texts)} in all)" if len(texts) > _SHOWN else ""
    return ", ".join(texts[:_SHOWN]) + more if texts else "none"


def print_report(run, plan: Plan) -> None:
    from methods.uce.closed_form import CONDITION_WARNING

    print(f"edited in {run.seconds:.2f} s; condition number of the closed form {run.condition:.1e}")
    if run.condition > CONDITION_WARNING:
        print(f"warning: above {CONDITION_WARNING:.0e} the result is no more than noise may make it: raise --lamb")
    if run.kept:
        print(f"warning: kept as they are, being their own guide: {few_texts(run.kept)}")
    left = {text: share for text, share in run.check.left.items() if share is not None}
    guides = {pair.text: pair.guide for pair in plan.pairs}
    worst = sorted(left, key=left.get, reverse=True)[:_SHOWN]
    print("answers of keys and values" + (f" (the {_SHOWN} erased least)" if len(left) > _SHOWN else "") + ":")
    lines = [(f"{text!r} -> {guides[text]!r}", f"{1 - left[text]:.1%} of the way") for text in worst]
    changes = {"preserved texts": run.check.preserved, "the empty text": run.check.empty, "weights": run.check.weights}
    lines += [(name, f"changed by {share:.2%}") for name, share in changes.items() if share is not None]
    width = max(len(name) for name, _ in lines)
    print(*(f"  {name:<{width}}  {what}" for name, what in lines), sep="\n")


def write(run, model, identity, settings: UceSettings, plan: Plan, folder: Path, save_format: str) -> list[Path]:
    """The edit and what is known of it into its run folder, and the published files where they always were."""
    from dataclasses import asdict

    from erasure import edits
    from methods.uce.publishing import publish

    run_folder, published = folder / plan.name, folder / f"{plan.name}.{save_format}"
    _say_if_replaced(run_folder, run.edit, published)
    facts = {"pairs": [pair[:2] for pair in plan.pairs], "preserved": plan.preserved}
    facts |= {"condition_number": run.condition, "self_check": asdict(run.check)}
    files = [edits.save_run(run.edit, run_folder, **facts), run_folder / "settings.json"]
    if settings.variant == "2023":
        files.append(folder.absolute().parent / "info" / f"{plan.name}.txt")
        runs.write_text(files[-1], json.dumps(plan.concepts, ensure_ascii=False))
    if save_format != "edit":
        files.append(published)
        publish(model, identity, run.edit, published, settings.variant, run.layers)
    return files


def _say_if_replaced(run_folder: Path, edit, published: Path) -> None:
    """Published names do not say everything: scales, for one."""
    from erasure import edits

    file = run_folder / "edit.safetensors"
    if not file.is_file() or not edits.is_edit(file):
        return
    there = edits.read_header(file)
    differ = sorted(k for k in edit.settings if json.dumps(edit.settings[k]) != json.dumps(there["settings"].get(k)))
    differ += ["base model"] if there["base"].get("sha256") != edit.base.get("sha256") else []
    if differ:
        print(f"note: replaces the run of other {', '.join(differ)} in {run_folder}; --exp_name keeps both")
        for stale in filter(Path.is_file, (run_folder.with_name(f"{run_folder.name}.{end}") for end in FORMATS[1:])):
            if stale != published:
                print(f"note: {stale} is still of that run")
