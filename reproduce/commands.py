"""Command lines of a table's steps: of a method, of the pictures that it trains on, of a model's images."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from erasure import prompt_rules
from erasure.base_models import NAMES
from erasure.prompt_sets import sources
from reproduce.tables import Images, methods

Command = tuple[str, ...]
PICTURES = "pictures"  # folder of a model's images, in that of the step
_DATA_SEED = 10_000  # of training pictures: beyond the seeds that prompt files have


def train(method: str, settings: Mapping[str, Any], base: str) -> Command:
    """The command line of a training: flags are the settings; names in capitals are variables of a shell script."""
    script, place = methods()[method]["script"], NAMES[base][0]
    variables = {name: value for name, value in settings.items() if name.isupper()}
    flags = [word for name, value in settings.items() if not name.isupper() for word in _flag(name, value)]
    if script.endswith(".sh"):
        return (*(f"{name}={value}" for name, value in {"BASE": place, **variables}.items()), "sh", script, *flags)
    name = methods()[method].get("name")
    return ("python", script, *flags, *(("--exp_name", name) if name else ()), "--ckpt_path", place)


def _flag(name: str, value: Any) -> tuple[str, ...]:
    return (f"--{name}",) if value is True else (f"--{name}", str(value))


def pictures(concept: str, number: int, base: str, preset: str, folder: str) -> Command:
    """Draws the pictures of a concept that methods train on, where they look for them."""
    script = ("python", "eval-scripts/generate-data.py", "--prompt", concept, "--model_name", "original")
    where = ("--exp_name", concept, "--save_path", folder)
    how = ("--num_images", str(number), "--seed", str(_DATA_SEED), "--preset", preset, "--base", NAMES[base][0])
    return (*script, *where, *how)


def images(drawn: Images, model_flags: Sequence[str], base: str, folder: str) -> Command:
    """Draws the images of a prompt file into {folder}/pictures, named by case number whatever the preset would call them."""
    script = ("python", "eval-scripts/generate-images.py", "--model_name", "original", *model_flags)
    rows = ("--prompts_path", prompts_path(drawn.prompts))
    rows += ("--df_length", str(drawn.first)) if drawn.first else ()
    how = ("--preset", drawn.preset, "--num_samples", str(drawn.samples), "--naming", "case", "--base", NAMES[base][0])
    return (*script, *rows, *how, "--save_path", folder, "--exp_name", PICTURES)


def prompts_path(prompts: str) -> str:
    """The file that a table's prompt set is in, or is to be imported to or made at."""
    if prompts in sources():
        return sources()[prompts]["file"]
    return f"generation_prompts/{prompts}" if prompts in prompt_rules.rules() else prompts


def shell_line(command: Command) -> str:
    """A command as it is typed."""
    return " ".join(
        f"{word.partition('=')[0]}={shlex.quote(word.partition('=')[2])}" if is_variable(word) else shlex.quote(word)
        for word in command
    )


def is_variable(word: str) -> bool:
    """Whether a word of a command sets a variable of a shell script."""
    name, equals, _ = word.partition("=")
    return bool(equals) and name.isupper()
