"""CPE's training beside the published form: all key and value projections of the UNet, plain and gated, in every iteration.

python -m benchmarks.cpe ours sd-v1 celeb cpu 1      # what the memory figures come from: a process that trains one way
"""

import json
import statistics
import sys

from benchmarks.harness import FORMS, Column, Settings, compare, duration, interleave, memory_columns, ratio_columns

TITLE = "CPE's training beside the published form"
NOTE = (
    "Random weights in the shapes of a model's cross-attentions, random text states; settings and schedules are those of `configs/train_*`. "
    "The peer's losses are written as published: an iteration runs the plain and the gated projection of all layers (32 of SD v1) on the states of target, "
    "stand-in, empty text, attacked targets and anchors, with the gate anew in every layer. Its draws, optimizer and parameters are ours, "
    "which is cheaper than published. From the same state, every loss and gradient of both forms agrees to 1e-4 of the largest. Eight "
    "iterations of ours are timed beside one of the peer's. *Whole schedule*: not run, but its numbers of iterations times the lines above it. *Texts*: a "
    "sample of them through the text tower, times their number; ours encodes what all concepts of a run share once, published: all for every concept. "
    "*Strengths*: spectral norms and, of ours, the forms; published: for every concept. "
    "Memory: peak of a process that makes two iterations of each kind, less what it held before, with 64 anchors in place of SD v1's up to 15,150, "
    "whose states take 3.6 GB in both forms."
)
COLUMNS = [
    Column("model", "model"),
    Column("concept", "concept"),
    Column("what", "what"),
    *[Column(c.key, c.header, duration) if c.key in ("ours_s", "peer_s") else c for c in ratio_columns()],
    *memory_columns(),
]
DOMAINS = ("celeb", "artist", "explicit")
FIRST, LATER, ATTACK = "erasing, first stage", "erasing, later stages", "adversarial"
ANCHORS, TEMPLATES = 64, 4
REPEATS = 8  # iterations of ours beside one of the peer's
TOLERANCE = 1e-4


def run(settings: Settings) -> list[dict]:
    rows = []
    for name in settings.chosen_models(["toy"]):
        rows.append({"model": name, "concept": "all", "what": "strengths of projections"} | strengths(name, settings))
        for domain in DOMAINS[: 1 if settings.quick else None]:
            found = [*iterations(name, domain, settings), *texts(name, domain, settings)]
            rows += [{"model": name, "concept": domain} | row for row in found]
    return rows


# ---- what is trained -----------------------------------------------------------------------------------------------


def published_settings(name: str, domain: str):
    """Those of the domain's first concept on a model."""
    from methods.cpe.settings import CpeSettings
    from methods.cpe.yaml_files import read_config, read_yaml

    config = read_config(f"configs/train_{domain}/config.yaml", name)
    return CpeSettings.of(config, read_yaml(config["prompts_file"])[0], {})


def cross_attentions(name: str, device: str) -> tuple[dict, dict]:
    """(random weights of all cross-attentions of a model's UNet, layers of its projections); the UNet itself is not made."""
    import torch

    from benchmarks import models
    from erasure.edits.residual_gates import layer_names
    from ldm.util import instantiate_from_config

    with torch.device("meta"):
        unet = instantiate_from_config(models.config(name).params.unet_config)
    generator = torch.Generator().manual_seed(0)
    weights = {
        key: (torch.randn(weight.shape, generator=generator) / weight.shape[-1] ** 0.5).to(device)
        for key, weight in unet.state_dict().items()
        if ".attn2.to_" in key and weight.ndim == 2
    }
    return weights, layer_names(unet.state_dict())


def problem_of(name: str, device: str):
    """Frozen projections and random states of texts."""
    import torch

    from benchmarks.closed_form import TOKENS, text_states
    from methods.cpe.anchors import StateCache
    from methods.cpe.projections import Projections
    from methods.cpe.training import Problem

    frozen = Projections.of_weights(*cross_attentions(name, device), TOKENS)
    states = text_states(torch.Generator().manual_seed(1), ANCHORS + 2 * TEMPLATES + 1, frozen.dim).float().to(device)
    target, neutral, empty, anchors = states.split([TEMPLATES, TEMPLATES, 1, ANCHORS])
    return Problem(frozen, target, neutral, empty, StateCache([(anchors, torch.arange(ANCHORS))], device))


