"""CPE on the embedded model: a painter, and "nudity"."""

from tests.behaviour.cpe_checks import CpeChecks


class TestStyle(CpeChecks):
    targets = concepts = ("van gogh",)
    domain = "artist"


class TestNudity(CpeChecks):
    """One concept, and all wordings of it: a nude person, a naked person, a nude figure."""

    targets = ("nude",)
    concepts = ("nudity",)
    domain = "explicit"
