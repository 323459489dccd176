"""Which files every command needs, found as the commands themselves find them. Imports no torch.

    NEEDS["resnet50_v2"].look()                    # Found: where it is and its sha256, or the command's own line of what to do
    commands()["eval-scripts/lpips_eval.py"].needs

`python -m erasure.doctor` prints it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from erasure import base_models
from erasure.errors import UserError
from erasure.metrics import clip_model, giphy, inception_weights, q16, torchvision_weights
from erasure.metrics.definitions import METRICS
from erasure.metrics.user_weights import checked_sha256
from erasure.runs import ROOT, find, sha256_file

JUDGE = "models/toy/judge.safetensors"
ARTISTS = "models/artis_model_10.pth"


@dataclass(frozen=True)
class Found:
    """What became of a need: ok, missing or damaged; text: what to do about it."""

    state: str
    path: Path | None = None
    sha256: str | None = None
    text: str = ""


@dataclass(frozen=True)
class Need:
    """A file or folder. find: as the commands do, with their UserError; published: names whose end is the start of the hash.

    place: where it goes, from the repository; source: where it is from.
    """

    title: str
    find: Callable[[], Path]
    place: str
    source: str
    published: tuple[str, ...] = ()
    bundled: bool = False

    def look(self, hashes: bool = True) -> Found:
        try:
            path = self.find()
        except UserError as error:
            return Found("missing", text=" ".join(str(error).split()))
        if not path.is_file() or not hashes:
            return Found("ok", path)
        try:
            return Found("ok", path, checked_sha256(path, self.published))
        except UserError as error:
            return Found("damaged", path, sha256_file(path), str(error))


def _bundled(name: str) -> Path:
    if not (path := find(name)).is_file():
        raise UserError(f"{name} is part of the repository and not here: git checkout {name}")
    return path


def _stable_diffusion() -> Path:
    return base_models.resolve("sd-v1-4")[0]


def _nudenet() -> Path:
    """The model inside the package, which is not imported: that loads half of a second's worth of libraries."""
    package = importlib.util.find_spec("nudenet")
    if package is None or not package.submodule_search_locations:
        raise UserError("no NudeNet: sh shell_scripts/setup.sh installs it, or pip install nudenet")
    path = Path(package.submodule_search_locations[0], "320n.onnx")
    if not path.is_file():
        raise UserError(f"the nudenet package has no {path}: install it again")
    return path


def _artists() -> Path:
    if not (path := find(ARTISTS)).is_file():
        raise UserError(f"no classifier {ARTISTS}: methods/sepce/artist-cls-train.py makes it")
    return path


def _torchvision(name: str, flag: str) -> Need:
    files = torchvision_weights.FILES
    title = f"torchvision's {files[name].partition('-')[0]}{' (IMAGENET1K_V2)' if name.endswith('_v2') else ''}"
    return Need(
        title,
        partial(torchvision_weights.find_file, name, None, flag),
        f"{torchvision_weights.FOLDER}/{files[name]}",
        f"{torchvision_weights.SOURCE}/{files[name]}",
        tuple(files.values()),
    )


def _clip(version: str, title: str) -> Need:
    one = clip_model.VERSIONS[version]
    return Need(title, partial(clip_model.find_weights, None, version=version), one.file, one.source)


_HERE = "this repository"
_PROMPTS, _INCEPTION = next(iter(q16.FILES)), inception_weights.FILES[0]
NEEDS: dict[str, Need] = {
    "toy": Need(
        "the embedded model", partial(_bundled, base_models.TOY_CKPT), base_models.TOY_CKPT, _HERE, bundled=True
    ),
    "judge": Need("the embedded model's judge", partial(_bundled, JUDGE), JUDGE, _HERE, bundled=True),
    "sd-v1-4": Need(
        "Stable Diffusion v1.4",
        _stable_diffusion,
        base_models.SD_CKPT,
        "https://huggingface.co/CompVis/stable-diffusion-v-1-4-original",
    ),
    "nudenet": Need(
        "NudeNet 3.4, 320n (AGPL-3.0)", _nudenet, "inside the package nudenet", "pip install nudenet", bundled=True
    ),
    "clip_base": _clip("base", "CLIP ViT-B/32"),
    "clip_large": _clip("large", "CLIP ViT-L/14"),
    "q16_prompts": Need(
        "Q16's two prompts", partial(q16.find_prompts, None), f"{q16.FOLDER}/{_PROMPTS}", q16.SOURCES[_PROMPTS]
    ),
    "inception": Need(
        "Inception of FID and KID",
        partial(inception_weights.find_file, None),
        f"{inception_weights.FOLDER}/{_INCEPTION}",
        f"{inception_weights.SOURCES[0]}/{_INCEPTION}",
        inception_weights.FILES,
    ),
    "giphy": Need("GIPHY's celebrity detector", lambda: giphy.find_detector(None, None)[0], giphy.FOLDER, giphy.SOURCE),
    "artists": Need("the artist classifier", _artists, ARTISTS, "methods/sepce/artist-cls-train.py makes it"),
    "alexnet": _torchvision("alexnet", "--trunk_weights"),
    "vgg16": _torchvision("vgg16", "--trunk_weights"),
    "squeezenet1_1": _torchvision("squeezenet1_1", "--trunk_weights"),
    "vgg19": _torchvision("vgg19", "--weights"),
    "resnet18": _torchvision("resnet18", "--backbone_weights"),
    "resnet50": _torchvision("resnet50", "--backbone_weights"),
    "resnet50_v2": _torchvision("resnet50_v2", "--weights"),
}


