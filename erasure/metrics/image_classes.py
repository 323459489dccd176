"""Which of ImageNet's classes pictures show, and the share that shows the class of its prompt (ESD's imageclassify.py).

    answers = top_classes(files, network, imagenet(224, 232), k=5)      # per picture [(index, probability), ...]

The network comes in as a callable, pictures [B, 3, h, w] -> logits [B, classes], so that any can be one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from erasure.errors import UserError
from erasure.metrics import case_csv
from erasure.metrics.case_csv import PromptTable
from erasure.metrics.definitions import WILSON, meaning
from erasure.metrics.image_folders import images_by_case
from erasure.metrics.intervals import Interval, wilson
from erasure.metrics.network_inputs import Preprocess, batches, full_precision, read_image
from erasure.runs import write_csv

Network = Callable[[torch.Tensor], torch.Tensor]
Top = Sequence[tuple[int, float]]
"""(index of a class, probability), most probable first."""


@dataclass(frozen=True)
class Classified:
    """A picture, its case number and what a network sees in it."""

    file: Path
    case: int
    top: Top


def asked_for(table: PromptTable, names: Sequence[str]) -> dict[int, str]:
    """Case number -> class of the prompt: of the column class, else of label_idx, ImageNet's number (SepCE's imagenet_prompts.csv).

    {} without either. UserError for a number of no class.
    """
    if classes := table.column("class"):
        return classes
    numbers = table.column("label_idx")
    if bad := [cell for cell in numbers.values() if not (cell.isdecimal() and int(cell) < len(names))]:
        raise UserError(f"label_idx {bad[0]!r} is no class from 0 to {len(names) - 1}")
    return {case: names[int(cell)] for case, cell in numbers.items()}


# ---- classifying ---------------------------------------------------------------------------------------------------


def top_of(logits: torch.Tensor, k: int) -> list[Top]:
    """The k most probable classes of every row of logits [N, classes], by a softmax in float32."""
    best = logits.float().softmax(dim=1).topk(k, dim=1)
    return [list(zip(i, p, strict=True)) for i, p in zip(best.indices.tolist(), best.values.tolist(), strict=True)]


@torch.inference_mode()
def top_classes(
    files: Sequence[Path],
    network: Network,
    preprocess: Preprocess,
    k: int,
    batch_size: int = 32,
    device: str = "cpu",
    progress: bool = True,
) -> list[Top]:
    """`top_of` every picture, a batch at a time; none is held longer. UserError for one that cannot be read."""
    found: list[Top] = []
    with full_precision(), tqdm(total=len(files), desc="classifying", unit=" images", disable=not progress) as bar:
        for pixels in batches(files, lambda path: preprocess(read_image(path)), batch_size):
            found += top_of(network(torch.stack(pixels).to(device)), k)
            bar.update(len(pixels))
    return found


def pictures(folder: str | os.PathLike, table: PromptTable) -> list[tuple[Path, int]]:
    """(file, case) of the pictures `{case}_{k}` of a CSV's rows, in the order of the rows. UserError for none at all."""
    by_case = images_by_case(folder)
    found = [(path, case) for case in table.cases for path in by_case.get(case, ())]
    if not found:
        raise UserError(f"{folder} holds no picture {{case_number}}_{{k}}.png of a row of the prompt CSV")
    return found


# ---- files ---------------------------------------------------------------------------------------------------------


def write_classification(
    path: str | os.PathLike, table: PromptTable, seen: Sequence[Classified], names: Sequence[str]
) -> None:
    """The published CSV: of every picture the row of its prompt and category_top1, index_top1, scores_top1, ..."""
    depth = len(seen[0].top)
    columns = [f"{what}_top{n}" for n in range(1, depth + 1) for what in ("category", "index", "scores")]
    results: dict[int, list[list]] = {}
    for one in seen:
        cells = [cell for index, p in one.top for cell in (names[index], index, repr(p))]
        results.setdefault(one.case, []).append(cells)
    case_csv.write(path, table, columns, results, every_case=False)


