from tests.behaviour.esd_checks import EsdChecks


class TestVanGogh(EsdChecks):
    targets = ("van gogh",)
    prompt, method = "Van Gogh", "xattn"
