"""The YAML files of CPE's training and generation, in the form that fits the base model.

Each keeps the published keys and values, and beside them a block `embedded` with those that differ on the embedded model.
"""

import os
from collections.abc import Mapping
from typing import Any

from erasure.errors import UserError
from erasure.runs import find

EMBEDDED = "embedded"
EMBEDDED_FAMILY = "toy"  # `erasure.base_models.family_of`


def read_config(path: str | os.PathLike, family: str) -> dict[str, Any]:
    """The settings of one YAML file as plain values, for a base of `family`.

    The block `embedded` is laid over the rest for the embedded model, key by key and as deep as there are mappings, and is
    left out for any other. UserError for a file that is missing, no YAML, or no mapping.
    """
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise UserError(f"{path}: it holds no settings (key: value)")
    embedded = values.pop(EMBEDDED, None) or {}
    if not isinstance(embedded, dict):
        raise UserError(f"{path}: {EMBEDDED} holds no settings (key: value)")
    return merged(values, embedded) if family == EMBEDDED_FAMILY else values


def read_yaml(path: str | os.PathLike) -> dict | list:
    """A YAML file as plain dicts and lists, from the working directory or the repository. UserError if there is none in it."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    path = find(path)
    if not path.is_file():
        raise UserError(f"{path}: {'is a folder, not a YAML file' if path.is_dir() else 'no such file'}")
    try:
        return OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    except (YAMLError, OmegaConfBaseException, OSError, ValueError) as error:
        raise UserError(f"{path}: not a YAML file of settings: {' '.join(str(error).split())[:160]}") from None


def merged(values: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`values` with those of `over` in their place; mappings that both have are merged in turn, lists are replaced."""
    both = {
        key: merged(values[key], value)
        if isinstance(value, Mapping) and isinstance(values.get(key), Mapping)
        else value
        for key, value in over.items()
    }
    return {**values, **both}
