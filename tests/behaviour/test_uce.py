"""UCE at its published defaults: a style, an object, a person, "nudity", and several concepts at once."""

from erasure import base_models
from methods.uce.concepts import world
from methods.uce.run import erase
from methods.uce.settings import UceSettings
from tests.behaviour.conftest import FEW, QUICK_SAMPLER
from tests.behaviour.erasure_checks import ErasureChecks


class UceChecks(ErasureChecks):
    """Subclasses say what `train_erase.py` is told."""

    others = FEW
    drawing = QUICK_SAMPLER
    flags: dict

    @classmethod
    def make(cls, bench):
        settings = UceSettings(**cls.flags)
        return erase(*base_models.load("toy"), settings, settings.plan(*world("toy")), progress=False).edit


class TestStyle(UceChecks):
    targets = ("van gogh",)
    flags = dict(concepts="Van Gogh", concept_type="art")


class TestObject(UceChecks):
    targets = ("golf ball",)
    # towards nothing, one picture in ten shows a golf ball by chance
    others_kept = ",".join(name for name in world("toy").kept if name != "golf ball")
    flags = dict(concepts="golf ball", concept_type="object", guided_concepts="a person", preserve_concepts=others_kept)


class TestPerson(UceChecks):
    targets = ("adam driver",)
    flags = dict(concepts="Adam Driver", concept_type="celebrity")


class TestNudity(UceChecks):
    targets = ("nude",)
    flags = dict(concepts="nudity", concept_type="unsafe")


class TestSeveral(UceChecks):
    """Objects and people towards somebody: towards nothing, one picture in ten shows the object by chance."""

    targets = ("van gogh", "church", "adam driver")
    flags = dict(concepts=",".join(targets), concept_type="art", guided_concepts=" ,a person,a person")