@dataclass(frozen=True)
class Command:
    """needs: keys of `NEEDS` without which it stops; optional: for what it can do besides, or on Stable Diffusion."""

    needs: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()


_MODEL = Command(("toy",), ("sd-v1-4",), ("omegaconf", "open_clip_torch", "tokenizers"))
_JUDGED = Command(("toy", "judge"), ("sd-v1-4", "nudenet"), _MODEL.packages)
_NOTHING = Command()
_OTHERS: dict[str, Command] = {
    **dict.fromkeys(
        ("eval-scripts/generate-images.py", "eval-scripts/generate-data.py", "eval-scripts/generate-images-merge.py",
         "methods/cpe/generate_cpe.py", "methods/cpe/generate_cpe_explicit.py", "methods/cpe/train_cpe.py",
         "methods/esd/convertModels.py", "methods/esd/train-esd.py", "methods/sepce/Abconcept.py", "methods/sepce/CiE.py",
         "methods/sepce/Esd.py", "methods/sepce/FMN.py", "methods/sepce/Merge_model.py", "methods/sepce/SRSME_Solution.py",
         "methods/sepce/SRS_ME.py", "methods/sepce/SepCE.py", "methods/sepce/generate_bases.py",
         "methods/uce/train_erase.py", "methods/uce/train_moderate.py"), _MODEL,
    ),
    **dict.fromkeys(
        ("methods/rece/train.py", "methods/rece/train_artists.py", "methods/rece/train_object.py",
         "methods/rece/attack_methods/RingABell.py"), _JUDGED,
    ),
    **dict.fromkeys(
        ("toyworld/quickstart.py", "toyworld/evaluate.py", "toyworld/families.py"),
        Command(("toy", "judge"), (), _MODEL.packages),
    ),
    **dict.fromkeys(
        ("eval-scripts/attack.py", "eval-scripts/generate_dataset.py"),
        Command(("toy", "judge"), ("sd-v1-4", "nudenet", "resnet50"), _MODEL.packages),
    ),
    "eval-scripts/collect_prompts.py": Command(packages=("open_clip_torch", "tokenizers")),
    "eval-scripts/detect_nudity.py": Command(
        ("nudenet",), (), ("nudenet", "onnxruntime", "opencv-python-headless")
    ),
    "eval-scripts/interference.py": Command(("toy", "judge"), ("sd-v1-4",), _MODEL.packages),
    "methods/uce/train_debias.py": Command(("toy", "judge"), ("sd-v1-4", "clip_base"), _MODEL.packages),
    "methods/sepce/artist-cls-train.py": Command((), ("resnet18",), ("lightning", "torchvision")),
    "methods/sepce/artist-cls-test.py": Command(("artists",), (), ("torchvision",)),
    "methods/sepce/cate-cls-test.py": Command(("resnet50",), (), ("torchvision",)),
    "reproduce/run.py": Command(("toy", "judge"), ("sd-v1-4",), ("snakemake",)),
    **dict.fromkeys(
        ("eval-scripts/check_asr.py", "eval-scripts/style_analysis.py", "methods/sepce/make_dataset.py", "methods/sepce/move_image.py", "reproduce/step.py",
         "data/build_prompts.py", "data/import_prompts.py", "toyworld/prompts.py", "toyworld/world.py",
         "toyworld/attack_prompts.py", "toyworld/train.py"),
        _NOTHING,
    ),
}  # fmt: skip


def commands() -> dict[str, Command]:
    """Script that is here -> what it needs: those of the metrics by their definitions, and the others."""
    found = dict(_OTHERS)
    for metric in METRICS.values():
        for script in (metric.script, *metric.scripts):
            old = found.get(script, _NOTHING)
            parts = zip(
                (old.needs, old.optional, old.packages), (metric.needs, metric.optional, metric.packages), strict=True
            )
            found[script] = Command(*(tuple(dict.fromkeys(a + b)) for a, b in parts))
    return {script: command for script, command in sorted(found.items()) if (ROOT / script).is_file()}
