"""Convenience loaders of the ESD tree: a model from a configuration, or from a training run's folder."""

import contextlib
import logging
from pathlib import Path

from ldm.loading import load_model_from_config

__all__ = ["all_logging_disabled", "load_model_from_config", "load_training_dir"]


@contextlib.contextmanager
def all_logging_disabled(highest_level=logging.CRITICAL):
    """Silence log messages up to ``highest_level`` inside a ``with`` block."""
    previous = logging.root.manager.disable
    logging.disable(highest_level)
    try:
        yield
    finally:
        logging.disable(previous)


def load_training_dir(train_dir, device="cpu", epoch="last"):
    """The model of a training run: its one ``*{epoch}.ckpt`` with its latest ``*-project.yaml``.

    Raises FileNotFoundError where either is missing and ValueError where several checkpoints fit.
    """
    folder = Path(train_dir)
    checkpoints = sorted(folder.rglob(f"*{epoch}.ckpt"))
    configs = sorted(folder.rglob("*-project.yaml"))
    if not checkpoints or not configs:
        raise FileNotFoundError(f"{folder}: no {'*-project.yaml' if checkpoints else f'*{epoch}.ckpt'} in it")
    if len(checkpoints) > 1:
        raise ValueError(f"{folder}: several checkpoints match *{epoch}.ckpt: {', '.join(map(str, checkpoints))}")
    return load_model_from_config(configs[-1], checkpoints[0], device)
