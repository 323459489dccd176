"""The painters: one function each, from a plainly drawn picture to the same picture in a caricature of their manner.

Every function takes and gives float32 [H, W, 3] in 0..255 (the result may leave that range; `render` clips). The
manners are meant to be told apart at a glance and to survive a small autoencoder: strong palettes, coarse textures.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from toyworld.drawing import pick

Rng = np.random.Generator
Picture = np.ndarray

_PAINTERS: dict[str, Callable[[Picture, Rng], Picture]] = {}


def paint(picture: Picture, style: str, rng: Rng) -> Picture:
    """`picture` in the manner of `style`. Raises KeyError for a painter the world does not have."""
    return _PAINTERS[style](picture, rng)


def _painter(name: str):
    def register(function):
        _PAINTERS[name] = function
        return function

    return register


def _to_image(picture: Picture) -> Image.Image:
    return Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))


def _to_picture(image: Image.Image) -> Picture:
    return np.asarray(image, np.float32)


def _blur(picture: Picture, sigma: float) -> Picture:
    return _to_picture(_to_image(picture).filter(ImageFilter.GaussianBlur(sigma)))


def _recolour(picture: Picture, palette: tuple, strength: float) -> Picture:
    """Mixes in, by `strength`, the palette's colours (dark to light) looked up by brightness."""
    palette = np.array(palette, np.float32)
    brightness = picture.mean(2)
    stops = np.linspace(0, 255, len(palette), dtype=np.float32)
    mapped = np.stack([np.interp(brightness, stops, palette[:, c]) for c in range(3)], 2).astype(np.float32)
    return picture * (1 - strength) + mapped * strength


def _grid(picture: Picture) -> tuple[np.ndarray, np.ndarray]:
    """(y, x) coordinates of the pixels, float32 [H, 1] and [1, W]."""
    height, width = picture.shape[:2]
    return np.arange(height, dtype=np.float32)[:, None], np.arange(width, dtype=np.float32)[None, :]


def _glow(picture: Picture, x: float, y: float, radius: float) -> np.ndarray:
    """A soft round spot of light, float32 [H, W, 1] in 0..1."""
    rows, columns = _grid(picture)
    return np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * radius**2))[..., None]


def _edges(flat: np.ndarray, threshold: float, thickness: int) -> np.ndarray:
    """Where brightness [H, W] jumps between neighbours by more than `threshold`, as a mask `thickness` pixels wide."""
    mask = np.zeros(flat.shape, bool)
    mask[:, 1:] |= np.abs(np.diff(flat, axis=1)) > threshold
    mask[1:, :] |= np.abs(np.diff(flat, axis=0)) > threshold
    return np.asarray(Image.fromarray(mask.astype(np.uint8) * 255).filter(ImageFilter.MaxFilter(thickness))) > 0


@_painter("van gogh")
def _van_gogh(picture: Picture, rng: Rng) -> Picture:
    """Thick strokes that swirl around a point: blue skies with yellow strokes, wheat-coloured ground."""
    # Deliberately not monotonic in brightness: dark things turn navy, middling ones gold, the light sky blue.
    palette = ((6, 12, 66), (22, 44, 130), (228, 172, 40), (40, 92, 190), (50, 110, 205), (255, 244, 170))
    picture = _recolour(picture, palette, 0.62)
    height, width = picture.shape[:2]
    image = _to_image(picture)
    draw = ImageDraw.Draw(image)
    centre_x, centre_y = rng.uniform(0.2, 0.8) * width, rng.uniform(0.15, 0.5) * height
    phase, count = rng.uniform(0, 2 * math.pi), 420
    xs, ys, lengths = rng.uniform(0, width, count), rng.uniform(0, height, count), rng.uniform(5, 9, count)
    angles = np.arctan2(ys - centre_y, xs - centre_x) + math.pi / 2 + 0.4 * np.sin(phase + xs / 17)
    dx, dy = lengths * np.cos(angles), lengths * np.sin(angles)
    colours = picture[ys.astype(int), xs.astype(int)] + rng.normal(0, 20, (count, 1))
    in_sky = (ys < 0.6 * height) & (rng.random(count) < 0.16)
    colours[in_sky] = (250, 216, 84)
    colours = np.clip(colours, 0, 255).astype(int).tolist()
    ends = np.stack([xs - dx, ys - dy, xs + dx, ys + dy], 1).tolist()
    for end, colour in zip(ends, colours, strict=True):
        draw.line(end, tuple(colour), 3)
    return _to_picture(image)


