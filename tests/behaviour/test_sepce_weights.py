"""CiE at the embedded model's preset, and the baselines of its repository."""

from tests.behaviour.sepce_checks import SepceChecks


class WeightChecks(SepceChecks):
    targets = ("van gogh",)
    flags = ("--prompt", targets[0])

    @classmethod
    def changes(cls, key):
        return "attn2" in key


class TestCiE(WeightChecks):
    script = "CiE"

    def test_it_stopped_by_itself(self, edit):
        assert edit.settings["stopped"]


class TestEsd(WeightChecks):
    """At the preset but for shorter samplings, which do as well here in half of the time."""

    script = "Esd"
    flags = (*WeightChecks.flags, "--train_method", "xattn", "--ddim_steps", "5")


class TestFMN(WeightChecks):
    """Less selective than the others: most is gone, and something else suffers."""

    script = "FMN"
    gone, kept = 0.3, 0.8


class TestAbconcept(WeightChecks):
    """Less selective than the others: most is gone, and something else suffers."""

    script = "Abconcept"
    gone, kept = 0.3, 0.8
