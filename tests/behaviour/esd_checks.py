"""ESD on the embedded model, trained for as long as it takes there (`QUICK_ESD`)."""

from tests.behaviour.conftest import QUICK_SAMPLER
from tests.behaviour.erasure_checks import ErasureChecks


class EsdChecks(ErasureChecks):
    """Subclasses say the concept as one would type it and the train_method."""

    drawing = QUICK_SAMPLER
    prompt: str
    method: str
    gone, kept = 0.10, 0.95

    @classmethod
    def make(cls, bench):
        return bench.esd(cls.prompt, cls.method)

    @classmethod
    def changes(cls, key):
        return ("attn2" in key) == (cls.method == "xattn")

    def test_every_other_style_stays(self, before, after):
        base = before.kind("style", *self.targets)
        kept = {concept: share / base[concept] for concept, share in after.kind("style", *self.targets).items()}
        assert {concept: share for concept, share in kept.items() if share < 0.9} == {}
