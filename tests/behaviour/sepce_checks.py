"""The commands of SepCE's family at the embedded model's presets, on training images that all of them share."""

from erasure import base_models, edits
from erasure.runs import ROOT
from methods.sepce.images import training_images
from methods.sepce.settings import SepceSettings
from tests.behaviour.conftest import FEW, QUICK_SAMPLER, SEED
from tests.behaviour.erasure_checks import ErasureChecks
from tests.cli import process


def script(name):
    """The module of methods/sepce/{name}.py."""
    return process.load(ROOT / "methods" / "sepce" / f"{name}.py")


def images(bench, concepts):
    """The folder of training images, as the commands draw them, with those of some concepts in it."""
    folder = bench.folder / "sepce-data"
    with bench.locked("sepce-data"):
        settings = SepceSettings.for_family("FMN", "toy", concepts)
        training_images(*base_models.load("toy"), settings, folder, progress=False)
    return folder


class SepceChecks(ErasureChecks):
    """Subclasses say which script is called, and how."""

    others = FEW
    drawing = QUICK_SAMPLER
    script: str
    flags: tuple[str, ...] = ()

    @classmethod
    def make(cls, bench):
        folder = bench.folder / "sepce" / cls.__name__
        shared = ["--seed", str(SEED), "--save_path", str(folder), "--exp_name", "run"]
        if cls.script != "Esd":
            shared += ["--data_root", str(images(bench, cls.targets))]
        assert script(cls.script).main([*cls.flags, *shared]) == 0
        return edits.read(folder / "run" / "edit.safetensors")
