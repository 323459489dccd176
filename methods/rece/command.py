"""The command line that RECE's three scripts share."""

import argparse
import functools
from pathlib import Path

from erasure import errors, runs
from erasure.base_flags import add_base_flags, load_base
from erasure.errors import UserError
from erasure.prompt_sets import prompt_file
from methods.rece.names import resolve_texts, run_folder, run_tag
from methods.rece.settings import (
    ARTISTS,
    EMB_COMPUTING,
    REG_ITEMS,
    SAVE_FORMATS,
    TECHNIQUES,
    TRAIN,
    ReceSettings,
    Script,
)

_BASE_NAMES = {"sd-v1": "1.4"}  # in the names of folders; other families are called what they are


def build_parser(script: Script) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=script.name,
        description=script.about,
        epilog=f"examples:\n{script.examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_text_flags(parser, script)
    _add_method_flags(parser, script)
    _add_validation_flags(parser, script)
    add_base_flags(parser)
    run = parser.add_argument_group("run")
    run.add_argument(
        "--target_ckpt",
        metavar="FILE",
        help="what to begin with: an edit, weights of a UNet or model, or a run's name; '' for the original weights "
        "(default: a UCE edit of the same concepts, made on the spot)",
    )
    run.add_argument("--save_path", default=script.save_path, help="folder of run folders (default: %(default)s)")
    run.add_argument(
        "--save_format",
        choices=SAVE_FORMATS,
        default="edit",
        help="edit: small edits (default); pt: also the published files, a full UNet each",
    )
    run.add_argument("--seed", type=int, default=42, help="of the pictures of embeddings; in the path (default: 42)")
    return parser


def _add_text_flags(parser: argparse.ArgumentParser, script: Script) -> None:
    what = parser.add_argument_group("what to erase")
    what.add_argument(
        "--concepts",
        required=True,
        help="comma list, or a preset: i2p, imagenette, allartist, 10artists, <N>artists",
    )
    what.add_argument(
        "--concept_type",
        required=True,
        choices=script.concept_types,
        help="part of the path" + ("; art preserves 1,734 artists by default" if script == ARTISTS else ""),
    )
    what.add_argument(
        "--guided_concepts", "--guided_concept", help="what to steer to: one text, or one a concept (default: ' ')"
    )
    what.add_argument(
        "--old_target_concept",
        help="with close_standardreg, where the embedding is pulled to: one text a concept, none for none (default: none)",
    )
    what.add_argument(
        "--preserve_concepts", help="comma list of what is to stay (default: see the README; '' for nothing)"
    )
    what.add_argument(
        "--keep_erased",
        action=argparse.BooleanOptionalAction,
        help="also hold what the start has erased: the concepts are among the texts that stay (default: no, as published; "
        "yes on the embedded model)",
    )
    what.add_argument("--preserve_number", type=int, metavar="N", help="preserve N of them, drawn (default: all)")


def _add_method_flags(parser: argparse.ArgumentParser, script: Script) -> None:
    how = parser.add_argument_group("method")
    how.add_argument(
        "--emb_computing",
        choices=EMB_COMPUTING,
        required=script.emb_computing is None,
        default=script.emb_computing,
        help="penalty of the adversarial embedding; the paper's is close_regzero"
        + ("" if script.emb_computing is None else " (default: %(default)s)"),
    )
    how.add_argument(
        "--reg_item", choices=REG_ITEMS, default="1st", help="of close_surrogatereg (default: %(default)s)"
    )
    how.add_argument(
        "--regular_scale", type=float, default=script.regular_scale, help="its lambda (default: %(default)s)"
    )
    how.add_argument("--epochs", type=int, default=script.epochs, help="(default: %(default)s)")
    how.add_argument("--technique", choices=TECHNIQUES, default="replace", help="as in UCE (default: %(default)s)")
    how.add_argument("--lamb", type=float, default=0.1, help="pull to the current weights (default: %(default)s)")
    how.add_argument("--preserve_scale", type=float, default=0.1, help="weight of what stays (default: %(default)s)")
    # the default is a whole number because the published names say erase_1, and erase_1.0 if it was typed
    how.add_argument("--erase_scale", type=float, default=1, help="weight of what goes (default: %(default)s)")


def _add_validation_flags(parser: argparse.ArgumentParser, script: Script) -> None:
    group = parser.add_argument_group("pictures")
    which = group.add_mutually_exclusive_group()
    which.add_argument(
        "--test_csv_path",
        metavar="CSV",
        help=f"prompts drawn before and after every epoch (default: {script.test_csv_path} if it is there; "
        "the embedded model has its own)",
    )
    which.add_argument(
        "--no_validate", action="store_true", help="draw and measure nothing; the last epoch is the result"
    )
    group.add_argument("--num_samples", type=int, default=1, help="pictures a prompt (default: %(default)s)")
    group.add_argument("--ddim_steps", type=int, help="(default: 50; 25 for the embedded model)")
    group.add_argument("--no_emb2imgs", action="store_true", help="draw no pictures of the adversarial embeddings")


