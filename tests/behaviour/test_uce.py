"""UCE at its published defaults: a style, an object, a person, "nudity", and several concepts at once."""

from erasure import base_models
from methods.uce.concepts import read_artists
from methods.uce.run import erase
from methods.uce.settings import UceSettings
from tests.behaviour.conftest import FEW, KNOWN
from tests.behaviour.erasure_checks import ErasureChecks


class UceChecks(ErasureChecks):
    """Subclasses say what `train_erase.py` is told."""

    others = FEW
    flags: dict

    @classmethod
    def make(cls, bench):
        settings = UceSettings(**cls.flags)
        return erase(*base_models.load("toy"), settings, settings.plan(read_artists()), progress=False).edit


class TestStyle(UceChecks):
    targets = ("van gogh",)
    flags = dict(concepts="Van Gogh", concept_type="style")


class TestObject(UceChecks):
    targets = ("golf ball",)
    flags = dict(concepts="golf ball", concept_type="object")


class TestPerson(UceChecks):
    targets = ("adam driver",)
    flags = dict(concepts="Adam Driver", concept_type="celebrity")


class TestNudity(UceChecks):
    targets = ("nude",)
    flags = dict(concepts="nudity", concept_type="unsafe")


class TestSeveral(UceChecks):
    targets = ("van gogh", "golf ball", "adam driver")
    flags = dict(concepts=",".join(targets), concept_type="mixed", preserve_scale=0.01)

    @classmethod
    def make(cls, bench):
        cls.flags["preserve_concepts"] = ",".join(name for name in KNOWN if name not in cls.targets)
        return super().make(bench)
