"""Rows of a prompt CSV -> images, for any model and every family's settings.

    rows = prompts.read_csv("data/vangogh_prompts.csv")
    generate(model, rows, "images/sd", settings("esd"), {"base": identity.to_dict()})

`presets` says how each family drew, `plan` what is to be drawn and what is there already, `drawing` draws, `engine` runs
it all, `distributed` shares it among processes, `models` and `command` are what the scripts share.
"""

from erasure.generation.presets import PRESETS, GenerationSettings, image_folder, settings

_OF_ENGINE = ("MANIFEST", "Summary", "generate")


def __getattr__(name: str):
    """The engine on demand: a script parses its flags before torch is imported."""
    if name in _OF_ENGINE:
        from erasure.generation import engine

        return getattr(engine, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["MANIFEST", "PRESETS", "GenerationSettings", "Summary", "generate", "image_folder", "settings"]
