"""UCE's and RECE's edits at Stable Diffusion v1's shapes, beside the published form: every layer by itself, in float32."""

import copy
import statistics
import time

from benchmarks.harness import Column, Settings, interleave, seconds_text

TITLE = "Closed-form edits (UCE, RECE) at Stable Diffusion v1's shapes"
NOTE = (
    "Random weights in the shapes of SD v1's 32 key and value projections, random text states of the size of CLIP's; loading and text encoding are left "
    "out, except in the last line. *Edit*: from text states to the edit; *written*: that edit into the 32 matrices, float64 inside. The peer is "
    "written as the published scripts are: layer by layer, one outer product per token, an explicit float32 inverse a layer; it leaves out that they also "
    "encoded every text again for every layer. It ends with the weights, so the ratio is against *edit* and *written* together. The last line is the CLIP text tower of SD v1 on the 1734 texts (a sample "
    "of them, scaled up): what the line above it needs beside its own time."
)
WIDTHS = {320: 10, 640: 10, 1280: 12}  # output width of the 32 projections -> how many
DIM, TOKENS = 768, 77
EPOCHS = 3
NORM = 770**0.5  # of a row of CLIP's states


def kilobytes(value: float) -> str:
    return f"{value / 1000:.1f} kB"


COLUMNS = [
    Column("what", "what"),
    Column("edit_s", "edit", seconds_text),
    Column("written_s", "written", seconds_text),
    Column("peer_s", "peer", seconds_text),
    Column("ratio", "peer / ours", "**{:.0f}**".format),
    Column("bytes", "file", kilobytes),
    Column("bytes_per_row", "per token row", kilobytes),
]


def run(settings: Settings) -> list[dict]:
    import torch

    few, many, artists = (2, 4, 8) if settings.quick else (1, 100, 1733)
    generator = torch.Generator().manual_seed(0)
    weights = [
        torch.randn(width, DIM, generator=generator) / DIM**0.5
        for width, n in WIDTHS.items()
        for _ in range(1 if settings.quick else n)
    ]
    states = text_states(generator, many + 2)
    rows = [
        uce_row(f"UCE, {few} concept{'s' * (few > 1)}", states, few, weights, settings, peer=True),
        uce_row(f"UCE, {many} concepts", states, many, weights, settings),
        uce_row(f"UCE, 1 concept and {artists} preserved", states, 1, weights, settings, preserved=artists),
        *rece_rows(states, weights, settings),
        encoding_row(artists + 1, settings),
    ]
    return rows


def text_states(generator, count: int, dim: int = DIM):
    """`count` texts [TOKENS, dim] float64: rows share a direction, as CLIP's do, and start with the same start token."""
    import torch

    common = torch.randn(dim, generator=generator, dtype=torch.float64)
    texts = 0.5 * torch.randn(count, TOKENS, dim, generator=generator, dtype=torch.float64) + common
    texts[:, 0] = texts[0, 0]
    return NORM * texts / torch.linalg.norm(texts, dim=-1, keepdim=True)


def bank(states):
    """The texts as a `TextStates`: text "0" is the guide, "1" the empty one, the others are concepts."""
    from erasure.text_states import TextStates

    return TextStates(lambda texts: (states[[int(text) for text in texts]], [2 if int(t) > 1 else 1 for t in texts]))


def uce_row(what: str, states, concepts: int, weights, settings: Settings, peer=False, preserved=0) -> dict:
    from methods.uce.erase import Erasure, context_map

    kept = ["1"] + [str(2 + i % (len(states) - 2)) for i in range(preserved)]
    scale = max(0.1, 1 / len(kept))  # the published rule
    erasure = Erasure([(str(i + 2), "0") for i in range(concepts)], kept, preserve_scale=scale)
    texts = bank(states).prepare(map(str, range(len(states))))

    edited = context_map(erasure, texts)[0]
    calls = {"edit": lambda: context_map(erasure, texts), "written": lambda: written(edited, weights)}
    if peer:
        calls["peer"] = lambda: published_edit(erasure, texts, weights)
    return figures(what, calls, settings) | sizes(edited, concepts * (TOKENS - 2))


