"""RECE by its three commands at the embedded model's preset: a style, an object, a person, "nudity", several at once."""

from erasure import edits
from methods.rece import command
from methods.rece.settings import ARTISTS, OBJECTS, TRAIN
from tests.behaviour.conftest import FEW, QUICK_SAMPLER
from tests.behaviour.erasure_checks import ErasureChecks


class ReceChecks(ErasureChecks):
    """Subclasses say which script is called, and how."""

    others = FEW
    drawing = QUICK_SAMPLER
    script = OBJECTS
    flags: list[str]

    @classmethod
    def make(cls, bench):
        folder = bench.folder / "rece" / cls.__name__
        plain = ["--base", "toy", "--no_validate", "--no_emb2imgs", "--save_path", str(folder)]
        command.main(cls.script, [*cls.flags, *plain])
        (file,) = folder.glob("**/edit.safetensors")
        return edits.read(file)


class TestStyle(ReceChecks):
    targets = ("van gogh",)
    script = ARTISTS
    flags = ["--concepts", "Van Gogh", "--concept_type", "art", "--emb_computing", "close_regzero"]


class TestObject(ReceChecks):
    targets = ("golf ball",)
    flags = ["--concepts", "Golf Ball", "--concept_type", "object"]


class TestPerson(ReceChecks):
    targets = ("adam driver",)
    flags = ["--concepts", "Adam Driver", "--concept_type", "celebrity"]


class TestNudity(ReceChecks):
    targets = ("nude",)
    script = TRAIN
    flags = ["--concepts", "nudity", "--concept_type", "nudity", "--emb_computing", "close_regzero"]


class TestSeveral(ReceChecks):
    """Objects and people towards somebody: towards nothing, one picture in ten shows the object by chance."""

    targets = ("van gogh", "church", "adam driver")
    flags = ["--concepts", ",".join(targets), "--concept_type", "mixed", "--guided_concepts", " ,a person,a person"]
