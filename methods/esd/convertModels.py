"""Convert weights between the CompVis and the diffusers naming, both ways: UNet, autoencoder and text encoder.

    python methods/esd/convertModels.py models/NAME/NAME.pt models/NAME/diffusers-NAME.safetensors   # UNet for diffusers
    python methods/esd/convertModels.py models/NAME/NAME.pt outputs/NAME-diffusers                   # a folder, all parts
    python methods/esd/convertModels.py outputs/NAME-diffusers outputs/NAME.safetensors              # and back
    python methods/esd/convertModels.py models/NAME/edit.safetensors outputs/NAME.pt --base toy      # an edit in its base
    python methods/esd/convertModels.py sd-v1-4.ckpt sd-v1-4.safetensors --to compvis                # without pickles

A file is written whole or not at all. Nothing that is pickled in an input is run.
"""

import argparse
import sys
from pathlib import Path

if __name__ == "__main__":  # from a plain checkout
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from erasure.errors import UserError, about, run
from erasure.runs import WEIGHTS_SUFFIXES

_LARGE = 500_000_000  # bytes


def parse(argv=None) -> argparse.Namespace:
    title, examples = __doc__.split("\n\n", 1)
    parser = argparse.ArgumentParser(
        description=title,
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    files = parser.add_argument_group("files")
    files.add_argument(
        "input", help="weights: a file in either naming, an edit, a diffusers folder, or the name of a run"
    )
    files.add_argument(
        "output", help=f"a file ({', '.join(WEIGHTS_SUFFIXES)}), or a folder to get all parts for diffusers"
    )
    files.add_argument("--config", help="YAML of the model (default: found beside the weights, or by their shapes)")
    files.add_argument("--base", help="model that an edit or a UNet is put into before it is written whole")
    how = parser.add_argument_group("conversion")
    how.add_argument(
        "--to",
        choices=("compvis", "diffusers"),
        help="naming of an output file; diffusers is the UNet alone (default: the one that the input does not have)",
    )
    how.add_argument(
        "--weights",
        choices=("auto", "raw", "ema"),
        default="auto",
        help="UNet of a checkpoint that has two; auto is raw, as the published scripts take it (default: %(default)s)",
    )
    how.add_argument(
        "--precision", choices=("float32", "float16"), default="float32", help="of the output (default: %(default)s)"
    )
    how.add_argument("--force", action="store_true", help="let an edit that was made for another base through")
    args = parser.parse_args(argv)
    if args.force and not args.base:
        parser.error("--force is about the base of an edit: it needs --base")
    args.folder = Path(args.output).suffix not in WEIGHTS_SUFFIXES
    if args.folder and args.to == "compvis":
        parser.error("a folder is diffusers': --to compvis needs an output file")
    return args


def main(argv=None) -> None:
    args = parse(argv)
    from erasure.edits import find_for, is_edit
    from erasure.runs import find

    source, target = find(args.input), Path(args.output).expanduser()
    if not source.exists():
        source = find_for(args.input) or source
    if not source.exists() and args.input.lower() not in _base_names():
        raise UserError(f"{source}: no such file, folder or run")
    if source.exists() and target.exists() and source.samefile(target):
        raise UserError(f"{target}: input and output are the same file")
    if not args.base and is_edit(source):
        raise UserError(f"{source}: an edit holds only what was changed: name its base model with --base")
    if source.is_file() and source.stat().st_size > _LARGE:
        print(f"converting {source}: {source.stat().st_size / 1e9:.1f} GB, which takes a while", flush=True)
    for file in convert(source if source.exists() else args.input, target, args):
        print(f"wrote {file} ({file.stat().st_size / 1e6:.1f} MB)")


def _base_names():
    from erasure.base_models import NAMES

    return NAMES


def convert(source: Path | str, target: Path, args: argparse.Namespace) -> list[Path]:
    """Write `target`, in what `args` says; returns the files of weights that were written."""
    from erasure import edits
    from erasure.edits.exporting import diffusers_unet, with_position_ids

    if args.folder:
        from erasure.diffusers_folders import write_folder

        model, config = _model(source, args)
        return write_folder(model, config, target)
    to = args.to or ("compvis" if args.base or _named_by_diffusers(source) else "diffusers")
    if args.base or Path(source).is_dir() or not Path(source).exists():  # what is not one file is built whole
        model, _ = _model(source, args)
        tensors = edits.compvis_state_dict(model) if to == "compvis" else diffusers_unet(model)
    else:
        tensors = _state_dict(source, args.weights)
        tensors = with_position_ids(tensors) if to == "compvis" else _unet_for_diffusers(source, tensors)
    edits.write_weights(target, {key: _cast(key, tensor, args.precision) for key, tensor in tensors.items()})
    return [target]


def _model(source: Path | str, args: argparse.Namespace):
    """(the model, its configuration): `source`, or the base with `source` put into it."""
    from omegaconf import OmegaConf

    from erasure import base_models, edits

    model, identity = base_models.load(args.base or source, args.config, weights=args.weights)
    if args.base:
        edits.load_into(model, identity, source, args.force)
    if args.folder and args.precision == "float16":
        model.half()
    return model, OmegaConf.load(identity.config_path)


def _named_by_diffusers(source: Path | str) -> bool:
    from erasure.checkpoint_files import shapes

    if not Path(source).is_file():
        return Path(source).is_dir()
    return any(key.startswith("down_blocks.") for key in shapes(source))


def _state_dict(source: Path, weights: str):
    """Tensors of one file under CompVis names, without moving averages."""
    from erasure.base_models import choose_weights, read_state_dict

    with about(source):
        return choose_weights(read_state_dict(source), weights)[0]


def _unet_for_diffusers(source: Path, tensors):
    from erasure.key_maps import compvis_to_diffusers

    try:
        unet = compvis_to_diffusers(tensors)["unet"]
    except (UserError, KeyError, IndexError, ValueError) as error:
        raise UserError(f"{source}: not a complete UNet ({error})") from None
    if not unet:
        raise UserError(f"{source}: none of its {len(tensors)} tensors belongs to a UNet")
    return unet


def _cast(key: str, tensor, precision: str):
    """The schedule (names without a dot) and integers stay as they are."""
    import torch

    return tensor.to(getattr(torch, precision)) if tensor.is_floating_point() and "." in key else tensor


def savemodelDiffusers(name, compvis_config_file=None, diffusers_config_file=None, device="cpu"):
    """Write the diffusers twin of a run's weights: the UNet of ``models/{name}/{name}.pt`` (or .safetensors).

    The published entry point. The twin lies beside it, ``compvis`` in its name replaced by ``diffusers``. The names are
    translated by the structure of the weights, on the CPU, so nothing but `name` matters; where compvis_config_file is
    given, the weights must be those of its UNet. Returns the path. UserError if there are no weights.
    """
    from erasure.edits import write_weights
    from erasure.runs import find

    folder = Path("models") / name
    source = next((p for p in (find(folder / (name + end)) for end in (".safetensors", ".pt")) if p.is_file()), None)
    if source is None:
        raise UserError(f"{folder}: no {name}.safetensors or {name}.pt in it")
    target = source.with_name(name.replace("compvis", "diffusers") + source.suffix)
    if target == source:
        raise UserError(f"{name}: the name of a run in CompVis naming has 'compvis' in it")
    unet = _unet_for_diffusers(source, _state_dict(source, "auto"))
    if compvis_config_file is not None:
        _check_names(source, unet, find(compvis_config_file))
    write_weights(target, unet)
    return target


def _check_names(source: Path, unet, config_path: Path) -> None:
    from omegaconf import OmegaConf

    from erasure.key_maps import unet_map

    if not config_path.is_file():
        raise UserError(f"no configuration at {config_path}")
    expected = unet_map(OmegaConf.load(config_path).model.params.unet_config).values()
    if different := set(expected) ^ unet.keys():
        raise UserError(f"{source} does not hold the UNet of {config_path}: {len(different)} names differ")


if __name__ == "__main__":
    run(main)