def rece_rows(states, weights, settings: Settings) -> list[dict]:
    """The Gram matrix of the original projections, and three epochs after it, from a UCE edit."""
    from erasure.edits import ContextMap
    from methods.rece.rece import Rece
    from methods.rece.settings import ReceSettings
    from methods.uce.closed_form import gram
    from methods.uce.erase import Erasure, context_map

    texts = bank(states).prepare(map(str, range(3)))
    chosen = ReceSettings(concepts=("2",), guides=("0",), retained=("1",))
    start = context_map(Erasure([("2", "0")], ["1"]), texts)[0]
    originals = {str(i): weight for i, weight in enumerate(weights)}
    first = Rece(texts, originals, None, chosen)

    def epochs() -> ContextMap:
        rece = copy.copy(first)
        rece._state = copy.copy(first._state)  # what an epoch changes are its attributes, not their tensors
        rece._state._multiply(start)
        for _ in range(EPOCHS):
            rece.epoch()
        return rece.context_map()

    edited = epochs()
    calls = {
        "edit": epochs,
        "written": lambda: written(edited, weights),
        "peer": lambda: published_rece(texts, start, chosen, weights),
    }
    once = {"edit": lambda: gram(*weights)}
    rows = TOKENS - 2 + EPOCHS * TOKENS
    return [
        figures("RECE, Gram matrix of the projections (once)", once, settings),
        figures(f"RECE, 1 concept, {EPOCHS} epochs after it", calls, settings) | sizes(edited, rows),
    ]


def figures(what: str, calls: dict, settings: Settings) -> dict:
    """Median seconds of the calls "edit" and "written" and, where there is one, "peer"."""
    import torch

    with torch.no_grad():  # the peer takes so long that it is not warmed up
        rounds, warm_up = ((1, 20), False) if "peer" in calls else ((3, 20), True)
        times = interleave(
            calls, settings.device, settings.seconds, (1, 1) if settings.quick else rounds, warm_up=warm_up
        )
    row = {"what": what} | {f"{name}_s": statistics.median(taken) for name, taken in times.items()}
    if "peer" in times:
        ours = zip(times["edit"], times["written"], times["peer"], strict=True)
        row["ratio"] = statistics.median(peer / (edit + write) for edit, write, peer in ours)
    return row


def sizes(edited, rows: int) -> dict:
    size = sum(tensor.numel() * tensor.element_size() for tensor in edited.tensors().values())
    return {"bytes": size, "bytes_per_row": size / rows}


def written(edited, weights):
    return [edited.applied(weight).to(weight.dtype) for weight in weights]


# ---- the peers ---------------------------------------------------------------------------------------------------------


def published_edit(erasure, texts, weights):
    from methods.uce.erase import aligned

    pairs = [tuple(part.float() for part in aligned(texts[old], texts[new])) for old, new in erasure.pairs]
    kept = [texts[text].states.float() for text in erasure.preserved]
    return published_layers(pairs, kept, erasure, weights)


def published_rece(texts, start, chosen, originals) -> list:
    """Three epochs on the weights themselves: sums over all layers, the embedding, every layer's edit."""
    import torch

    weights = written(start, originals)
    concept, guide, kept = (texts[text].states.float() for text in ("2", "0", "1"))
    for _ in range(EPOCHS):
        matrix, cross = chosen.regular_scale * torch.eye(DIM), torch.zeros(DIM, DIM)
        for weight, original in zip(weights, originals, strict=True):
            matrix = matrix + weight.T @ weight
            cross = cross + weight.T @ original
        found = concept @ (torch.linalg.inv(matrix) @ cross).T
        weights = published_layers([(found, guide)], [kept], chosen, weights)
    return weights


def published_layers(pairs, kept, erasure, weights) -> list:
    """Every layer's weights of its own sums: values [n, O, 1] times rows [n, 1, D] added up, and an inverse."""
    import torch

    edited = []
    for weight in weights:
        left = erasure.lamb * weight
        matrix = erasure.lamb * torch.eye(weight.shape[1])
        terms = [(old, new, erasure.erase_scale) for old, new in pairs]
        for rows, targets, scale in terms + [(rows, rows, erasure.preserve_scale) for rows in kept]:
            values = targets @ weight.T
            left = left + scale * (values[:, :, None] @ rows[:, None]).sum(0)
            matrix = matrix + scale * (rows[:, :, None] @ rows[:, None]).sum(0)
        edited.append(left @ torch.linalg.inv(matrix))
    return edited


def encoding_row(count: int, settings: Settings) -> dict:
    """Encoding `count` texts with SD v1's text tower, random weights, measured on a batch of them."""
    import torch

    from erasure.text_states import BATCH, TextStates
    from ldm.modules.encoders.modules import FrozenCLIPEmbedder

    torch.manual_seed(0)
    encoder = FrozenCLIPEmbedder().to(settings.device)
    batch = [f"artist {i}" for i in range(4 if settings.quick else BATCH)]
    with torch.no_grad():
        encoder(batch[:2])
        started = time.perf_counter()
        TextStates(lambda texts: (encoder(list(texts)).cpu(), [0] * len(texts))).prepare(batch)
    seconds = (time.perf_counter() - started) * count / len(batch)
    return {"what": f"encoding {count} texts (for comparison)", "edit_s": seconds}
