"""Balance which attributes the images of a text show, in closed form (UCE, arXiv 2308.14761).

python methods/uce/train_debias.py --concept 'doctor, nurse' --attributes 'male, female'       # Stable Diffusion v1.4
python methods/uce/train_debias.py --concept default0                                          # the 37 professions
python methods/uce/train_debias.py --base toy --concept 'van gogh or picasso' --attributes 'van gogh, picasso' \\
    --no_templates --num_images 4 --num_inference_steps 5 --max_diff 0.11                      # the embedded model
python methods/uce/train_debias.py --variant 2025 --edit_concepts 'Doctor; Nurse' --debias_concepts 'male; female'
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from erasure import errors, runs
from erasure.base_flags import load_base
from methods.uce import classifiers, debias_concepts
from methods.uce.command import add_model_and_output_flags, few_texts, take_model_id
from methods.uce.debias_settings import DebiasPlan, DebiasSettings
from methods.uce.settings import FORMATS, VARIANTS

_SHOWN = 10  # texts


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="train_debias.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )  # fmt: skip
    _add_text_flags(parser)
    _add_solver_flags(parser)
    _add_image_flags(parser)
    out = add_model_and_output_flags(parser)
    again = out.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="go on where a killed run stopped (also done without)")
    again.add_argument("--force", action="store_true", help="start again, in place of what is there")
    return parser


def _add_text_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "what to balance",
        "Lists are divided by ';' where one of them has it, else by ','. Names of 2025 mean the same.",
    )
    group.add_argument(
        "--concept", "--concepts", "--edit_concepts", required=True, help="list; default0 for 37 professions"
    )
    group.add_argument(
        "--attributes", "--debias_concepts", default="male, female",
        help="list of what their images should show equally often (default: '%(default)s')",
    )  # fmt: skip
    group.add_argument(
        "--preserve_concepts",
        help=f"list of what is to stay (default: other professions of {debias_concepts.PROFESSIONS}; nothing in 2025, and "
        "on the embedded model)",
    )
    group.add_argument(
        "--desired_ratios", type=float, nargs="+", metavar="SHARE", help="of the attributes (default: equal)"
    )
    templates = group.add_mutually_exclusive_group()
    templates.add_argument(
        "--templates", action="store_true", default=None,
        help="edit 'image of ...' and three more prompts with each concept (default in 2023)",
    )  # fmt: skip
    templates.add_argument(
        "--no_templates", dest="templates", action="store_false", help="edit only the concepts (default in 2025)"
    )


def _by_variant(name: str) -> str:
    first, second = (f"{debias_concepts.PRESETS[variant][name]:g}" for variant in VARIANTS)
    return f"(default: {first})" if first == second else f"(default: {first}; in 2025 {second})"


def _add_solver_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("closed form")
    group.add_argument(
        "--variant", choices=VARIANTS, default=VARIANTS[0],
        help="2023: the weights are edited again and again; 2025: the original ones, by all directions so far "
        "(default: %(default)s)",
    )  # fmt: skip
    group.add_argument("--max_iterations", type=int, default=30, help="edits at most (default: %(default)s)")
    group.add_argument(
        "--max_diff",
        type=float,
        default=0.05,
        help="a share this close to the desired one will do (default: %(default)g)",
    )
    group.add_argument(
        "--step_size", type=float,
        help=f"of an edit, per difference of shares {_by_variant('step_size')}; the published 2025 code ignores it",
    )  # fmt: skip
    group.add_argument(
        "--edit_scale", "--erase_scale", dest="erase_scale", type=float, default=1.0,
        help="weight of what is edited (default: %(default)g)",
    )  # fmt: skip
    group.add_argument("--preserve_scale", type=float, help=f"of each preserved text {_by_variant('preserve_scale')}")
    group.add_argument("--lamb", type=float, default=0.5, help="of the weights as they are (default: %(default)g)")


def _add_image_flags(parser: argparse.ArgumentParser) -> None:
    sd, toy = (debias_concepts.IMAGES[family] for family in ("sd-v1", "toy"))
    group = parser.add_argument_group("images that are measured")
    group.add_argument(
        "--num_images", "--num_images_per_prompt", type=int,
        help=f"of each text for every seed: 5 seeds an iteration in 2023, 1 in 2025 {_by_variant('num_images')}",
    )  # fmt: skip
    group.add_argument(
        "--num_inference_steps", type=int, help=f"of the sampler, PLMS (default: {sd['num_inference_steps']})"
    )
    group.add_argument(
        "--guidance_scale", type=float,
        help=f"classifier-free guidance (default: {sd['guidance_scale']:g}; {toy['guidance_scale']:g} for the embedded model)",
    )  # fmt: skip
    group.add_argument("--seed", type=int, default=0, help="of the images' seeds (default: %(default)s)")
    group.add_argument(
        "--clip_path",
        help=f"weights of CLIP ViT-B/32, which looks at the images (default: {classifiers.CLIP}; the embedded model has "
        "a judge of its own)",
    )


# ---- a run ---------------------------------------------------------------------------------------------------------


def main(argv: list[str] | None = None) -> int:
    arguments = build_parser().parse_args(argv)
    take_model_id(arguments)
    arguments.desired_ratios = tuple(arguments.desired_ratios) if arguments.desired_ratios else None
    settings = DebiasSettings.of(arguments)

    def before(family: str) -> None:  # mistakes show before gigabytes are read
        classifiers.check(family, settings.plan(family).attributes, arguments.clip_path)

    model, identity = load_base(arguments, before)
    settings, plan = settings.for_family(identity.family), settings.plan(identity.family)
    classify, about = classifiers.load(
        identity.family, plan.attributes, settings.variant, model.device, arguments.clip_path
    )
    runs.print_settings(_shown(settings, plan) | {"classifier": about["name"]})
    out = Path(arguments.save_path) if arguments.save_path else runs.find("models")
    _run(arguments, model, identity, settings, plan, classify, about, out)

    from erasure.generation.next_step import print_generate_command

    print_generate_command(str(out / plan.name) if arguments.save_path else plan.name)
    return 0


def _run(arguments, model, identity, settings: DebiasSettings, plan: DebiasPlan, classify, about, out: Path) -> None:
    from erasure import edits
    from erasure.generation.next_step import print_written
    from methods.uce.debias_folder import DebiasFolder
    from methods.uce.debias_run import debias
    from methods.uce.publishing import publish
    from methods.uce.ratios import Meter, drawing

    folder = DebiasFolder(out / plan.name, settings, identity, about, arguments.force)
    published = out / f"{plan.name}.{arguments.save_format}"
    if arguments.force:  # a file of the run that is discarded would be taken for this one's
        for ending in FORMATS[1:]:
            (out / f"{plan.name}.{ending}").unlink(missing_ok=True)
    files: list[Path] = []
    if folder.finished:
        print(f"{folder.path} is finished: nothing to debias")
        edit = edits.read(folder.edit_file) if folder.edit_file.is_file() else None
    else:
        meter = Meter(drawing(model, _images(settings, identity.family), progress=True), classify, settings.variant)
        run = debias(
            model, identity, settings, plan, meter, folder, lambda t, shares: _report(t, shares, plan, settings)
        )
        facts = {"texts": plan.texts, "attributes": plan.attributes, "preserved": plan.preserved}
        facts |= {"classifier": about, "balanced": run.balanced, "edits": len(run.ratios) - run.balanced}
        files = folder.write(run, plan, out.absolute().parent / "info", **facts)
        edit = run.edit
        _say_how_it_ended(run, settings)
    if arguments.save_format != "edit" and (files or not published.is_file()):
        publish(model, identity, edit, published, settings.variant)
        files.append(published)
    if files:
        print_written(files)


def _images(settings: DebiasSettings, family: str):
    from erasure import generation

    of_family = {"image_size": 128} if family == "toy" else {}  # what the judge looks at
    return generation.settings(
        "uce", sampler="plms", steps=settings.num_inference_steps, guidance=settings.guidance_scale,
        num_samples=settings.num_images, **of_family,
    )  # fmt: skip


# ---- what is printed -----------------------------------------------------------------------------------------------


def _shown(settings: DebiasSettings, plan: DebiasPlan) -> dict:
    """Resolved settings, lists spelled out."""
    lists = {"concept": plan.concepts, "attributes": plan.attributes, "preserve_concepts": plan.preserved}
    shown = {name: few_texts(texts) for name, texts in lists.items()}
    return settings.to_dict() | shown | {"desired_ratios": " ".join(f"{share:.3g}" for share in plan.desired)}


def _report(iteration: int, shares, plan: DebiasPlan, settings: DebiasSettings) -> None:
    away = [max(abs(s - d) for s, d in zip(own, plan.desired, strict=True)) for own in shares.tolist()]
    inside = sum(deviation < settings.max_diff for deviation in away)
    print(f"after {iteration} edits: {inside} of {len(away)} texts balanced, largest difference {max(away):.2f}")
    width = max(len(text) for text in plan.texts)
    for k in sorted(range(len(away)), key=away.__getitem__, reverse=True)[:_SHOWN]:
        shown = ", ".join(f"{a} {s:.0%}" for a, s in zip(plan.attributes, shares[k].tolist(), strict=True))
        print(f"  {plan.texts[k]:<{width}}  {shown}", flush=True)


def _say_how_it_ended(run, settings: DebiasSettings) -> None:
    if run.edit is None:
        print("balanced already: nothing to edit")
    elif run.balanced:
        print(f"balanced after {len(run.ratios) - 1} edits")
    else:
        print(f"warning: not balanced after {len(run.ratios)} edits (the last one is not measured)")


if __name__ == "__main__":
    errors.run(main)
