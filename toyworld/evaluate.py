"""Measure the embedded model: the judge on fresh renders, and what the base model draws for every concept.

    python -m toyworld.evaluate                       # prints the table, writes models/toy/scores.json
    python -m toyworld.evaluate --images 4 --report outputs/toy.png

Bars: judge >= 99 % on fresh renders; every style, object, person and figure >= 90 % of its prompts judged right;
a plain "a photo" shows no particular concept.
"""

import argparse
import json
from collections import Counter, defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def parse_arguments(argv=None):
    parser = argparse.ArgumentParser(
        prog="python -m toyworld.evaluate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ckpt_path", default=None, help="checkpoint (default: models/toy/toy-v1.safetensors)")
    parser.add_argument("--judge", default=None, help="judge weights (default: models/toy/judge.safetensors)")
    parser.add_argument("--images", type=int, default=20, help="prompts per concept (default: 20)")
    parser.add_argument("--renders", type=int, default=4000, help="fresh renders for the judge (default: 4000)")
    parser.add_argument("--ddim_steps", type=int, default=25)
    parser.add_argument("--guidance_scale", type=float, default=2.0)
    parser.add_argument("--out", default=str(ROOT / "models" / "toy" / "scores.json"), help="where the figures go")
    parser.add_argument("--report", default=None, help="also write a contact sheet PNG here")
    return parser.parse_args(argv)


def main(argv=None):
    arguments = parse_arguments(argv)
    from erasure.base_models import TOY_CONFIG, load
    from erasure.runs import write_json
    from toyworld.judge import JUDGE_PATH, load_judge

    judge = load_judge(arguments.judge or JUDGE_PATH)
    scores = {"judge": judge_accuracy(judge, arguments.renders)}
    print(f"judge on fresh renders: {json.dumps(scores['judge'])}")
    model, _ = load(arguments.ckpt_path or "toy", config=ROOT / TOY_CONFIG)
    scores |= model_accuracy(model, judge, arguments)
    for kind, rows in scores["concepts"].items():
        print(f"{kind}: " + ", ".join(f"{concept} {share:.2f}" for concept, share in rows.items()))
    print(f"a photo: {scores['a photo']}")
    write_json(arguments.out, scores)


def judge_accuracy(judge, count, seed=10_000):
    """Share of fresh renders (never trained on) whose style and whose subject the judge names correctly."""
    from toyworld.training.data import STYLE_CLASSES, render_chunk

    style = subject = done = 0
    while done < count:
        images, rows = render_chunk(seed, done, 250)
        predictions = judge.predict(images)
        style += sum(p["style"] == (r["style"] or STYLE_CLASSES[0]) for p, r in zip(predictions, rows, strict=True))
        subject += sum(p["subject"] == r["subject"] for p, r in zip(predictions, rows, strict=True))
        done += len(rows)
    return {"style": style / done, "subject": subject / done, "renders": done}


def draw(model, prompts, seeds, steps, scale, batch=32):
    """uint8 images [N, 128, 128, 3], one per prompt and seed (DDIM, the embedded model's recommended sampler)."""
    import numpy as np
    import torch
    from tqdm import tqdm

    from ldm.models.diffusion.ddim import DDIMSampler

    sampler = DDIMSampler(model)
    shape = (model.channels, model.image_size, model.image_size)
    out = []
    with torch.no_grad():
        empty = model.get_learned_conditioning([""])
        for start in tqdm(range(0, len(prompts), batch), desc="draw", mininterval=2):
            text = model.get_learned_conditioning(prompts[start : start + batch])
            noise = [
                torch.randn(shape, generator=torch.Generator().manual_seed(s)) for s in seeds[start : start + batch]
            ]
            latents, _ = sampler.sample(
                steps,
                len(text),
                shape,
                text,
                x_T=torch.stack(noise),
                unconditional_guidance_scale=scale,
                unconditional_conditioning=empty.expand(len(text), -1, -1),
                verbose=False,
            )
            pixels = (model.decode_first_stage(latents) * 127.5 + 127.5).clamp(0, 255).round()
            out.append(pixels.permute(0, 2, 3, 1).byte().numpy())
    return np.concatenate(out)


def model_accuracy(model, judge, arguments):
    """Share of judged-right images per concept, and what "a photo" shows."""
    from toyworld.captions import evaluation_prompts

    rows = list(evaluation_prompts(arguments.images))
    photo = [("neutral", "a photo", "a photo")] * 100
    prompts = [row[2] for row in rows + photo]
    images = draw(model, prompts, range(len(prompts)), arguments.ddim_steps, arguments.guidance_scale)
    predictions = judge.predict(images)
    right = defaultdict(list)
    for (kind, concept, _), prediction in zip(rows, predictions, strict=False):
        right[kind, concept].append(prediction["style" if kind == "style" else "subject"] == concept)
    concepts = defaultdict(dict)
    for (kind, concept), values in right.items():
        concepts[kind][concept] = sum(values) / len(values)
    seen = Counter(p["subject"] for p in predictions[len(rows) :])
    styles = Counter(p["style"] for p in predictions[len(rows) :])
    if arguments.report:
        contact_sheet(images, arguments.images, arguments.report)
    return {
        "concepts": dict(concepts),
        "worst": {kind: min(values.values()) for kind, values in concepts.items()},
        "a photo": {"largest subject share": seen.most_common(1)[0][1] / 100, "photo style": styles["photo"] / 100},
        "settings": {k: getattr(arguments, k) for k in ("images", "ddim_steps", "guidance_scale")},
    }


def contact_sheet(images, per_concept, path, columns=8):
    """One row per concept, its first ``columns`` images."""
    import numpy as np
    from PIL import Image

    columns = min(columns, per_concept)
    rows = [np.concatenate(images[i : i + columns], 1) for i in range(0, len(images) - 100, per_concept)]
    half = (len(rows) + 1) // 2
    rows += [np.full_like(rows[0], 255)] * (2 * half - len(rows))
    sheet = np.concatenate([np.concatenate(rows[:half], 0), np.concatenate(rows[half:], 0)], 1)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet).save(path)


if __name__ == "__main__":
    main()
