"""Images per second of the generator (sampling, decoding and writing files) by batch size."""

import statistics
import tempfile
import time

from benchmarks.harness import Column, Settings, spread

TITLE = "Images per second of the generator by batch size"
NOTE = (
    "`erasure.generation.generate` from prompts to PNG files, without loading the model. The embedded model draws with its "
    "recommended settings; SD v1 (on request) with random weights and, on a CPU, 128x128 pixels. Batch sizes are measured "
    "in turns; *against the first* (batch size) is the median over the rounds."
)
COLUMNS = [
    Column("model", "model"),
    Column("dtype", "dtype"),
    Column("pixels", "pixels"),
    Column("steps", "steps"),
    Column("batch", "batch"),
    Column("images_per_second", "images/s", "{:.2f}".format),
    Column("ratio", "against the first", "**{:.2f}**".format),
    Column("ratio_low", "from", "{:.2f}".format),
    Column("ratio_high", "to", "{:.2f}".format),
    Column("rounds", "rounds"),
]
LEAST_IMAGES = 8  # drawn in one measurement, however small the batch
PROMPTS = ("a painting of a church by Van Gogh", "a photo of a golf ball", "a photo of a person", "a photo")


def run(settings: Settings) -> list[dict]:
    rows = []
    dtypes = settings.dtypes if settings.device != "cpu" else ("float32",)
    for name in settings.chosen_models(["toy"]):
        for dtype in dtypes:
            rows += measure(name, dtype, settings)
    return rows


def measure(name: str, dtype: str, settings: Settings) -> list[dict]:
    import torch

    from benchmarks import models

    model = models.load(name, settings.device, getattr(torch, dtype))
    options = generation_options(name, settings)
    draw(model, 1, 1, options)  # what only the first image costs
    rates = {batch: [] for batch in settings.batches}
    started = time.perf_counter()
    for done in range(1, 20):
        for batch in rates:
            rates[batch].append(draw(model, batch, batch if settings.quick else max(batch, LEAST_IMAGES), options))
        if settings.quick or (done >= 2 and time.perf_counter() - started > 4 * settings.seconds):
            break
    first = rates[settings.batches[0]]
    rows = []
    for batch, values in rates.items():
        ratios = [value / one for value, one in zip(values, first, strict=True)]
        low, high = spread(ratios)
        rows.append(
            {
                "model": name,
                "dtype": dtype,
                "pixels": options["image_size"] or 8 * model.image_size,
                "steps": options["steps"],
                "batch": batch,
                "images_per_second": statistics.median(values),
                "ratio": statistics.median(ratios),
                "ratio_low": low,
                "ratio_high": high,
                "rounds": len(values),
            }
        )
    return rows


def generation_options(name: str, settings: Settings) -> dict:
    from erasure.generation import PRESETS

    toy = PRESETS["toy"]
    options = {"steps": toy.steps, "guidance": toy.guidance, "image_size": None}
    if name == "sd-v1":
        cpu = settings.device == "cpu"
        options = {"steps": 4 if cpu else 25, "guidance": 7.5, "image_size": 128 if cpu else 512}
    return options | ({"steps": 2, "image_size": 64} if settings.quick else {})


def draw(model, batch: int, count: int, options: dict) -> float:
    """Images per second of drawing `count` images in batches."""
    from erasure.generation import GenerationSettings, generate
    from erasure.prompts import Row

    rows = [Row(i, PROMPTS[i % len(PROMPTS)], evaluation_seed=i) for i in range(count)]
    with tempfile.TemporaryDirectory() as folder:
        chosen = GenerationSettings(batch_size=batch, **options)
        return generate(model, rows, folder, chosen, {}, progress=False).images_per_second
