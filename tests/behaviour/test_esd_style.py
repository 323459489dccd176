from tests.behaviour.esd_checks import ErasureChecks


class TestVanGogh(ErasureChecks):
    prompt, method, kind = "Van Gogh", "xattn", "style"
