"""What CPE's gates add to a forward of the UNet, and how long their files take to load."""

import copy
import functools
import itertools
import statistics
import tempfile
from pathlib import Path

from benchmarks import models
from benchmarks.harness import Column, Settings, interleave, seconds_text

TITLE = "CPE's gates in a UNet forward beside the published form"


def percent(value: float) -> str:
    return f"{100 * value:.2f} %"


NOTE = (
    "Random gates (rank 16, residuals of rank 1: the celebrities' and artists') on a UNet with random weights, batch 2 as with guidance, 77 tokens. "
    "*Added*: the time of all gated key and value projections (32 of SD v1) less that of the plain ones, measured without the rest of the UNet, where it would be lost in the noise, and *share* "
    "of the plain forward. *New prompt*: the first step of an image, in which the gates are evaluated; *same prompt*: every further one, in which they are not. "
    "The peer is written as published: the gate again in every layer of the first step, afterwards what it stored of every layer. Outputs of both agree to 1e-4. "
    "*Whole forward*: of a new prompt, divided by the plain one, median of few pairs: on a busy machine less sure than *share*. *Loading*: "
    "`erasure.edits.load_into` of a folder with a file a concept that was read before, model in memory."
)
COLUMNS = [
    Column("model", "model"),
    Column("latents", "latents"),
    Column("concepts", "concepts"),
    Column("forward_s", "plain forward", seconds_text),
    Column("new_s", "added, new prompt", seconds_text),
    Column("new_share", "share", percent),
    Column("same_s", "added, same prompt", seconds_text),
    Column("same_share", "share", percent),
    Column("peer_new_s", "peer, new prompt", seconds_text),
    Column("peer_same_s", "peer, same prompt", seconds_text),
    Column("ratio", "peer / ours, new", "**{:.1f}**".format),
    Column("whole", "whole forward", "{:.2f}".format),
    Column("peer_whole", "peer's", "{:.2f}".format),
    Column("rounds", "pairs"),
    Column("bytes", "files", lambda value: f"{value / 1e6:.1f} MB"),
    Column("load_s", "loading", seconds_text),
]
CONCEPTS, RANK = (1, 50, 100), 16
BATCH = 2


def run(settings: Settings) -> list[dict]:
    rows = []
    for name in settings.chosen_models(["toy"]):
        unet = unet_of(name, settings.device)
        side = 8 if settings.quick else 16 if name == "toy" else settings.latents or 64
        for count in CONCEPTS[:1] if settings.quick else CONCEPTS:
            row = {"model": name, "latents": f"{side}x{side}", "concepts": count}
            row |= forwards(unet, count, side, settings) | loading(unet, count, settings)
            rows.append(row | {f"{what}_share": row[f"{what}_s"] / row["forward_s"] for what in ("new", "same")})
            print(f"  {name} with gates of {count}: {percent(rows[-1]['new_share'])} of a forward", flush=True)
    return rows


def unet_of(name: str, device: str):
    import torch

    from ldm.util import instantiate_from_config

    torch.manual_seed(0)
    with torch.device(device):
        unet = instantiate_from_config(models.config(name).params.unet_config)
    models.fill_zeros(unet)
    return unet.eval()


# ---- gates ---------------------------------------------------------------------------------------------------------


def random_gates(modules: dict, count: int):
    """Gates of `count` concepts for projections: name -> module."""
    import torch

    from ldm.modules.residual_gate import Gates

    weight = next(iter(modules.values())).weight
    generator, (_, dim) = torch.Generator().manual_seed(count), weight.shape

    def draw(*shape):
        return (0.02 * torch.randn(count, *shape, generator=generator)).to(weight.device)

    down = {name: draw(dim, 1) for name in modules}
    up = {name: draw(1, len(module.weight)) for name, module in modules.items()}
    return Gates(draw(dim, RANK), draw(dim, RANK), draw(dim, 1), down, up)


def attach_published(modules: dict, gates, kept: bool) -> None:
    """Hooks that evaluate the gate in every layer; kept: in the first call only."""
    from benchmarks.cpe_published import residual

    stored = {}

    def hook(name: str):
        def add(_, inputs, out):
            if not (kept and name in stored):
                stored[name] = residual(*inputs, gates.query, gates.scaler, gates.down[name], gates.up[name])
            return out + gates.scale * stored[name]

        return add

    for name, module in modules.items():
        module.register_forward_hook(hook(name))


def projections_alone(modules: list):
    """A network of nothing but a UNet's projections, whose weights it shares."""
    import torch

    class Projections(torch.nn.Module):
        dtype = modules[0].weight.dtype

        def __init__(self):
            super().__init__()
            self.layers = torch.nn.ModuleList(torch.nn.Linear(1, 1, bias=False, device="meta") for _ in modules)
            for layer, module in zip(self.layers, modules, strict=True):
                layer.weight = module.weight

        def forward(self, context):
            return torch.cat([layer(context).flatten() for layer in self.layers])

    return Projections()


