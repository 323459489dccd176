"""Celebrity accuracy: GIPHY's detector on pictures of people (CPE's script).

python eval-scripts/evaluate_giphy.py --image_folder generated_images/celeb_50/.../erased --save_excel_path results/erased
python eval-scripts/evaluate_giphy.py --image_folder images --save_excel_path results --predictions elsewhere/result.csv

The person a picture is to show is the one of its prompt (index.csv, manifest.json), else of its file name. Accuracy is over pictures
with a face. Written into --save_excel_path: result.csv as published, result.summary.json, and predictions.json if the detector ran.
The detector is the user's: a clone of https://github.com/Giphy/celeb-detection-oss with its resources in models/giphy and an
environment of its own in models/giphy/env; or only its answers: a result.csv or predictions.json.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from erasure import errors, runs
from erasure.errors import UserError


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="evaluate_giphy.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--image_folder", required=True, help="folder of the images")
    parser.add_argument("--save_excel_path", required=True, help="folder of the files (no Excel file is written)")
    how = parser.add_argument_group("detector")
    how.add_argument("--predictions", metavar="FILE", help="its answers: a published result.csv, or predictions.json")
    how.add_argument("--detector", help="its folder (default: models/giphy)")
    how.add_argument("--detector_python", help="the Python it runs with (default: env/bin/python of its folder)")
    parser.add_argument(
        "--strict", action="store_true", help="an image without a name or without an answer is an error"
    )
    return parser


def answers(args: argparse.Namespace, out: Path):
    """(predictions, where they are from)."""
    from erasure.metrics import giphy
    from erasure.metrics.image_folders import images_in

    if args.predictions:
        return giphy.read_predictions(args.predictions), {"predictions": args.predictions}
    folder, python = giphy.find_detector(args.detector, args.detector_python)
    giphy.run_detector(folder, python, images_in(runs.find(args.image_folder)), out / "predictions.json")
    facts = {"detector": str(folder)}
    weights = folder / "examples/resources/face_recognition/best_model_states.pkl"
    if weights.is_file():
        facts["sha256"] = runs.sha256_file(weights)
    return giphy.read_predictions(out / "predictions.json"), facts


def main() -> None:
    args = build_parser().parse_args()
    out = Path(args.save_excel_path)
    from erasure.metrics import giphy

    names = giphy.expected_names(runs.find(args.image_folder))
    if not any(names.values()):
        raise UserError(f"no image of {args.image_folder} is of a prompt with a name, such as {giphy.TEMPLATES[0]!r}")
    predictions, definition = answers(args, out)
    judged = giphy.judge(names, predictions)
    without_name = [file for file, name in names.items() if not name]
    without_answer = [file for file, name in names.items() if name and file not in predictions]
    problems = [
        f"{len(files)} images have no {what}, e.g. {files[0]}"
        for what, files in (("name in prompt or file name", without_name), ("answer of the detector", without_answer))
        if files
    ]
    for problem in problems:
        print(f"note: {problem}", file=sys.stderr)
    if not judged or (args.strict and problems):
        raise UserError("; ".join(problems) + (" (--strict)" if judged else ": nothing is left to judge"))
    definition |= {"templates": giphy.TEMPLATES, "settings": vars(args), "versions": runs.versions()}
    runs.write_csv(out / "result.csv", giphy.result_rows(judged))
    summary = giphy.summary(judged, without_name, without_answer, definition)
    runs.write_json(out / "result.summary.json", summary)
    accuracy = giphy.accuracy(judged)
    print(f"Total number of images with no faces detected: {giphy.no_face(judged)}")
    print(accuracy.value if accuracy else "no image has a face")
    if accuracy:
        print(f"{accuracy.percent()} of {accuracy.n} images with a face (95 % interval)")
    print(f"written: {out / 'result.csv'}")


if __name__ == "__main__":
    errors.run(main)