def trainer_of(form: str, problem, s, kind: str):
    """A trainer at the beginning of a phase, with gates that are open and residuals that do something."""
    import torch

    from benchmarks.cpe_published import Published
    from methods.cpe import schedule
    from methods.cpe.residuals import Residuals
    from methods.cpe.run_folder import NEWEST
    from methods.cpe.training import Trainer

    generator = torch.Generator().manual_seed(2)
    residuals = Residuals.fresh(problem.projections, s.gate_rank, s.rank, s.alpha, s.separate_key, generator)
    for tensor in (residuals.query, residuals.scaler, *residuals.ups):
        tensor.copy_(0.02 * torch.randn(tensor.shape, generator=generator))
    offsets = 0.1 * torch.randn(s.num_add_prompts, *problem.target.shape[1:], generator=generator)
    found = {NEWEST: offsets.to(problem.device)} if kind == LATER else {}
    trainer = (Trainer if form == "ours" else Published)(problem, s, residuals, found)
    trainer.start(next(phase for phase in schedule.phases(s) if kind_of(phase) == kind))
    if kind == ATTACK:  # a phase begins with offsets of nearly zero, where there is little to compare
        with torch.no_grad():
            trainer.trained[NEWEST].copy_(offsets)
    return trainer


def kind_of(phase) -> str:
    from methods.cpe import schedule

    return ATTACK if phase.kind == schedule.ATTACK else LATER if phase.stage else FIRST


# ---- iterations ----------------------------------------------------------------------------------------------------


def iterations(name: str, domain: str, settings: Settings) -> list[dict]:
    """A row for each kind of iteration, and one for the whole schedule that they make up."""
    import torch

    from benchmarks.machine import trained_alone
    from methods.cpe import schedule

    s, problem = published_settings(name, domain), problem_of(name, settings.device)
    plan, rows = schedule.phases(s), []
    for kind in (FIRST, LATER, ATTACK):
        times = iteration_times(problem, s, kind, settings)
        count = sum(phase.iterations for phase in plan if kind_of(phase) == kind)
        rows.append({"what": kind, "iterations": count} | compare(times))
        print(f"  {name}, {domain}, {kind}: {', '.join(duration(rows[-1][f'{form}_s']) for form in FORMS)}", flush=True)
    count = sum(row["iterations"] for row in rows)
    whole = {"what": f"whole schedule, {count:,} iterations", "iterations": count}
    whole |= {f"{form}_s": sum(row["iterations"] * row[f"{form}_s"] for row in rows) for form in FORMS}
    whole["ratio"] = whole["peer_s"] / whole["ours_s"]
    return [*rows, whole | trained_alone("benchmarks.cpe", [name, domain, settings.device, torch.get_num_threads()])]


def iteration_times(problem, s, kind: str, settings: Settings) -> dict[str, list[float]]:
    """Seconds of an iteration in both forms, in turns, after one of each whose numbers are compared."""
    trainers = {form: trainer_of(form, problem, s, kind) for form in FORMS}
    for trainer in trainers.values():
        trainer.update(0, True)
    ours, peer = trainers.values()
    for key, value in peer.rows[-1].items():
        if isinstance(value, float) and key != "lr":  # which is zero
            agree(f"{kind}: {key}", ours.rows[-1][key], value)
    for key, tensor in peer.trained.items():
        agree(f"{kind}: gradient of {key}", ours.trained[key].grad, tensor.grad)
    repeats = {"ours": 1 if settings.quick else REPEATS, "peer": 1}
    calls = {form: updates(trainer, repeats[form]) for form, trainer in trainers.items()}
    times = interleave(calls, settings.device, settings.seconds, (1, 1) if settings.quick else (3, 30), warm_up=False)
    return {form: [t / repeats[form] for t in values] for form, values in times.items()}


def updates(trainer, repeats: int):
    """A function that makes the next iterations, the first of a phase left out."""
    done = 0

    def update() -> None:
        nonlocal done
        for _ in range(repeats):
            done = done % (trainer.phase.iterations - 1) + 1
            trainer.update(done, False)

    return update


