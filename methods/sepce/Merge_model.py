"""Put several erased models into one, or choose which concepts of separable edits stay erased (SepCE, arXiv 2402.05947).

python methods/sepce/Merge_model.py                                   # as published: models/model0 to model3, all selections
python methods/sepce/Merge_model.py --models CiE-Monet CiE-Picasso --keys kv --out both         # any weights of one base
python methods/sepce/Merge_model.py --edits models/SepCE-run                                    # lists its parts
python methods/sepce/Merge_model.py --edits models/SepCE-run --restore Picasso --out restored   # that concept comes back
python methods/sepce/Merge_model.py --edits run1 run2 run3 --compose 1,3 --out some

Models are merged as W_0 + sum_i (W_i - W_0). Parts of separable edits are put together exactly: the result is the same
whatever was erased before.
"""

import argparse
import sys
from itertools import combinations
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from erasure import errors, runs
from erasure.base_models import NAMES, WEIGHTS
from erasure.errors import UserError
from erasure.generation.models import find_weights
from erasure.training.naming import name_part
from methods.sepce import WRITERS
from methods.sepce.bases_command import as_list

PUBLISHED = 3  # models that the published script merged


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="Merge_model.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    weights = parser.add_argument_group("models of one base, by name, file or run folder")
    weights.add_argument(
        "--base", "--pt_path", help="what they were made from (default: models/model0/model0.pt, as published; with "
        f"--models the default base; {', '.join(NAMES)} are names)",
    )  # fmt: skip
    for n in range(1, PUBLISHED + 1):
        weights.add_argument(f"--pt_path{n}", help=f"(default: models/model{n}/model{n}.pt)")
    weights.add_argument("--models", nargs="+", metavar="MODEL", help="in place of these three: as many as there are")
    weights.add_argument(
        "--keys", choices=("kv", "attn2"), help="what is taken of them: keys and values, or the whole cross-attention "
        "(default: kv; of the published three, attn2 of the first)",
    )  # fmt: skip
    weights.add_argument(
        "--weights", choices=WEIGHTS, default="auto", help="of a base with raw and ema weights (default: raw)"
    )
    weights.add_argument("--config_path", help="the base's configuration (default: the one that fits)")
    weights.add_argument("--diffusers_config_path", help="accepted and not needed")
    weights.add_argument(
        "--unsafe_pickle", action="store_true", help="let a base run its code: only for your own files"
    )
    parts = parser.add_argument_group("separable edits")
    parts.add_argument(
        "--edits", nargs="+", metavar="EDIT", help="edit files or run folders; their parts are numbered from 1 on"
    )
    which = parts.add_mutually_exclusive_group()
    which.add_argument("--compose", metavar="N,N", help="only these parts (default: all)")
    which.add_argument(
        "--restore", metavar="CONCEPT,...", help="all parts but those of these concepts, which come back"
    )
    out = parser.add_argument_group("output")
    out.add_argument(
        "--out", metavar="NAME", help="of the merged model (default: Sep_Merge12 ..., for the published three)"
    )
    out.add_argument("--save_path", help="folder of run folders (default: models, here or in the repository)")
    out.add_argument(
        "--save_format", choices=WRITERS, help="beside the edit also the whole weights, as safetensors or pt "
        "(default: pt for the published three, else edit: not)",
    )  # fmt: skip
    out.add_argument("--force", action="store_true", help="replace another model of this name")
    return parser


