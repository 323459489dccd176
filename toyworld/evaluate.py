"""Measure the embedded model: the judge on fresh renders, and what the base model draws for every concept.

    python -m toyworld.evaluate                       # about 15 minutes on two CPU cores; writes models/toy/
    python -m toyworld.evaluate --images 4 --renders 500 --out outputs/look --work outputs/look     # a quick look

Bars: judge >= 99 % on fresh renders; every style, object, person and figure >= 90 % of its prompts judged right;
a plain "a photo" shows no particular concept. Pictures are kept in --work, so a second run only judges them.
"""

import argparse
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HOME = ROOT / "models" / "toy"
RENDER_SEED = 10_000  # training renders are drawn with seed 0
PHOTO_ROWS = 100
MARKS = "<!-- scores: written by python -m toyworld.evaluate -->", "<!-- end of scores -->"


def build_parser():
    parser = argparse.ArgumentParser(
        prog="python -m toyworld.evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    what = parser.add_argument_group("what to measure")
    what.add_argument("--ckpt_path", default="toy", help="model (default: the shipped one)")
    what.add_argument("--judge", default=str(HOME / "judge.safetensors"), help="judge (default: %(default)s)")
    what.add_argument("--images", type=int, default=20, help="prompts per concept (default: %(default)s)")
    what.add_argument("--renders", type=int, default=4000, help="fresh renders for the judge (default: %(default)s)")
    where = parser.add_argument_group("where")
    where.add_argument(
        "--out", type=Path, default=HOME, help="folder of scores.json and README.md (default: %(default)s)"
    )
    where.add_argument("--work", type=Path, default=ROOT / "outputs" / "toy-evaluation", help="folder of the pictures")
    return parser


def main():
    parser = build_parser()
    arguments = parser.parse_args()
    if min(arguments.images, arguments.renders) < 1:
        parser.error("--images and --renders must be at least 1")
    shipped = (parser.get_default(name) for name in ("ckpt_path", "judge", "images", "renders"))
    if arguments.out == HOME and tuple(shipped) != (
        arguments.ckpt_path, arguments.judge, arguments.images, arguments.renders,
    ):  # fmt: skip
        parser.error("other models or counts than the shipped ones need an --out of their own")
    from erasure.runs import write_json
    from toyworld.judge import load_judge

    judge = load_judge(arguments.judge)
    scores = {"judge": judge_accuracy(judge, arguments.renders)}
    print(f"judge on fresh renders: style {scores['judge']['style']:.4f}, subject {scores['judge']['subject']:.4f}")
    scores |= model_accuracy(judge, arguments)
    write_json(arguments.out / "scores.json", scores)
    update_readme(arguments.out / "README.md", scores)
    print(table(scores))
    return 0


def judge_accuracy(judge, count, chunk=250):
    """Share of fresh renders (never trained on) whose style and whose subject the judge names correctly."""
    from tqdm import tqdm

    from toyworld.training.data import STYLE_CLASSES, render_chunk

    style = subject = done = 0
    for number in tqdm(range(max(1, count // chunk)), desc="fresh renders", mininterval=2):
        images, rows = render_chunk(RENDER_SEED, number, chunk)
        predictions = judge.predict(images)
        style += sum(p["style"] == (r["style"] or STYLE_CLASSES[0]) for p, r in zip(predictions, rows, strict=True))
        subject += sum(p["subject"] == r["subject"] for p, r in zip(predictions, rows, strict=True))
        done += len(rows)
    return {"style": style / done, "subject": subject / done, "renders": done}


def evaluation_rows(per_concept):
    """(rows with a concept, rows of "a photo"): prompts with their seeds, for the generator and the judge."""
    from erasure.prompts import Row
    from toyworld.captions import evaluation_prompts

    asked = [
        Row(i, e.prompt, i, extra={"concept_kind": e.kind, "concept": e.concept})
        for i, e in enumerate(evaluation_prompts(per_concept))
    ]
    return asked, [Row(len(asked) + i, "a photo", len(asked) + i) for i in range(PHOTO_ROWS)]


def model_accuracy(judge, arguments):
    """Share of pictures judged right per concept, and what "a photo" shows, at the embedded model's preset."""
    import numpy as np
    from PIL import Image

    from erasure.base_models import load
    from erasure.generation import generate, settings
    from erasure.metrics.judging import judge_folder, summary

    model, identity = load(arguments.ckpt_path)
    rows, photos = evaluation_rows(arguments.images)
    drawing = settings("toy")
    print(generate(model, rows + photos, arguments.work, drawing, {"base": identity.to_dict()}))
    judged = summary(judge_folder(arguments.work, rows, judge.predict))
    concepts = {kind: {c: i["value"] for c, i in found.items()} for kind, found in judged["concepts"].items()}
    plain = judge.predict(np.stack([np.asarray(Image.open(arguments.work / f"{r.case_number}_0.png")) for r in photos]))
    (subject, most), photo = (
        Counter(p["subject"] for p in plain).most_common(1)[0],
        sum(p["style"] == "photo" for p in plain),
    )
    return {
        "concepts": concepts,
        "worst": {kind: min(shares.values()) for kind, shares in concepts.items()},
        "a photo": {
            "most frequent subject": subject,
            "its share": most / len(plain),
            "in no style": photo / len(plain),
        },
        "model": identity.sha256,
        "settings": {"sampler": drawing.sampler, "steps": drawing.steps, "guidance": drawing.guidance},
        "pictures per concept": arguments.images,
    }


def table(scores):
    """The scores as a Markdown table."""
    judge, photo, n = scores["judge"], scores["a photo"], scores["pictures per concept"]
    lines = [
        "| what | bar | measured |",
        "|---|---|---|",
        f"| judge, style of {judge['renders']:,} fresh renders | ≥ 99 % | {judge['style']:.2%} |",
        f"| judge, subject of the same | ≥ 99 % | {judge['subject']:.2%} |",
    ]
    for kind, shares in scores["concepts"].items():
        worst = min(shares, key=shares.get)
        mean = sum(shares.values()) / len(shares)
        lines.append(
            f"| {len(shares)} {'people' if kind == 'person' else kind + 's'}, {n} prompts each, judged right | each ≥ 90 % | {mean:.1%} on average, worst: {worst} {shares[worst]:.0%} |"
        )
    lines.append(
        f'| "a photo", {PHOTO_ROWS} seeds | no particular concept | most frequent subject: {photo["most frequent subject"]} '
        f"{photo['its share']:.0%}; in no painter's style {photo['in no style']:.0%} |"
    )
    return "\n".join(lines)


def update_readme(path, scores):
    """Put the table between the marks of a README that has them."""
    from erasure.runs import write_text

    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    head, mark, rest = text.partition(MARKS[0])
    if mark:
        _, end, tail = rest.partition(MARKS[1])
        write_text(path, f"{head}{mark}\n{table(scores)}\n{end}{tail}")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    from erasure import errors

    errors.run(main)