def agree(what: str, ours, peer) -> None:
    """RuntimeError if numbers or tensors differ by more than `TOLERANCE` of the largest."""
    import torch

    ours, peer = (torch.as_tensor(value) for value in (ours, peer))
    difference = float((ours - peer).abs().max() / peer.abs().max())
    if not difference <= TOLERANCE:
        raise RuntimeError(f"{what}: the two forms differ by {difference:.1e}")


# ---- what precedes them --------------------------------------------------------------------------------------------


def strengths(name: str, settings: Settings) -> dict:
    """All that is made of the weights, beside the published singular values in float32."""
    import torch

    from benchmarks.closed_form import TOKENS
    from methods.cpe.projections import Projections

    weights, names = cross_attentions(name, settings.device)
    ours = Projections.of_weights(weights, names, TOKENS)

    def singular_values() -> None:
        for i, projection in enumerate(ours.names):
            layer, _, kind = projection.rpartition(".")
            query, value, out = (weights[f"{layer}.{part}.weight"] for part in ("to_q", "to_v", "to_out.0"))
            norms = [torch.linalg.matrix_norm(m, 2) for m in ([out] if kind == "to_v" else [out @ value, query])]
            found = norms[0] if kind == "to_v" else norms[0] * norms[1] / TOKENS
            agree(f"strength of {projection}", ours.strength[i], found)

    calls = {"ours": lambda: Projections.of_weights(weights, names, TOKENS), "peer": singular_values}
    return compare(interleave(calls, settings.device, 0, (1, 1) if settings.quick else (2, 2)))


def texts(name: str, domain: str, settings: Settings) -> list[dict]:
    """Encoding anchors' texts: those that all concepts of a run share, and those of one concept."""
    from methods.cpe import prompts
    from methods.cpe.anchors import SIMILAR

    s = published_settings(name, domain)
    if "prompts" in s.anchors:  # sentences, of which no concept has its own
        shared, own, published = set(prompts.read_words(s.anchors["prompts"])), set(), 0
    else:
        templates = prompts.read_templates(s.scripts_file, s.word)
        words = [prompts.read_words(s.anchors[key]) for key in ("general", "candidates")]
        words[1] = [word for word in words[1] if word != s.target][:SIMILAR]  # any: it is their number that counts
        shared, own = ({text for word in some for text in prompts.fill_all(templates, s.word, word)} for some in words)
        published = len(templates) * (len(words[0]) + len(words[1]))
    one = seconds_of_a_text(name, sorted(shared), settings)
    rows = [{"what": f"texts of all concepts, {len(shared):,}, once a run", "ours_s": one * len(shared)}]
    if own:
        what = f"texts of a concept, {len(own):,} (peer {published:,})"
        rows.append({"what": what, "ours_s": one * len(own), "peer_s": one * published, "ratio": published / len(own)})
    return rows


def seconds_of_a_text(name: str, sentences: list[str], settings: Settings) -> float:
    """Median over batches, in the text tower of the model with random weights."""
    import torch

    from benchmarks import models
    from ldm.util import instantiate_from_config
    from methods.cpe.anchors import encode_once

    torch.manual_seed(0)
    encoder = instantiate_from_config(models.config(name).params.cond_stage_config).to(settings.device).eval()
    batch = sentences[: 2 if settings.quick else 16]

    def encode() -> None:
        encode_once(lambda some: encoder(list(some)), batch, progress=False)

    with torch.no_grad():
        times = interleave({"one": encode}, settings.device, 0, (1, 1) if settings.quick else (5, 5))
    return statistics.median(times["one"]) / len(batch)


def main(form: str, name: str, domain: str, device: str, threads: str) -> None:
    import torch

    from benchmarks import closed_form, cpe_published, machine, models  # noqa: F401  (imports are not what is measured)
    from ldm.modules.diffusionmodules import openaimodel  # noqa: F401
    from methods.cpe import settings, yaml_files  # noqa: F401

    torch.set_num_threads(int(threads))
    torch.optim.AdamW([torch.zeros(1)])  # the first optimizer of a process imports a compiler
    before = machine.reset_peak(device)
    s, problem, losses = published_settings(name, domain), problem_of(name, device), []
    for kind in (FIRST, LATER, ATTACK):
        trainer = trainer_of(form, problem, s, kind)
        for iteration in range(2):
            trainer.update(iteration, True)
        losses += [row["loss"] for row in trainer.rows]
    print(json.dumps({"losses": losses, "before": before, "peak": machine.peak(device)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