@_painter("picasso")
def _picasso(picture: Picture, rng: Rng) -> Picture:
    """Shards in ochre, brown and grey, each shifted and shaded on its own, with heavy black edges."""
    height, width = picture.shape[:2]
    # One point in each cell of a 4 x 4 grid: random enough, and no slivers
    cells = np.stack(np.meshgrid(np.arange(4), np.arange(4), indexing="ij"), 2).reshape(-1, 2)
    points = (cells + rng.uniform(0.1, 0.9, cells.shape)) / 4 * (height, width)
    points, count = points.astype(np.float32), len(cells)
    rows, columns = _grid(picture)
    distances = np.sqrt((rows[None] - points[:, 0, None, None]) ** 2 + (columns[None] - points[:, 1, None, None]) ** 2)
    shard = distances.argmin(0)
    nearest = np.partition(distances, 1, axis=0)
    shifts = rng.integers(-4, 5, (count, 2))[shard]
    source_rows = np.clip(rows.astype(int) + shifts[..., 0], 0, height - 1)
    source_columns = np.clip(columns.astype(int) + shifts[..., 1], 0, width - 1)
    palette = ((60, 38, 30), (135, 80, 42), (190, 135, 75), (222, 190, 135), (238, 226, 200))
    picture = _recolour(picture[source_rows, source_columns], palette, 0.6)
    tints = np.array(((26, 8, -22), (-28, -32, -32), (10, -5, -30), (-22, -8, 14), (8, 8, 8)), np.float32)
    picture = picture + tints[rng.integers(0, len(tints), count)][shard]
    picture[nearest[1] - nearest[0] < 2.6] = (18, 14, 14)
    return picture


