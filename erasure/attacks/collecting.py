"""Prompts that attacks found, as a CSV that draws them again: of the log.json of runs, ours and published ones.

A text may be encoded as other tokens than it was made of, so that the column token_ids says which ones are meant.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from erasure import runs
from erasure.attacks.dataset import read_cases
from erasure.attacks.log import config_of, logs_in, result_of
from erasure.attacks.target import Case
from erasure.errors import UserError
from erasure.prompts import ids_cell

WHICH = ("won", "last", "all")
TOKENS = ("drawn", "found")
COLUMNS = (
    "case_number", "prompt", "evaluation_seed", "evaluation_guidance", "token_ids", "run", "entry", "image", "original_prompt",
)  # fmt: skip
_EMBEDDINGS = ("ring_a_bell_embedding", "concept_inversion")  # what these attackers find is no text
_UNCHANGED = ("no_attack", "seed_search")
_MOST = 75  # tokens of a text


@dataclass(frozen=True)
class Wanted:
    """Which prompts, and what is known of them besides the logs.

    which: of every run the first entry that succeeded, the last one, or all. unchanged: entry 0, the prompt before the
    attack, counts as well. tokens: ids of what was drawn, which may be the text encoded again, or of what was found. data:
    folder or CSV of the attacked prompts, in place of the one that config.json names. seed: of runs that nothing is known of.
    """

    which: str = "won"
    unchanged: bool = False
    tokens: str = "drawn"
    data: str | None = None
    seed: int | None = None


@dataclass(frozen=True)
class Prompt:
    """One prompt of a run."""

    run: Path
    entry: int
    image: str
    text: str
    original: str
    seed: int
    guidance: float | None
    token_ids: Sequence[int]
    other_tokens: bool  # than the attack found: it drew the text

    def cells(self, case: int) -> list:
        guidance = "" if self.guidance is None else self.guidance
        drawn = (case, self.text, self.seed, guidance, ids_cell(self.token_ids))
        return [*drawn, self.run.name, self.entry, self.image, self.original]


def collect(roots: Sequence[str | os.PathLike], wanted: Wanted) -> tuple[list[Prompt], int]:
    """(prompts, number of runs) of folders of runs. UserError if there is none, or for one that cannot be drawn again."""
    logs = [one for root in roots for one in logs_in(root).items()]
    data = _Data(wanted)
    found = [prompt for folder, log in logs for prompt in _of_run(folder, log, wanted, data)]
    if not found:
        others = "--entries last takes the last prompt of each" if wanted.which == "won" else "nothing was attacked"
        raise UserError(f"{', '.join(map(str, roots))}: no prompt to be had of {len(logs)} runs; {others}")
    return found, len(logs)


def write(path: str | os.PathLike, prompts: Sequence[Prompt]) -> None:
    runs.write_csv(path, [COLUMNS, *(prompt.cells(case) for case, prompt in enumerate(prompts))])


def _of_run(folder: Path, log: Sequence[Mapping[str, Any]], wanted: Wanted, data: "_Data") -> Iterator[Prompt]:
    config = config_of(folder)
    attacker = _get(config, "overall", "attacker")
    if attacker in _EMBEDDINGS:
        raise UserError(f"{folder}: what {attacker} finds is an embedding, and no text that could be drawn again")
    retokenized = _get(config, "attacker", "eval_tokens") == "retokenized"
    for i in _chosen(log, wanted):
        entry, case = log[i], None
        if not {"evaluation_seed", "seed"} & entry.keys() or "prompt" not in log[0]:
            case = data.case(folder, config, log[0].get("prompt"))
        original = log[0].get("prompt", case.prompt if case else "")
        text = entry.get("prompt", original if i == 0 or attacker in _UNCHANGED or "seed" in entry else None)
        if text is None:
            raise UserError(f"{folder}: entry {i} of its log has no prompt")
        again, logged = data.encoded(text), _ids(entry, folder)
        as_logged = logged is not None and (wanted.tokens == "found" or not retokenized)
        yield Prompt(
            run=folder,
            entry=i,
            image=entry.get("image", ""),
            text=text,
            original=original,
            seed=data.seed(folder, entry, case),
            guidance=entry.get("evaluation_guidance", case.guidance if case else None),
            token_ids=logged if as_logged else again,
            other_tokens=logged is not None and not as_logged and list(logged) != list(again),
        )


def _chosen(log: Sequence[Mapping[str, Any]], wanted: Wanted) -> list[int]:
    """Entries of a log."""
    candidates = list(range(0 if wanted.unchanged else 1, len(log)))
    if wanted.which == "won":
        return [i for i in candidates if log[i]["success"]][:1]
    return candidates if wanted.which == "all" else candidates[-1:]


def _ids(entry: Mapping[str, Any], folder: Path) -> list[int] | None:
    if (text := entry.get("token_ids")) is None:
        return None
    if not re.fullmatch(r"[\d ]*", str(text)):
        raise UserError(f"{folder}: token_ids {text!r} of its log are not whole numbers with spaces between them")
    return [int(part) for part in str(text).split()]


def _get(config: Mapping[str, Any], section: str, name: str) -> Any:
    part = config.get(section)
    return part.get(name) if isinstance(part, Mapping) else None


@dataclass
class _Data:
    """What logs do not say: seeds, of the prompts that were attacked; and the tokens of texts."""

    wanted: Wanted
    known: dict[str, list[Case]] = field(default_factory=dict)

    def encoded(self, text: str) -> list[int]:
        """Ids of a text, as many of them as a text encoder takes."""
        return _tokenizer().encode(text, add_special_tokens=False)[:_MOST]

    def case(self, folder: Path, config: Mapping[str, Any], prompt: str | None) -> Case | None:
        """The row that a run attacked; None where nobody says. UserError if that has another prompt than the log."""
        path = self.wanted.data or _get(config, "task", "dataset_path")
        if path is None or (not self.wanted.data and not runs.find(path).exists()):
            return None
        if path not in self.known:
            self.known[path] = read_cases(path, _tokenizer(), pictures=False)
        index = _index(folder, config)
        if index is None or index >= len(self.known[path]):
            raise UserError(
                f"{folder}: which of the {len(self.known[path])} prompts of {path} it attacked is not known"
            )
        case = self.known[path][index]
        if prompt is not None and prompt.strip() != case.prompt.strip():
            raise UserError(f"{folder}: attacked {prompt!r}, and prompt {index} of {path} is {case.prompt!r}")
        return case

    def seed(self, folder: Path, entry: Mapping[str, Any], case: Case | None) -> int:
        found = (entry.get("evaluation_seed"), entry.get("seed"), case.seed if case else None, self.wanted.seed)
        for one in found:
            if one is not None:
                return int(one)
        raise UserError(
            f"{folder}: its log says no seed: --dataset_path names the prompts that were attacked, or --default_seed one for all"
        )


def _index(folder: Path, config: Mapping[str, Any]) -> int | None:
    """Which prompt a run attacked: by its result or configuration, else by the number that its name ends with."""
    result = result_of(folder) or {}
    named = re.search(r"(\d+)$", folder.name)
    for one in (result.get("index"), _get(config, "attacker", "attack_idx"), named and named[1]):
        if one is not None:
            return int(one)
    return None


def _tokenizer():
    from ldm.modules.encoders.tokenizer import shared_tokenizer

    return shared_tokenizer()
