"""Mymethod, an example that is in no paper: names and defaults that --help needs, without torch."""

NAME = "mymethod"  # in files, folders and random streams

# Prompts that a concept stands in, one drawn in each iteration; and texts that are always to stay as they are.
TEMPLATES = ("{}", "a photo of {}", "a painting by {}")
PRESERVED = ("", "a photo", "a painting", "a person", "an object")

# Defaults belong to the base model. Those of Stable Diffusion are a guess: nobody has looked at pictures yet.
PRESETS = {
    "sd-v1": dict(iterations=500, lr=1e-4),
    "toy": dict(iterations=200, lr=1e-3),
}
