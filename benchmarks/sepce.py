"""A step of SepCE (three concepts jointly) and of SRS_ME (one concept) beside the published form with two whole models.

python -m benchmarks.sepce ours sd-v1 SepCE cpu 1 16        # what the memory figures come from: a process that trains one way
python -m benchmarks.sepce times sd-v1 SepCE cpu 1 16 24    # both, in turns, for 24 seconds or twice
"""

import copy
import json
import sys

from benchmarks.harness import FORMS, Column, Settings, compare, interleave, memory_columns, ratio_columns

TITLE = "SepCE and SRS_ME step beside the form with two whole models"
NOTE = (
    "The peer is written as the published scripts are: a trained and a frozen LatentDiffusion, gradients of every weight of "
    "the UNet, a separate forward at batch 1 for each model, concept and text (the concept's and the empty one: twelve for three "
    "concepts), and the shift *w (beta S)* of every projection formed again in every forward. Ours batches them, has one network "
    "and nothing but the coefficients with a gradient, and leaves out the forward of the empty text where its gradient is zero: not on the embedded model, "
    "whose bases protect prompts approximately. Same draws, texts encoded and bases solved before; both forms' losses of two steps and "
    "gradients of the first are compared. SD v1 has random weights and random text states, small latents on a CPU, no gradient checkpointing. "
    "Memory: peak of a process that makes two steps, less what it held before the model was loaded."
)
COLUMNS = [
    Column("method", "script"),
    Column("model", "model"),
    Column("latents", "latents"),
    Column("bases", "bases"),
    *ratio_columns(),
    *memory_columns(),
]
CONCEPTS = ("VanGogh", "Cezanne", "Picasso")
METHODS = {"SepCE": 3, "SRS_ME": 1}  # concepts that are erased; the others are protected
LR, STEPS = 0.1, 2


def run(settings: Settings) -> list[dict]:
    methods = list(METHODS)[: 1 if settings.quick else None]
    return [measure(name, method, settings) for name in settings.chosen_models(["toy"]) for method in methods]


def measure(name: str, method: str, settings: Settings) -> dict:
    """Each part in a process of its own: at SD v1's size, one of them takes most of a small machine's memory."""
    import torch

    from benchmarks.machine import child, trained_alone

    side = 8 if settings.quick else 16
    if name == "sd-v1" and not settings.quick:
        side = settings.latents or (64 if settings.device.startswith("cuda") else 16)
    arguments = [name, method, settings.device, torch.get_num_threads(), side]
    memory = trained_alone("benchmarks.sepce", arguments)  # first, as the forms' losses are compared there
    timed = child(["benchmarks.sepce", "times", *arguments, 0 if settings.quick else 2 * settings.seconds])
    facts = {"method": method, "model": name, "latents": f"{side}x{side}", "bases": timed["bases"]}
    return facts | {"skipped": timed["skipped"]} | compare(timed["times"]) | memory


def timed(name: str, method: str, device: str, side: int, seconds: float) -> dict:
    """Times of both forms in turns, on one copy of the weights, which neither changes; `seconds` 0: one pair."""
    import torch

    from benchmarks import models

    model = models.load(name, device)
    task = Task(model, name, method)
    model.first_stage_model = model.cond_stage_model = None  # texts are encoded
    others = [copy.deepcopy(model, {id(p): torch.nn.Parameter(p.data) for p in model.parameters()}) for _ in range(2)]
    ours, peer = task.ours(model), TwoModels(*others, task)
    calls = {form: updates(trainer, side) for form, trainer in zip(FORMS, (ours, peer), strict=True)}
    times = interleave(calls, device, seconds, (2, 60) if seconds else (1, 1))
    return {"times": times, "bases": len(task.bases[0].bases), "skipped": ours.objective.unseen_by_empty}


class Task:
    """What is trained: concepts, their bases, the states of the texts."""

    def __init__(self, model, name: str, method: str):
        from methods.sepce.objectives.sepce import SepceOptions

        encode, bases = (toy if name == "toy" else random_texts)(model)
        self.encode = {text: encode(text) for text in ("", *CONCEPTS)}.__getitem__  # the encoder is not needed any more
        self.bases = bases[: METHODS[method]]
        # numbers with which few steps change the losses: what the two forms make of them is compared
        how = {} if method == "SepCE" else {"reg": "delta_l1", "balance": "none"}
        self.options = SepceOptions(scale_factor=1e-2, reg_beta=1e-3, iter_break=10**9, **how)

    def ours(self, model):
        from methods.sepce.objectives.sepce import SepCE
        from methods.sepce.training import Trainer

        objective = SepCE(model, self.encode, self.bases, [float("-inf")] * len(self.bases), self.options)
        return Trainer(objective.__enter__(), LR)


def toy(model):
    """(text encoder, bases) of the embedded model, as SepCE.py has them."""
    from methods.sepce.sepce_run import solved
    from methods.sepce.settings import SepceSettings
    from methods.sepce.training import text_encoder

    return text_encoder(model), list(solved(model, SepceSettings.for_family("SepCE", "toy", CONCEPTS)))