def main(argv: list[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    published = [getattr(args, f"pt_path{n}") for n in range(1, PUBLISHED + 1)]
    check(args, any(published))
    if args.edits:
        return merge_edits(args)
    if args.models:
        return merge_models(args, args.models, {args.out: range(len(args.models))}, "edit")
    names = [given or f"models/model{n}/model{n}.pt" for n, given in enumerate(published, start=1)]
    args.base = args.base or "models/model0/model0.pt"
    chosen = [numbers for size in (2, 3) for numbers in combinations(range(PUBLISHED), size)]
    selections = {"Sep_Merge" + "".join(str(n + 1) for n in numbers): numbers for numbers in chosen}
    return merge_models(args, names, {args.out: range(PUBLISHED)} if args.out else selections, "pt")


def check(args: argparse.Namespace, published: bool) -> None:
    """UserError for flags that contradict each other or lead nowhere."""
    if published + bool(args.models) + bool(args.edits) > 1:
        raise UserError("--edits, --models and --pt_path1 to 3 are three ways to name what is merged: use one")
    if not args.edits and (args.compose or args.restore is not None):
        raise UserError("--compose and --restore choose among the parts of --edits")
    if args.edits and args.keys:
        raise UserError("--keys is about --models: parts of --edits are taken whole")
    if args.models and not args.out:
        raise UserError("--out names the merged model")
    if args.edits and not args.out and (args.compose or args.restore is not None):
        raise UserError("--out names the edit of the chosen parts")


# ---- weights -------------------------------------------------------------------------------------------------------


def merge_models(args: argparse.Namespace, names: list[str], selections: dict, save_format: str) -> int:
    """selections: name -> numbers of the models in it."""
    paths = [find_weights(name) for name in names]

    from methods.sepce import merging

    base = open_base(args, args.base)
    print(f"base: {base.identity.path} (sha256 {base.identity.sha256[:12]})")
    models = base.read_all(paths, names)
    keys = [args.keys or ("attn2" if i == 0 and not args.models else "kv") for i in range(len(models))]
    for number, (path, own) in enumerate(zip(paths, keys, strict=True), start=1):
        print(f"  {number}  {path}: {own}")
    folders = []
    for name, numbers in selections.items():
        edit = merging.merge(base, [models[n] for n in numbers], [keys[n] for n in numbers])
        folders.append(save(args, name, edit, save_format, base))
    print_next(args, folders[-1])
    return 0


def open_base(args: argparse.Namespace, name: str | None):
    from methods.sepce import merging

    return merging.Base(merging.base_of(name), args.config_path, args.weights, args.unsafe_pickle)


def save(args: argparse.Namespace, name: str, edit, save_format: str, base) -> Path:
    from erasure.generation.next_step import print_written
    from methods.sepce import merging

    folder = (Path(args.save_path).expanduser() if args.save_path else runs.find("models")) / name_part(name)
    print_written(merging.write(edit, folder, args.save_format or save_format, base, args.force))
    return folder


def print_next(args: argparse.Namespace, folder: Path) -> None:
    from erasure.generation.next_step import print_generate_command

    print_generate_command(str(folder) if args.save_path else folder.name)


# ---- separable edits -----------------------------------------------------------------------------------------------


def merge_edits(args: argparse.Namespace) -> int:
    paths = [find_weights(name) for name in args.edits]

    from erasure import edits

    for path in paths:
        if path.is_dir() or not edits.is_edit(path):
            raise UserError(f"{path}: weights, not an edit: --models merges those")
    whole = edits.compose([edits.read(path) for path in paths])
    print_parts(edits.parts_of(whole))
    chosen = select(whole, args.compose, args.restore)
    if not args.out:
        return 0
    print(f"erased: {', '.join(chosen.concepts)}")
    base = None
    if (args.save_format or "edit") != "edit":
        base = open_base(args, args.base or chosen.base.get("path"))
    print_next(args, save(args, args.out, chosen, "edit", base))
    return 0


def select(edit, compose: str | None, restore: str | None):
    """The edit of the parts with these numbers, of all but those of these concepts, or of all."""
    from erasure import edits

    if compose is not None:
        known = {str(n): concept for n, concept in enumerate(edit.concepts, start=1)}
        numbers = as_list(compose)
        if not numbers or not known.keys() >= set(numbers):
            raise UserError(f"--compose {compose!r}: give some of the numbers 1 to {len(known)}")
        return edits.keep(edit, [known[n] for n in numbers])
    if restore is None:
        return edit
    if not as_list(restore):
        raise UserError(f"--restore {restore!r}: name a concept, one of {', '.join(edit.concepts)}")
    return edits.drop(edit, as_list(restore))


def print_parts(parts) -> None:
    """What each is, whether its training ended by its rule, and which of the others it was not hidden from."""
    concepts = [part.concept for part in parts]
    for number, part in enumerate(parts, start=1):
        steps = f", {part.facts['steps']} steps" if "steps" in part.facts else ""
        print(f"  {number}  {part.concept}: {len(part.basis)} directions{steps}")
        if part.facts.get("stopped") is False:
            print("     its training ended before its rule was met: it may be erased in part")
        seen_by = [repr(other) for other in concepts if other != part.concept and other not in part.protected]
        if seen_by:
            print(f"     not hidden from {', '.join(seen_by)}: putting it in or out changes them too")


if __name__ == "__main__":
    errors.run(main)