# ---- from flags to a job -------------------------------------------------------------------------------------------


def settings_of(script: Script, arguments: argparse.Namespace, artists=None):
    """(Texts, ReceSettings) of a command; artists: in place of the 1,734. UserError for what cannot go together."""
    if artists is None:
        from methods.uce.concepts import read_artists

        artists = read_artists()
    given = ("guided_concepts", "old_target_concept", "preserve_concepts", "preserve_number")
    texts = resolve_texts(
        arguments.concepts,
        arguments.concept_type,
        **{name: getattr(arguments, name) for name in given},
        artists=artists,
        keep_artists=script == ARTISTS,
    )
    empty = (" ",) * len(texts.concepts) if script == TRAIN else ("",)  # the same tokens; the published lists
    settings = ReceSettings(
        texts.concepts,
        texts.guides,
        (*empty, *texts.preserved, *(texts.concepts if arguments.keep_erased else ())),
        texts.targets if arguments.emb_computing == "close_standardreg" else (),
        arguments.emb_computing,
        arguments.reg_item,
        arguments.regular_scale,
        arguments.technique,
        arguments.epochs,
        arguments.lamb,
        arguments.erase_scale,
        arguments.preserve_scale,
    )
    return texts, settings


def folder_of(script: Script, arguments: argparse.Namespace, texts, base: str) -> Path:
    """Where the run goes; base: of the name, "1.4" or another model's."""
    save_path = arguments.save_path
    if script.marks_scratch and arguments.target_ckpt == "":
        save_path += "_scratch"
    a = arguments
    tag = run_tag(texts, base, a.technique, a.erase_scale, a.preserve_scale, a.lamb)
    return run_folder(save_path, a.concept_type, a.emb_computing, a.reg_item, tag, a.regular_scale, a.seed)


def main(script: Script, argv: list[str] | None = None) -> int:
    arguments = build_parser(script).parse_args(argv)
    texts, settings = settings_of(script, arguments)
    _check(arguments, texts)
    model, identity = load_base(arguments)
    if identity.family == "toy" and _preset_for_toy(arguments, texts):
        texts, settings = settings_of(script, arguments)

    from methods.rece.training import Job, Run
    from methods.rece.validation import plan_validation

    folder = folder_of(script, arguments, texts, _BASE_NAMES.get(identity.family, identity.family))
    runs.print_settings(settings.to_dict() | {"folder": folder})
    validation = None
    if not arguments.no_validate:
        validation = plan_validation(script, texts, arguments.concept_type, identity.family, arguments.test_csv_path)
    job = Job(
        script,
        texts,
        settings,
        folder,
        arguments.target_ckpt,
        arguments.seed,
        arguments.save_format,
        not arguments.no_emb2imgs,
        arguments.num_samples,
        arguments.ddim_steps,
    )
    Run(model, identity, job, validation).run()
    from erasure.generation.next_step import print_generate_command, print_written, run_files

    print_written(run_files(folder))
    print_generate_command(str(folder), "--exp_name", "rece")
    return 0


def _preset_for_toy(arguments: argparse.Namespace, texts) -> bool:
    """Fill in what was not given with the embedded model's preset; whether there was anything to fill in.

    An epoch erases 77 rows a concept: in 96 dimensions, unlike in 768, that reaches everything which is not held.
    """
    from methods.uce.concepts import world

    before = arguments.preserve_concepts, arguments.keep_erased
    erased = {concept.lower() for concept in texts.concepts}
    if arguments.preserve_concepts is None:
        arguments.preserve_concepts = ",".join(name for name in world("toy").kept if name not in erased)
        print("preserved: the names that the embedded model knows (--preserve_concepts '' for none)")
    if arguments.keep_erased is None:
        arguments.keep_erased = True
    return before != (arguments.preserve_concepts, arguments.keep_erased)


def _check(arguments: argparse.Namespace, texts) -> None:
    """Mistakes that need no model to be seen, and remarks on what the published flags do."""
    if not 0 <= arguments.seed < 2**63:
        raise UserError(f"--seed must be a whole number from 0 on, not {arguments.seed}")
    for concept, guide in zip(texts.concepts, texts.guides, strict=True):
        if concept.lower() == guide.strip().lower():
            raise UserError(f"nothing to erase: {concept!r} is its own guide; give other --guided_concepts")
    if not arguments.concept_type.strip(". "):
        raise UserError(f"--concept_type {arguments.concept_type!r} cannot name a folder")
    for name in ("num_samples", "ddim_steps"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise UserError(f"--{name} must be at least 1, not {value}")
    if arguments.test_csv_path is not None:
        with errors.about("--test_csv_path"):
            prompt_file(arguments.test_csv_path)
    if arguments.emb_computing == "close_standardreg" and None in texts.targets:
        print(
            "note: close_standardreg without --old_target_concept is close_surrogatereg with --reg_item both, as published"
        )


def script_main(script: Script) -> None:
    """What a script runs; never returns."""
    errors.run(functools.partial(main, script))
