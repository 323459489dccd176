"""Which of ten objects CLIP sees in the pictures of folders that are called after one (MACE's script).

python eval-scripts/evaluate_clip_accuracy.py --base_folder generated_images/objects --save_path results/objects

Every folder of pictures below --base_folder gives {path with "_" for "/"}.csv: ImageName and the probability of every object. The value
of a folder is the mean probability of the object that its name is ("airplane", "airplane_paraphrases"), as MACE reports it; the share
of pictures whose first object it is stands beside it in clip_accuracy.summary.json. The model is the user's: models/clip/ViT-B-32.safetensors.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from erasure import errors, runs
from erasure.errors import UserError
from erasure.metrics import flags


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="evaluate_clip_accuracy.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--base_folder", required=True, help="folder of the folders of images")
    parser.add_argument("--save_path", required=True, help="folder of the files")
    how = parser.add_argument_group("model")
    how.add_argument("--objects", help="other objects, separated by commas (default: the ten of CIFAR-10)")
    how.add_argument("--clip", help="CLIP ViT-B/32 in transformers' names (default: models/clip/ViT-B-32.safetensors)")
    flags.add_network_flags(how)
    return parser


def main() -> None:
    args = build_parser().parse_args()
    given = [name.strip() for name in (args.objects or "").split(",") if name.strip()]
    if args.objects is not None and len(set(given)) < 2:
        raise UserError("--objects: at least two different ones, separated by commas")
    base = runs.find(args.base_folder)
    if not base.is_dir():
        raise UserError(f"no folder {base}")
    from erasure.metrics import clip_model

    weights = None if args.allow_random_weights else clip_model.find_weights(args.clip)
    from erasure.generation.models import pick_device
    from erasure.metrics import clip_accuracy
    from erasure.metrics.image_folders import images_in

    objects = given or clip_accuracy.OBJECTS
    folders = clip_accuracy.leaves(base)
    model = clip_model.Clip(weights, args.allow_random_weights, pick_device(args.device))
    flags.note_random_weights(args)
    by_folder, images = {}, 0
    for folder in folders:
        files = images_in(folder)
        table = clip_accuracy.measure(files, model, objects)
        runs.write_csv(Path(args.save_path) / clip_accuracy.csv_name(folder), clip_accuracy.rows(files, table, objects))
        wanted = clip_accuracy.object_of(folder, objects)
        found = clip_accuracy.scores(table, objects, wanted) if wanted else None
        by_folder[str(folder)], images = found, images + len(files)
        if found:
            print(f"{folder}: {found['mean_probability']['value']} (first of all: {found['argmax_accuracy']['value']})")
        else:
            print(f"{folder}: its name is none of the objects, so only the CSV is written")
    facts = model.identity | {"objects": list(objects), "template": clip_accuracy.TEMPLATE, "settings": vars(args)}
    facts |= {"random_weights": args.allow_random_weights, "versions": runs.versions()}
    path = Path(args.save_path) / "clip_accuracy.summary.json"
    runs.write_json(path, clip_accuracy.summary(by_folder, images, facts))
    print(f"written: {path}")


if __name__ == "__main__":
    errors.run(main)
