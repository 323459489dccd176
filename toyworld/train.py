"""Train the embedded model from nothing.

    python -m toyworld.train                        # every stage, resumes where it stopped; writes models/toy/
    python -m toyworld.train --stage vae            # stop after this stage
    python -m toyworld.train --pictures 2000 --scale-steps 0.01 --out trial --work trial/work     # a trial run

Stages: renders, judge, vae, judge-final, text, unet, export.
"""

import argparse
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STEPS = {"judge": 1200, "vae": 2000, "judge-final": 1500, "text": 900, "unet": 6000}


def parse_arguments(argv=None):
    parser = argparse.ArgumentParser(
        prog="python -m toyworld.train", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stage", default="all", choices=["all", *STEPS], help="stop after this stage (default: all)")
    parser.add_argument("--out", default=str(ROOT / "models" / "toy"), help="folder of the finished weights")
    parser.add_argument("--work", default=str(ROOT / ".toy-train"), help="folder of renders and checkpoints")
    parser.add_argument("--config", default=str(ROOT / "configs" / "toy" / "v1-inference.yaml"))
    parser.add_argument("--pictures", type=int, default=16000, help="number of renders (default: 16000)")
    parser.add_argument("--scale-steps", type=float, default=1.0, help="multiply the steps of every stage")
    parser.add_argument("--unet-steps", type=int, help=f"steps of the unet stage (default: {STEPS['unet']})")
    parser.add_argument("--threads", type=int, help="CPU threads (default: all cores)")
    arguments = parser.parse_args(argv)
    for name in ("pictures", "scale_steps", "unet_steps", "threads"):
        value = getattr(arguments, name)
        if value is not None and not value > 0:
            parser.error(f"--{name.replace('_', '-')} must be greater than 0, not {value}")
    if not Path(arguments.config).is_file():
        parser.error(f"no configuration at {arguments.config}")
    return arguments


def main(argv=None):
    arguments = parse_arguments(argv)
    import torch

    from erasure.errors import UserError

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    steps = {name: max(2, int(count * arguments.scale_steps)) for name, count in STEPS.items()}
    steps["unet"] = arguments.unet_steps or steps["unet"]
    try:
        train_all(arguments, steps)
    except FloatingPointError as error:
        raise UserError(f"training diverged: {error}") from None


def train_all(arguments, steps):
    """Run the stages in order; a finished stage loads its result at once."""
    from toyworld.training import data, stages

    work = Path(arguments.work)
    pictures = data.prepare(work / "pictures", arguments.pictures)

    judge = stages.train_judge(pictures, work, steps["judge"])
    if arguments.stage == "judge":
        return

    import torch
    from omegaconf import OmegaConf

    from ldm.util import instantiate_from_config
    from toyworld.training.export import export_weights

    torch.manual_seed(0)
    config = OmegaConf.load(arguments.config).model
    vae = instantiate_from_config(config.params.first_stage_config)
    stages.train_autoencoder(vae, pictures, judge, work, steps["vae"])
    if arguments.stage == "vae":
        return

    judge_final = stages.train_judge(pictures, work, steps["judge-final"], autoencoder=vae, initial=judge)
    if arguments.stage == "judge-final":
        return

    latents = cached_latents(work / "latents.pt", vae, pictures)
    latents = stages.normalise_latents(vae, latents)

    torch.manual_seed(1)
    model = instantiate_from_config(config)
    model.first_stage_model.load_state_dict(vae.state_dict())
    stages.train_text(model.cond_stage_model, pictures, work, steps["text"])
    if arguments.stage == "text":
        return

    contexts, caption_index = stages.encode_captions(model.cond_stage_model, pictures.captions)
    for parameter in model.model.parameters():
        parameter.requires_grad_(True)
    stages.train_unet(model, latents, contexts, caption_index, work, steps["unet"])
    export_weights(model, judge_final, Path(arguments.out))


def cached_latents(path, vae, pictures):
    """Latents of all pictures, computed once (before normalisation)."""
    import torch

    from erasure.runs import atomic_path
    from toyworld.training.stages import encode_pictures

    if path.exists():
        latents = torch.load(path, weights_only=True)
        if len(latents) == len(pictures):
            return latents
    latents = encode_pictures(vae, pictures)
    with atomic_path(path) as temporary:
        torch.save(latents, temporary)
    return latents


if __name__ == "__main__":
    from erasure import errors

    errors.run(main)
