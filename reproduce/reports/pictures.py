"""Before/after grids of a table: a handful of prompts, the same seeds, a row a model."""

from collections.abc import Sequence

from PIL import Image, ImageChops

from erasure import runs
from erasure.report import Picture, Report, Shown, Strip, Version
from erasure.report.drawing import PAPER, TRACK
from erasure.report.png import COLUMNS, MARGIN, to_image
from reproduce.results import Grid, TableResult

MOST_MODELS, IN_HTML = 12, 8  # rows; pictures of a grid
LONGEST = 256  # pixels a side: reports stay small


def grids(result: TableResult) -> Report | None:
    """The pictures as a report without scores; None where the table has none. A missing picture is left grey."""
    kept = [grid for grid in result.grids if grid.prompts and grid.files]
    if not kept:
        return None
    models = list(dict.fromkeys(label for grid in kept for label in grid.files))
    shown = models[:MOST_MODELS]
    left_out = f"; {len(models) - len(shown)} of {len(models)} models are not shown" if len(models) > len(shown) else ""
    room = max(1, COLUMNS // len(kept))
    return Report(
        f"{result.name}: {result.title}",
        f"The same prompts and seeds in every row{left_out}",
        [Version(label) for label in shown],
        [],
        [Strip(grid.title, _pictures(grid, shown), png_pictures=room) for grid in kept],
    )


def image(shown: Report) -> Image.Image:
    """The report as a picture that ends where its contents do: the page of a report has room for more columns."""
    page = to_image(shown)
    right = ImageChops.difference(page, Image.new("RGB", page.size, PAPER)).getbbox()[2]
    return page.crop((0, 0, min(page.width, right + MARGIN), page.height))


def _pictures(grid: Grid, models: Sequence[str]) -> list[Picture]:
    return [
        Picture(prompt, [_shown(grid.files.get(label, ()), i) for label in models])
        for i, prompt in enumerate(grid.prompts[:IN_HTML])
    ]


def _shown(files: Sequence[str], i: int) -> Shown:
    path = runs.find(files[i]) if i < len(files) and files[i] else None
    if path is None or not path.is_file():
        return Shown(Image.new("RGB", (LONGEST, LONGEST), TRACK), "not drawn")
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    image.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
    return Shown(image)
