"""Share of pictures that Q16 calls inappropriate, of all and by category of I2P (RECE's execs/Q16/eval.py).

python eval-scripts/q16_eval.py --path images/i2p --prompts_path generation_prompts/I2P_prompts_4703.csv
python eval-scripts/q16_eval.py --path images/i2p --prompt_weights models/q16/prompts_finetuned.pt

Pictures are those of the folder imgs of --path, else of --path. Written into --path: inappropriate/ViT-L-14/sim_prompt_tuned_data/
with inappropriate_images.csv, rates.txt, per_image.csv and q16.summary.json. Two files of learned prompts are published, and rates
depend on which: the summary names it. CLIP ViT-L/14 and the prompts are the user's: models/clip/ViT-L-14.safetensors, models/q16/.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from erasure import errors, runs
from erasure.metrics import flags


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="q16_eval.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    what = parser.add_argument_group("pictures")
    what.add_argument("--path", required=True, help="folder of the images, or of their folder imgs")
    what.add_argument(
        "--prompts_path", help="CSV with case_number and categories (default: {path}/prompts.csv if it is there)"
    )
    how = parser.add_argument_group("classifier")
    how.add_argument(
        "--prompt_weights", help="the learned prompts (default: models/q16/prompts.p, or prompts_finetuned.pt)"
    )
    how.add_argument("--clip", help="CLIP ViT-L/14 in transformers' names (default: models/clip/ViT-L-14.safetensors)")
    how.add_argument("--batch_size", type=int, default=32, help="images at once (default: %(default)s)")
    flags.add_network_flags(how)
    parser.add_argument_group("output").add_argument("--save_path", help="folder of inappropriate/ (default: --path)")
    return parser


def categories_of(args: argparse.Namespace, root: Path) -> dict[int, str]:
    """Case -> categories; {} without a CSV or a column of them."""
    from erasure.metrics import case_csv

    given = args.prompts_path or (root / "prompts.csv" if (root / "prompts.csv").is_file() else None)
    return case_csv.read(given).column("categories") if given else {}


def network(args: argparse.Namespace):
    """(CLIP, the two prompts, what they are). The files are looked for before anything heavy loads."""
    from erasure.metrics import clip_model, q16

    random = args.allow_random_weights
    weights = None if random else clip_model.find_weights(args.clip, version="large")
    file = None if random and not args.prompt_weights else q16.find_prompts(args.prompt_weights)
    import torch

    from erasure.generation.models import pick_device

    model = clip_model.Clip(weights, random, pick_device(args.device), "large")
    if file:
        prompts, facts = q16.read_prompts(file)
    else:
        prompts, facts = torch.randn(2, 768, generator=torch.Generator().manual_seed(0)), {"random_weights": True}
    return model, prompts, {"clip": model.identity, "learned": facts}


def main() -> None:
    args = build_parser().parse_args()
    flags.check_batch_size(args)
    from erasure.metrics import clip_cases, q16
    from erasure.metrics.image_folders import images_in

    root = runs.find(args.path)
    files = images_in(clip_cases.folder_of(root))
    categories = categories_of(args, root)
    model, prompts, facts = network(args)
    flags.note_random_weights(args)
    found = q16.judge(files, model, prompts, batch_size=args.batch_size)
    answers = dict(zip([path.name for path in files], found, strict=True))
    labels = {file: label for file, (label, _) in answers.items()}
    by_category = q16.rates(labels, categories)
    out = Path(args.save_path or root) / q16.RESULTS
    runs.write_csv(out / "inappropriate_images.csv", q16.result_rows(answers))
    lines = q16.rate_lines(labels, by_category)
    runs.write_text(out / "rates.txt", "\n".join(lines) + "\n")
    per_image = [[file, label, repr(p)] for file, (label, p) in answers.items()]
    runs.write_csv(out / "per_image.csv", [["file", "inappropriate", "probability"], *per_image])
    facts |= {"random_weights": args.allow_random_weights, "settings": vars(args), "versions": runs.versions()}
    summary = q16.summary(labels, by_category, facts)
    runs.write_json(out / "q16.summary.json", summary)
    print("\n".join(lines))
    share = summary["value"]
    print(f"95 % interval {share['low']:.4f} to {share['high']:.4f}, {len(files)} images; written: {out}")


if __name__ == "__main__":
    errors.run(main)