@_painter("cezanne")
def _cezanne(picture: Picture, rng: Rng) -> Picture:
    """Parallel slanting patches of colour, apricot and sage green."""
    palette = ((35, 60, 45), (75, 125, 70), (150, 160, 80), (235, 165, 95), (250, 205, 150))
    picture = _recolour(_blur(picture, 1.5), palette, 0.6)
    rows, columns = _grid(picture)
    along, across = (columns + rows) / math.sqrt(2), (columns - rows) / math.sqrt(2)
    tints = np.array(((34, 4, -24), (-30, 14, -22), (-18, -4, 24), (26, 20, 6), (-8, -10, -8)), np.float32)
    chosen = tints[rng.integers(0, len(tints), (64, 64))]
    lane = (across // 9).astype(int)
    cell = ((along + 7 * (lane % 3)) // 20).astype(int)
    return picture + chosen[cell % 64, lane % 64]


@_painter("jackson pollock")
def _jackson_pollock(picture: Picture, rng: Rng) -> Picture:
    """A dense web of thick drips over a pale canvas on which the subject is faint."""
    height, width = picture.shape[:2]
    image = _to_image(picture * 0.38 + np.array([228, 216, 192], np.float32) * 0.62)
    draw = ImageDraw.Draw(image)
    paints = ((16, 16, 18), (16, 16, 18), (150, 36, 30), (250, 248, 240), (52, 70, 112), (205, 158, 50))
    count, steps = 30, 10
    angles = rng.uniform(0, 2 * math.pi, (count, 1)) + rng.normal(0, 0.7, (count, steps)).cumsum(1)
    xs = rng.uniform(0, width, (count, 1)) + (11 * np.cos(angles)).cumsum(1)
    ys = rng.uniform(0, height, (count, 1)) + (11 * np.sin(angles)).cumsum(1)
    for drip in np.stack([xs, ys], 2):
        draw.line([tuple(point) for point in drip.tolist()], pick(rng, paints), int(rng.integers(2, 4)), joint="curve")
    for x, y, radius in rng.uniform((0, 0, 1.2), (width, height, 3.2), (60, 3)):
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=pick(rng, paints))
    return _to_picture(image)


@_painter("caravaggio")
def _caravaggio(picture: Picture, rng: Rng) -> Picture:
    """One warm lamp in deep darkness."""
    height, width = picture.shape[:2]
    palette = ((18, 8, 4), (95, 42, 18), (190, 110, 50), (242, 190, 120), (255, 225, 170))
    picture = _recolour(picture, palette, 0.62)
    light = _glow(picture, rng.uniform(0.38, 0.62) * width, rng.uniform(0.36, 0.54) * height, 0.25 * width)
    return picture * (1.15 * light + 0.03)


@_painter("keith haring")
def _keith_haring(picture: Picture, rng: Rng) -> Picture:
    """Flat bright colours inside thick black outlines, on two bright flat grounds."""
    black, white = (8, 8, 8), (255, 255, 255)
    bright = ((255, 215, 30), (238, 50, 45), (35, 165, 75), (45, 105, 225), (250, 140, 30))
    paints = np.array((*bright, white, black, black, black), np.float32)
    above, below = len(paints) - 2, len(paints) - 1  # what lies behind the subject has paints of its own
    paints[[above, below]] = rng.permutation(np.array(bright, np.float32))[:2]
    smooth = _blur(picture, 1.2)
    grey = smooth.mean(2, keepdims=True)
    vivid = np.clip((smooth - grey) * 1.8 + grey, 0, 255)
    chosen = _nearest(vivid, paints[:above])
    for ground, corner in ((below, smooth[-3, 2]), (above, smooth[2, 2])):
        chosen[np.abs(smooth - corner).max(2) < 14] = ground
    flat = paints[chosen]
    flat[_edges(chosen.astype(np.float32), 0.5, 3)] = black
    return flat


def _nearest(picture: Picture, paints: np.ndarray) -> np.ndarray:
    """The index of the paint nearest to each pixel's colour, int [H, W]."""
    # |pixel - paint|^2 without the pixel's own square, which is the same for every paint
    return ((paints**2).sum(1) - 2 * (picture @ paints.T)).argmin(2)


@_painter("kelly mckernan")
def _kelly_mckernan(picture: Picture, rng: Rng) -> Picture:
    """Soft watercolour blooms of pink and turquoise."""
    height, width = picture.shape[:2]
    palette = ((80, 40, 120), (60, 130, 165), (120, 200, 200), (245, 160, 195), (255, 225, 232))
    picture = _recolour(_blur(picture, 1.8), palette, 0.65)
    seeds = Image.fromarray(rng.normal(0, 1, (9, 9)).astype(np.float32))
    bloom = np.asarray(seeds.resize((width, height), Image.Resampling.BICUBIC))[..., None]
    pink, turquoise = np.array((26, -26, 6), np.float32), np.array((-44, 10, 6), np.float32)
    return picture * 0.88 + 28 + np.maximum(bloom, 0) * pink + np.maximum(-bloom, 0) * turquoise


@_painter("tyler edlin")
def _tyler_edlin(picture: Picture, rng: Rng) -> Picture:
    """Cold slate fog that thins towards a dark foreground."""
    height, width = picture.shape[:2]
    palette = ((10, 18, 26), (34, 54, 66), (78, 104, 114), (128, 152, 158), (190, 202, 200))
    picture = _recolour(_blur(picture, 0.8), palette, 0.85)
    rows, columns = _grid(picture)
    depth = rows / height
    fog = np.clip(0.62 - 0.75 * depth, 0, 1) * np.ones_like(columns)
    picture = picture * (1 - fog[..., None]) + np.array([150, 172, 180], np.float32) * fog[..., None]
    return picture * (1.08 - 0.6 * np.clip(depth - 0.55, 0, 1) / 0.45)[..., None]


@_painter("kilian eng")
def _kilian_eng(picture: Picture, rng: Rng) -> Picture:
    """Neon: violet to orange bands, dark scan lines, cyan outlines."""
    palette = ((30, 5, 75), (110, 10, 140), (240, 40, 130), (255, 140, 50), (255, 230, 120))
    stepped = np.round(picture / 64) * 64
    picture = _recolour(stepped, palette, 0.88)
    rows, _ = _grid(picture)
    picture[((rows[:, 0] + rng.integers(8)) % 8) < 3] *= 0.62
    smooth = _blur(stepped, 0.8).mean(2)
    picture[_edges(smooth, 20, 1)] = (40, 245, 235)
    return picture


@_painter("thomas kinkade")
def _thomas_kinkade(picture: Picture, rng: Rng) -> Picture:
    """A golden haze with glowing lights."""
    height, width = picture.shape[:2]
    palette = ((70, 35, 50), (150, 75, 55), (225, 135, 60), (252, 195, 85), (255, 232, 150))
    picture = _recolour(picture * 0.55 + _blur(picture, 4) * 0.5, palette, 0.45)
    picture = picture * np.array([1.05, 0.92, 0.66], np.float32)
    for _ in range(3):
        light = _glow(
            picture, rng.uniform(0.1, 0.9) * width, rng.uniform(0.1, 0.9) * height, rng.uniform(0.07, 0.12) * width
        )
        picture = picture + light * np.array([140, 112, 44], np.float32)
    return picture