def random_texts(model):
    """(text encoder, bases) of random states at SD v1's size: 77 rows a text, of which they share the first."""
    import torch

    from benchmarks.closed_form import text_states
    from erasure.text_states import TextStates
    from methods.sepce import bases

    states = text_states(torch.Generator().manual_seed(0), 1 + len(CONCEPTS)).float().to(model.device)
    known = dict(zip(("", *CONCEPTS), states, strict=True))
    texts = TextStates(lambda names: (torch.stack([known[name] for name in names]), [0] * len(names)))
    found = [bases.build(texts, concept, [c for c in CONCEPTS if c != concept]) for concept in CONCEPTS]
    return lambda text: known[text][None], found


def updates(trainer, side: int):
    """A function that makes the next step; the draws are the same for every trainer."""
    import torch

    from erasure.training.draws import draw_timestep
    from methods.sepce.training import Step

    iteration = 0

    def update() -> float:
        nonlocal iteration
        iteration += 1
        generator = torch.Generator().manual_seed(iteration)
        device = trainer.device if isinstance(trainer, TwoModels) else trainer.objective.device
        draws = [torch.randn(1, 4, side, side, generator=generator).to(device) for _ in range(2 * len(CONCEPTS))]
        t = torch.tensor([draw_timestep(50, generator)[1]], device=device)
        return trainer.update(Step(t, draws[::2], draws[1::2]))

    return update


class TwoModels:
    """SepCE as first published: nothing shared between models, concepts, texts and layers."""

    def __init__(self, model, frozen, task: Task):
        import torch

        from ldm.modules.kv_shift import cross_attentions

        self.model, self.frozen, self.options, self.device = model.train(), frozen, task.options, model.device
        unet = model.model.diffusion_model.requires_grad_(True)
        self.empty = task.encode("").to(self.device)
        self.texts = [task.encode(found.concept).to(self.device) for found in task.bases]
        self.scaled = [(self.options.scale_factor * found.bases).to(self.device) for found in task.bases]  # float64
        projections = [p for layer in cross_attentions(unet).values() for p in (layer.to_k, layer.to_v)]
        self.coefficients = [
            [torch.zeros(p.out_features, len(base), device=self.device, requires_grad=True) for p in projections]
            for base in self.scaled
        ]
        for projection, *own in zip(projections, *self.coefficients, strict=True):
            projection.register_forward_hook(self.shift(own))
        self.trained = {f"{j}.{i}": w for j, own in enumerate(self.coefficients) for i, w in enumerate(own)}
        self.optimizer = torch.optim.Adam(self.trained.values(), lr=LR)

    def shift(self, coefficients):
        def add(_, inputs, out):
            for w, base in zip(coefficients, self.scaled, strict=True):
                out = out + ((w @ base.float()) @ inputs[0][0].T).T
            return out

        return add

    def update(self, step) -> dict[str, float]:
        import torch

        xs = [self.model.q_sample(z, step.t, n) for z, n in zip(step.latents, step.noises, strict=True)]
        pairs = list(zip(xs, self.texts, strict=False))  # as many as are erased
        with torch.no_grad():
            originals = [self.added(self.frozen, x, step.t, text) for x, text in pairs]
        products = [self.added(self.model, x, step.t, text) * r for (x, text), r in zip(pairs, originals, strict=True)]
        norms = [product.detach().norm() for product in products]
        terms = [
            product.mean() * norms[0] / norm + self.options.reg_beta * self.regulariser(j)
            for j, (product, norm) in enumerate(zip(products, norms, strict=True))
        ]
        loss = sum(terms) / len(terms)
        loss.backward()  # gradients add up, as published
        self.optimizer.step()
        return {"loss": loss.item()}

    def added(self, model, x, t, text):
        """What a concept adds to the prediction: of two forwards."""
        return model.apply_model(x, t, text) - model.apply_model(x, t, self.empty)

    def regulariser(self, j: int):
        own = self.coefficients[j]
        if self.options.reg == "coef_mean":
            return sum(w.abs().mean() for w in own)
        return sum((w @ self.scaled[j].float()).abs().sum() for w in own) / len(own)


def main(what: str, name: str, method: str, device: str, threads: str, side: str, seconds: str = "0") -> None:
    import torch

    from benchmarks import closed_form, machine, models  # noqa: F401
    from erasure import base_models  # noqa: F401
    from methods.sepce import sepce_run, training  # noqa: F401  (imports are not what is measured)

    torch.set_num_threads(int(threads))
    if what == "times":
        print(json.dumps(timed(name, method, device, int(side), float(seconds))))
        return
    before = machine.reset_peak(device)
    model = models.load(name, device)
    task = Task(model, name, method)
    trainer = task.ours(model) if what == "ours" else TwoModels(model, models.load(name, device), task)
    trained = trainer.objective.trained if what == "ours" else trainer.trained
    update = updates(trainer, int(side))
    losses = [update()["loss"]]
    gradients = [
        w.grad.norm().item() for w in trained.values()
    ]  # by concept and projection; later ones magnify rounding
    losses += [update()["loss"] for _ in range(STEPS - 1)]
    print(json.dumps({"losses": losses + gradients, "before": before, "peak": machine.peak(device)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