# ---- rows ----------------------------------------------------------------------------------------------------------


def forwards(unet, count: int, side: int, settings: Settings) -> dict:
    """What the gates add to the projections, and whole forwards with them."""
    import torch

    from benchmarks.closed_form import TOKENS, text_states
    from erasure.edits.residual_gates import layer_names

    names = list(layer_names(unet.state_dict()))
    modules = [unet.get_submodule(name) for name in names]
    generator = torch.Generator().manual_seed(1)
    contexts = text_states(generator, 2 * BATCH, modules[0].weight.shape[1]).float().to(settings.device).split(BATCH)
    x = torch.randn(BATCH, 4, side, side, generator=generator).to(settings.device)
    t = torch.full((BATCH,), 500, device=settings.device)

    def alone():
        network = projections_alone(modules)
        return network, [f"layers.{i}" for i in range(len(modules))], network

    def whole():
        network = copy.deepcopy(unet, {id(p): p for p in unet.parameters()})  # the same weights
        return network, names, lambda context: network(x, t, context=context)

    forms, rounds = ("plain", "new", "same", "peer_new", "peer_same"), (1, 1) if settings.quick else (16, 60)
    times = timed(alone, forms, count, contexts, settings, rounds)
    added = {
        form: statistics.median(b - a for a, b in zip(times["plain"], times[form], strict=True)) for form in forms[1:]
    }
    times = timed(whole, ("plain", "new", "peer_new"), count, contexts, settings, (1, 1) if settings.quick else (2, 30))
    found = {f"{form}_s": value for form, value in added.items()} | {"ratio": added["peer_new"] / added["new"]}
    for form, key in (("new", "whole"), ("peer_new", "peer_whole")):
        found[key] = statistics.median(b / a for a, b in zip(times["plain"], times[form], strict=True))
    return found | {"forward_s": statistics.median(times["plain"]), "rounds": len(times["plain"]), "tokens": TOKENS}


def timed(fresh, forms, count: int, contexts, settings: Settings, rounds) -> dict[str, list[float]]:
    """Times of a network in every form. fresh() -> (network, names of its projections, call of a context)."""
    import torch

    from benchmarks.cpe import agree
    from ldm.modules.residual_gate import attach

    calls, outputs = {}, {}
    for form in forms:
        network, names, call = fresh()
        modules = {name: network.get_submodule(name) for name in names}
        if form.startswith("peer"):
            attach_published(modules, random_gates(modules, count), kept=form == "peer_same")
        elif form != "plain":
            attach(network, random_gates(modules, count))
        used = contexts[:1] if form.endswith("same") else contexts
        calls[form] = torch.no_grad()(functools.partial(_next, call, itertools.cycle(used)))
        outputs[form] = calls[form]()
    for form in outputs.keys() - {"plain"}:
        agree(f"output with {count} gates, {form}", outputs["new"], outputs[form])
    return interleave(calls, settings.device, settings.seconds, rounds, warm_up=False)


def _next(call, contexts):
    return call(next(contexts))


def loading(unet, count: int, settings: Settings) -> dict:
    """A folder with a file a concept, as trained, into a model."""
    import torch

    from erasure import edits
    from erasure.edits.residual_gates import ALPHA, DOWN, KEY, KIND, QUERY, SCALER, UP, layer_names

    layers = layer_names(unet.state_dict())
    gates = random_gates({name: unet.get_submodule(name) for name in layers}, count)
    model = torch.nn.Module()
    model.model = torch.nn.Module()
    model.model.diffusion_model = unet
    with tempfile.TemporaryDirectory() as folder:
        for n in range(count):
            tensors = {QUERY: gates.query[n : n + 1], KEY: gates.key[n : n + 1], SCALER: gates.scaler[n : n + 1]}
            for name, layer in layers.items():
                tensors |= {layer + DOWN: gates.down[name][n : n + 1], layer + UP: gates.up[name][n : n + 1]}
                tensors |= {layer + ALPHA: torch.tensor(1.0)}
            concept = f"concept {n}"
            edit = edits.Edit("cpe", [concept], {}, {}, {k: t.cpu().contiguous() for k, t in tensors.items()}, KIND)
            edits.save_gates(edit, Path(folder) / concept / "gates_last.safetensors")
        size = sum(file.stat().st_size for file in edits.gate_files(folder))
        load = {"load": lambda: edits.load_into(model, None, folder).remove()}
        times = interleave(load, settings.device, 0, (1, 1) if settings.quick else (5, 5))
    return {"bytes": size, "load_s": statistics.median(times["load"])}
