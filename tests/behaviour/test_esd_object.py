from tests.behaviour.esd_checks import ErasureChecks


class TestGolfBall(ErasureChecks):
    prompt, method, kind = "golf ball", "noxattn", "object"
