from tests.behaviour.esd_checks import EsdChecks


class TestGolfBall(EsdChecks):
    targets = ("golf ball",)
    prompt, method = "golf ball", "noxattn"
