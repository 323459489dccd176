"""One iteration of ESD beside the published trainer's form: two whole models, three forwards, texts encoded every time.

python -m benchmarks.esd ours toy cpu 2 0      # what the memory figures come from: a process that trains one way
"""

import json
import statistics
import sys

from benchmarks.harness import FORMS, Column, Settings, compare, interleave, memory_columns, ratio_columns

TITLE = "ESD iteration beside the form with two whole models"
NOTE = (
    "The peer is written as the published trainer is: a trainable and a frozen LatentDiffusion, every weight of the UNet "
    "with a gradient, three text encodings and three separate forwards an iteration. Both make the same draws, train "
    "cross-attention and run on the same `ldm`; times are means, as iterations differ in their number of steps. Memory: peak of a process that makes three iterations, less what it held "
    "before the model was loaded. On a CPU, SD v1 is measured on latents of 16x16 and with few DDIM steps."
)


COLUMNS = [
    Column("model", "model"),
    Column("latents", "latents"),
    Column("steps", "DDIM steps"),
    *ratio_columns(),
    *memory_columns(),
]


def run(settings: Settings) -> list[dict]:
    return [measure(name, settings) for name in settings.chosen_models(["toy"])]


def measure(name: str, settings: Settings) -> dict:
    import torch

    from benchmarks.machine import trained_alone

    esd = esd_settings(name, settings.device, settings.quick)
    calls = {form: updates(trainer(form, name, settings.device, esd), esd) for form in FORMS}
    times = interleave(calls, settings.device, 2 * settings.seconds, (1, 1) if settings.quick else (4, 60))
    del calls
    arguments = [name, settings.device, torch.get_num_threads(), int(settings.quick)]
    return {
        "model": name,
        "latents": f"{esd.image_size // 8}x{esd.image_size // 8}",
        "steps": esd.ddim_steps,
        **compare(times),
        **{f"{form}_s": statistics.fmean(times[form]) for form in FORMS},
        **trained_alone("benchmarks.esd", arguments),
    }


def esd_settings(name: str, device: str, quick: bool):
    """The model's preset; less of it where an iteration would take minutes."""
    from methods.esd.settings import EsdSettings

    small = {"ddim_steps": 4, "image_size": 128} if name == "sd-v1" and device == "cpu" else {}
    if quick:
        small = {"ddim_steps": 2, "image_size": 64}
    return EsdSettings.for_family(name, prompt="Van Gogh", train_method="xattn", seed=0, **small)


def trainer(form: str, name: str, device: str, esd):
    from benchmarks import models
    from methods.esd.training import Trainer

    if form == "ours":
        return Trainer(models.load(name, device), esd).__enter__()
    return TwoModels(models.load(name, device), models.load(name, device), esd)


def updates(trainer, esd):
    """A function that makes the next iteration; the draws are the same for every trainer."""
    from methods.esd.training import draw

    iteration = 0

    def update() -> float:
        nonlocal iteration
        iteration += 1
        return trainer.update(draw(esd, iteration - 1, trainer.model.channels))

    return update


class TwoModels:
    """ESD as first published: nothing shared between the trained and the frozen model, nothing kept between iterations."""

    def __init__(self, model, frozen, settings):
        import torch

        from ldm.models.diffusion.ddim import DDIMSampler
        from methods.esd.esd import select_parameters

        self.model, self.frozen, self.settings = model.train(), frozen, settings
        model.model.diffusion_model.requires_grad_(True)
        selected = select_parameters(model.model.diffusion_model, settings.train_method)
        self.optimizer = torch.optim.Adam(selected.values(), lr=settings.lr)
        self.sampler = DDIMSampler(model)

    def update(self, draws) -> float:
        import torch

        from methods.esd.esd import esd_target, sample_till

        s, encode, noise = self.settings, self.model.get_learned_conditioning, draws.start_code.to(self.model.device)
        t = torch.tensor([draws.t_ddpm], device=noise.device)
        with torch.no_grad():
            emb_0, emb_p, emb_n, emb_u = (encode([text]) for text in ("", draws.concept, draws.concept, ""))
        self.optimizer.zero_grad()
        z = sample_till(self.sampler, emb_p, emb_u, s.start_guidance, noise, draws.t_enc, s.ddim_steps)
        with torch.no_grad():
            e_0 = self.frozen.apply_model(z, t, emb_0)
            e_p = self.frozen.apply_model(z, t, emb_p)
        loss = torch.nn.functional.mse_loss(
            self.model.apply_model(z, t, emb_n), esd_target(e_0, e_p, s.negative_guidance)
        )
        loss.backward()
        self.optimizer.step()
        return loss.item()


def main(form: str, name: str, device: str, threads: str, quick: str) -> None:
    import torch

    from benchmarks import machine, models  # noqa: F401
    from erasure import base_models  # noqa: F401
    from methods.esd import training  # noqa: F401  (imports are not what is measured)

    torch.set_num_threads(int(threads))
    esd = esd_settings(name, device, bool(int(quick)))
    before = machine.reset_peak(device)
    update = updates(trainer(form, name, device, esd), esd)
    print(json.dumps({"losses": [update() for _ in range(3)], "before": before, "peak": machine.peak(device)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