def write_per_image(
    path: str | os.PathLike, seen: Sequence[Classified], classes: dict[int, str], names: Sequence[str]
) -> None:
    """One row a picture: file, class that was asked for, first answer, whether it is right."""
    lines: list[list] = [["file", "case_number", "class", "answer", "probability", "right"]]
    for one in seen:
        wanted, (index, p) = classes.get(one.case, ""), one.top[0]
        lines.append([one.file.name, one.case, wanted, names[index], repr(p), int(_right(one, wanted, names, 1))])
    write_csv(path, lines)


# ---- accuracy ------------------------------------------------------------------------------------------------------


def _right(one: Classified, wanted: str, names: Sequence[str], k: int) -> bool:
    return wanted.casefold() in {names[index].casefold() for index, _ in one.top[:k]}


def accuracies(
    seen: Sequence[Classified], classes: dict[int, str], names: Sequence[str], k: int = 1
) -> dict[str, Interval]:
    """Class of the prompts -> share of its pictures with that class among the first k, classes in the order of the CSV."""
    groups: dict[str, list[bool]] = {wanted.casefold(): [] for wanted in classes.values() if wanted}
    for one in seen:
        if wanted := classes.get(one.case):
            groups[wanted.casefold()].append(_right(one, wanted, names, k))
    return {name: wilson(sum(right), len(right)) for name, right in groups.items() if right}


def mean_of(groups: dict[str, Interval], without: str = "") -> float | None:
    """Mean over the classes except one, as the papers' "others"; None if there is none."""
    values = [share.value for name, share in groups.items() if name != without.casefold()]
    return sum(values) / len(values) if values else None


def rece_lines(groups: dict[str, Interval], target: str, tenths: bool = False) -> list[str]:
    """What RECE's script prints. tenths: its divisors, a tenth of all pictures and nine tenths, whatever the classes hold."""
    target, right = target.casefold(), {name: round(share.value * share.n) for name, share in groups.items()}
    if target not in groups:
        raise UserError(f"no row is of the class {target!r}; there are {', '.join(groups)}")
    n = sum(share.n for share in groups.values())
    own, others = groups[target].n, n - groups[target].n
    if tenths:
        own, others = n / 10, 9 * n / 10
    elsewhere = sum(right.values()) - right[target]
    lines = [f"Target {target} accuracy: {right[target] / own}"]
    lines += [f"Other accuracy: {elsewhere / others}"] if others else []
    return [*lines, "Top 1 accuracies:", *(f"{name}: {share.value}" for name, share in groups.items())]


def summary(
    seen: Sequence[Classified],
    classes: dict[int, str],
    names: Sequence[str],
    target: str | None,
    missing: Sequence[int],
    facts: dict,
) -> dict:
    """Accuracy of all classes and of each, top 1 and top 5, the target's and the others'; ready for JSON."""
    depth = len(seen[0].top)
    by_k = {k: accuracies(seen, classes, names, k) for k in (1, 5) if k <= depth}
    found = {
        "metric": meaning("image_classes"),
        "value": _all(by_k[1]),
        "interval": WILSON,
        "n_images": len(seen),
        "n_missing": len(missing),
        "missing": list(missing),
        "per_group": {name: share.as_dict() for name, share in by_k[1].items()},
        "mean_of_classes": mean_of(by_k[1]),
        "definition": facts,
    }
    if 5 in by_k:
        found |= {"top5": _all(by_k[5]), "per_group_top5": {n: share.as_dict() for n, share in by_k[5].items()}}
    if target:
        found |= {"target": target, "mean_of_others": mean_of(by_k[1], target)}
    return found


def _all(groups: dict[str, Interval]) -> dict | None:
    """Over the pictures of all classes; None where the CSV names no classes."""
    total = sum(share.n for share in groups.values())
    return wilson(sum(round(s.value * s.n) for s in groups.values()), total).as_dict() if total else None
