"""FID and KID of two folders as a command: what evaluate_fid_score.py (CPE, MACE) and fid_score.py (RECE) share. Imports no torch at first."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from erasure import runs
from erasure.errors import UserError
from erasure.metrics import flags


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Everything but the two folders, which are args.dir1 and args.dir2, and --mode."""
    how = parser.add_argument_group("features")
    how.add_argument(
        "--inception_weights", help="file of tensors (default: models/inception/pt_inception-2015-12-05-6726825d.pth)"
    )
    how.add_argument("--batch_size", type=int, default=32, help="images at once (default: %(default)s)")
    how.add_argument("--device", help="cpu, cuda:0, ... (default: the first GPU, else cpu)")
    how.add_argument("--seed", type=int, default=0, help="of KID's subsets (default: %(default)s)")
    how.add_argument("--no_cache", action="store_true", help="neither use nor keep features in the folders")
    flags.add_random_weights(how)
    out = parser.add_argument_group("output")
    out.add_argument("--save_path", help="folder of the summary (default: beside --dir1)")
    out.add_argument("--save_stats", metavar="NPZ", help="also write the statistics of --dir1 (mu, sigma, n)")


def check(args: argparse.Namespace) -> list[Path]:
    """The two places. Whatever is wrong is known before the network is loaded."""
    from erasure.metrics.image_folders import images_in
    from erasure.metrics.inception_weights import find_file

    if args.batch_size < 1 or not 0 <= args.seed < 2**32:
        raise UserError("--batch_size must be at least 1, and --seed within 0..4294967295")
    places = [runs.find(args.dir1), runs.find(args.dir2)]
    of_files = [place.is_file() for place in places]
    if any(of_files) and (args.mode == "KID" or all(of_files)):
        raise UserError("KID is between two folders, and FID needs at least one: a file of statistics has no features")
    for place, is_file in zip(places, of_files, strict=True):
        if not is_file and len(images_in(place, recursive=True)) < 2:
            raise UserError(f"{place} holds only one image")
    if args.save_stats and of_files[0]:
        raise UserError(f"--save_stats: {args.dir1} is a file of statistics already")
    if not args.allow_random_weights:
        find_file(args.inception_weights)
    return places


def features(places: list[Path], args: argparse.Namespace):
    """(features or statistics of either place, what the network is)."""
    from erasure.generation.models import pick_device
    from erasure.metrics.frechet import read_statistics
    from erasure.metrics.inception import Inception, features_of

    device = pick_device(args.device)
    given = {place: read_statistics(place).to(device) for place in places if place.is_file()}
    network = Inception(args.inception_weights, args.allow_random_weights, device)
    options = {"batch_size": args.batch_size, "remember": not args.no_cache}
    found = [given[p] if p in given else features_of(p, network, **options).to(device) for p in places]
    return found, network.identity


def score(found: list, args: argparse.Namespace):
    """(value, its interval or None)."""
    from torch import Tensor
    from tqdm import tqdm

    from erasure.metrics import frechet

    x, y = found if isinstance(found[0], Tensor) else found[::-1]  # FID is symmetric
    enough = frechet.enough_for_interval(*(len(s) for s in found if isinstance(s, Tensor)))
    if args.mode == "KID":
        with tqdm(total=frechet.SUBSETS, desc="KID", unit=" subsets") as bar:
            value = frechet.kernel_distance(x, y, seed=args.seed, tick=bar.update)
            bar.update(bar.total - bar.n)
        return value, frechet.kernel_interval(x, y, value) if enough else None
    sides = [frechet.statistics(s) if isinstance(s, Tensor) else s for s in (x, y)]
    if sides[0].mean.shape != sides[1].mean.shape:
        raise UserError(f"{args.dir2}: features of {len(sides[1].mean)} numbers, and not of {len(sides[0].mean)}")
    if args.save_stats:
        frechet.write_statistics(args.save_stats, sides[0])
    value = frechet.frechet_distance(*sides)
    if not enough:
        return value, None
    with tqdm(total=frechet.GROUPS, desc="interval", unit=" groups") as bar:
        return value, frechet.frechet_interval(x, y, value, bar.update)


def run(args: argparse.Namespace) -> None:
    """Measure args.dir1 against args.dir2 and write {dir1}_{fid|kid}.summary.json."""
    args.mode = args.mode.upper()
    places = check(args)
    flags.note_random_weights(args)
    found, network = features(places, args)
    from erasure.metrics import frechet

    sizes = [s.n if isinstance(s, frechet.Statistics) else len(s) for s in found]
    notes = []
    if small := [n for n in sizes if 0 < n < frechet.SENSIBLE[args.mode]]:
        notes.append(f"{args.mode} from {min(small)} images; below {frechet.SENSIBLE[args.mode]} it says little")
        print(f"warning: {notes[0]}", file=sys.stderr)
    value, interval = score(found, args)
    print(f"{args.mode} score: {value}")
    if interval:
        print(f"95 % interval {interval.low:.6g} to {interval.high:.6g}")
    dir1 = Path(os.path.abspath(places[0]))
    path = (
        Path(args.save_path or dir1.parent)
        / f"{dir1.stem if dir1.is_file() else dir1.name}_{args.mode.lower()}.summary.json"
    )
    summary = {
        "metric": args.mode,
        "value": interval.as_dict() if interval else {"value": value},
        "interval": frechet.INTERVALS[args.mode] if interval else "none: fewer than 20 images",
        "n_images": sizes[0],
        "n_reference": sizes[1],
        "images": str(places[0]),
        "reference": str(places[1]),
        "warnings": notes,
        "definition": {"formula": frechet.DEFINITIONS[args.mode], "features": network, "seed": args.seed},
        "random_weights": args.allow_random_weights,
        "settings": vars(args),
        "versions": runs.versions(),
    }
    runs.write_json(path, summary)
    print(f"written: {path}")
