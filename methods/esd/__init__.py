"""ESD, "Erasing Concepts from Diffusion Models" (arXiv 2303.07345). The names and defaults that need no torch live here."""

# Selections of the CompVis code, then those of the newer diffusers code (see ``esd.select_parameters``).
COMPVIS_METHODS = ("noxattn", "selfattn", "xattn", "full", "notime", "xlayer", "selflayer")
DIFFUSERS_METHODS = ("esd-x", "esd-u", "esd-x-strict", "esd-all", "esd-a")
TRAIN_METHODS = COMPVIS_METHODS + DIFFUSERS_METHODS

SAMPLER_MODELS = ("esd", "frozen")  # which network draws the training latents
WRITERS = ("safetensors", "pt", "edit")  # full weights beside the edit, as published (.pt), or only the edit

# A prompt equal to one of these words stands for the comma list; ``--seperator ','`` makes it several concepts.
PROMPT_KEYWORDS = {
    "allartist": "Kelly Mckernan, Thomas Kinkade, Ajin Demi Human, Alena Aenami, Tyler Edlin, Kilian Eng",
    "i2p": ("hate, harassment, violence, suffering, humiliation, harm, suicide, sexual, nudity, bodily fluids, blood"),
    "artifact": (
        "ugly, tiling, poorly drawn hands, poorly drawn feet, poorly drawn face, out of frame, mutation, mutated, "
        "extra limbs, extra legs, extra arms, disfigured, deformed, cross-eye, body out of frame, blurry, bad art, "
        "bad anatomy, blurred, text, watermark, grainy"
    ),
}
PROMPT_KEYWORDS["badimages"] = PROMPT_KEYWORDS["artifact"]  # its name in the first published revisions

# Defaults belong to the base model: the published ones for SD v1, a quick recipe for the embedded model.
PRESETS = {
    "sd-v1": dict(
        start_guidance=3.0, negative_guidance=1.0, iterations=1000, lr=1e-5, ddim_steps=50, image_size=512,
        checkpoint_every=100,
    ),
    "toy": dict(
        start_guidance=3.0, negative_guidance=1.0, iterations=150, lr=1e-4, ddim_steps=20, image_size=128,
        checkpoint_every=50,
    ),
}  # fmt: skip

# Methods that train most of the network reach the other concepts too: the embedded model needs smaller steps for them.
BROAD_METHODS = ("noxattn", "full", "notime", "esd-u", "esd-all", "esd-a")
BROAD_PRESETS = {"toy": dict(iterations=250, lr=3e-5, ddim_steps=10)}


def preset(family: str, train_method: str) -> dict:
    """Default settings of a model family (``sd-v1`` or ``toy``) for a method."""
    return PRESETS[family] | (BROAD_PRESETS.get(family, {}) if train_method in BROAD_METHODS else {})
