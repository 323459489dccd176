"""The training images of a concept: found in a folder of its name, or drawn there with the base model; encoded once.

images = ConceptImages(find_folder("data", "VanGogh"), model, image_size=512)     # data/Van Gogh will do
z0 = images.latent(0, noise)                                                       # [1, 4, 64, 64] on the CPU
"""

import contextlib
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from erasure import runs
from erasure.errors import UserError
from erasure.metrics.network_inputs import square
from erasure.training.naming import name_part, plain
from methods.sepce.settings import SepceSettings

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
FIRST_SEED = 10_000  # of drawn images: beyond the seeds of the published evaluation prompts
_MARK = "training images of SepCE's trainers"  # in the manifest of a folder that was drawn here


# ---- folders -------------------------------------------------------------------------------------------------------


def find_folder(data_root: str | Path, concept: str) -> Path | None:
    """The folder of a concept's images: the one of its very name, else of its name but for case and spaces, else None.

    Looked up from the working directory, then from the repository. UserError if several could be meant.
    """
    for root in dict.fromkeys((Path(data_root).expanduser(), runs.find(data_root), runs.ROOT / data_root)):
        folders = [folder for folder in root.iterdir() if folder.is_dir()] if root.is_dir() else []
        exact = [folder for folder in folders if folder.name in (concept, name_part(concept))]
        alike = exact or [folder for folder in folders if plain(folder.name) == plain(concept)]
        if len(alike) > 1:
            names = ", ".join(sorted(folder.name for folder in alike))
            raise UserError(f"{root}: images of {concept!r} could be in any of {names}; keep one of them")
        if alike:
            return alike[0]
    return None


def image_files(folder: Path, sort: bool = True) -> list[Path]:
    """Images of a folder: 2_0.png before 10_0.png; unsorted, in the order that the system lists them (as published)."""
    files = [f for f in folder.iterdir() if f.suffix.lower() in SUFFIXES and not f.name.startswith(".") and f.is_file()]
    return sorted(files, key=lambda f: _numbers_by_value(f.name)) if sort else files


def _numbers_by_value(name: str) -> tuple:
    """Every second part is a number."""
    return tuple((int(p), "") if i % 2 else (0, p) for i, p in enumerate(re.split(r"(\d+)", name))) + ((0, name),)


# ---- images --------------------------------------------------------------------------------------------------------


def load_image(path: str | Path, size: int) -> Tensor:
    """[1, 3, size, size] float32 in -1..1: short side to `size`, the middle of the long one, as torchvision's Resize,
    CenterCrop and ToTensor make it. UserError for a file that is no picture."""
    try:
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{path}: not an image that can be read ({error})") from None
    return 2.0 * square(size)(picture)[None] - 1.0


class ConceptImages:
    """Images of one folder as latents. Each is encoded when it is first used, and never again."""

    def __init__(self, folder: Path, model, image_size: int, sort: bool = True):
        self.folder, self.image_size = Path(folder), image_size
        self.files = image_files(self.folder, sort)
        if not self.files:
            raise UserError(f"{folder}: no images in it ({', '.join(SUFFIXES)})")
        self._model, self._known = model, {}

    def __len__(self) -> int:
        return len(self.files)

    @property
    def digest(self) -> str:
        """Of the names and sizes of the files, in their order."""
        listed = "".join(f"{file.name}\0{file.stat().st_size}\n" for file in self.files)
        return hashlib.sha256(listed.encode()).hexdigest()

    @torch.no_grad()
    def posterior(self, index: int) -> tuple[Tensor, Tensor]:
        """(mean, standard deviation) [1, C, h, w] of the autoencoder for an image, on the CPU."""
        if index not in self._known:
            image = load_image(self.files[index], self.image_size)
            posterior = self._model.encode_first_stage(image.to(self._model.device))
            self._known[index] = posterior.mean.float().cpu(), posterior.std.float().cpu()
        return self._known[index]

    def latent(self, index: int, generator: torch.Generator) -> Tensor:
        """z0 = scale_factor (mean + std n) [1, C, h, w] on the CPU, with n drawn from the generator."""
        mean, std = self.posterior(index)
        return float(self._model.scale_factor) * (mean + std * torch.randn(mean.shape, generator=generator))


# ---- drawing what is missing ---------------------------------------------------------------------------------------


def training_images(
    model, identity, settings: SepceSettings, data_root: str | Path, draw: bool = True, progress: bool = True
) -> list[ConceptImages]:
    """The images of every concept of a run, under `data_root`. Those of a concept without a folder are drawn there first
    with the model, which has to be the base; a folder that was drawn here and holds too few gets more.

    draw: False refuses that. UserError for a folder without images, and for one drawn here from another base.
    """
    folders = []
    for concept in settings.concepts:
        folder = find_folder(data_root, concept)
        if folder is None or _drawn_here(folder):
            folder = folder or runs.find(data_root) / name_part(concept)
            _complete(model, identity, settings, concept, folder, draw, progress)
        folders.append(folder)
    return [ConceptImages(folder, model, settings.image_size, settings.sort_images) for folder in folders]


def _manifest_of(folder: Path) -> dict:
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return dict(runs.read_json(folder / "manifest.json")["model"])
    return {}


def _drawn_here(folder: Path) -> bool:
    return _manifest_of(folder).get("drawn_for") == _MARK


def _complete(model, identity, settings: SepceSettings, concept: str, folder: Path, draw: bool, progress: bool) -> None:
    wanted = settings.images_wanted
    missing = [case for case in range(wanted) if not (folder / f"{case}_0.png").is_file()]
    if not missing:
        return
    if not draw:
        raise UserError(
            f"{folder}: {len(missing)} of {wanted} images of {concept!r} are missing; {_how(concept, folder, wanted)}"
        )
    base = _manifest_of(folder).get("base", {}).get("sha256", identity.sha256)
    if base != identity.sha256:
        raise UserError(
            f"{folder}: images of another base model ({base[:12]}, not {identity.sha256[:12]}): use another --data_root"
        )
    print(f"{folder}: drawing {len(missing)} training images of {concept!r} with the base model", flush=True)
    from erasure import generation
    from erasure.prompts import Row

    rows = [Row(case, concept, FIRST_SEED + case) for case in range(wanted)]
    how = generation.settings("toy-fast" if identity.family == "toy" else "sepce", image_size=settings.image_size)
    generation.generate(model, rows, folder, how, {"base": identity.to_dict(), "drawn_for": _MARK}, progress)


def _how(concept: str, folder: Path, count: int) -> str:
    import shlex

    flags = ["--prompt", concept, "--model_name", folder.name, "--save_path", str(folder.parent), "--num_images", count]
    return f"draw them with: python eval-scripts/generate-data.py {shlex.join(map(str, flags))}"


def digest_of(images: Sequence[ConceptImages]) -> list[str]:
    return [concept.digest for concept in images]
