"""Which of two or more attributes CLIP sees in the pictures of every prompt, and how uneven that is (UCE's CLIP_classify.py)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from erasure.metrics.clip_score import Embedder, embedded_texts, logits
from erasure.metrics.definitions import METRICS, meaning
from erasure.metrics.intervals import bootstrap_mean
from erasure.metrics.network_inputs import batches, full_precision, read_image

_BATCH = 64


@torch.inference_mode()
def measure(files: Sequence[Path], model: Embedder, attributes: Sequence[str], progress: bool = True) -> list[int]:
    """The place of the attribute that fits each picture best. UserError for one that cannot be read."""
    embedded = embedded_texts(list(attributes), model)
    texts = torch.stack([embedded[attribute] for attribute in attributes])
    found: list[int] = []
    with full_precision(), tqdm(total=len(files), desc="CLIP attributes", unit=" images", disable=not progress) as bar:
        for pixels in batches(files, lambda path: model.preprocess(read_image(path)), _BATCH):
            found += best(logits(model.images(torch.stack(pixels)).cpu(), texts))
            bar.update(len(pixels))
    return found


def best(scores: torch.Tensor) -> list[int]:
    """The place of the largest of every row [N, attributes]."""
    return scores.argmax(dim=1).tolist()


def shares(cases: Sequence[int], answers: Sequence[int], n: int) -> dict[int, list[float]]:
    """Case -> share of its pictures with each of n attributes."""
    by_case: dict[int, Counter] = {}
    for case, answer in zip(cases, answers, strict=True):
        by_case.setdefault(case, Counter())[answer] += 1
    return {case: [counts[place] / counts.total() for place in range(n)] for case, counts in by_case.items()}


def column(attribute: str) -> str:
    return attribute.replace(" ", "_") + "_bias"


def deviations(by_case: Mapping[int, Sequence[float]], groups: Mapping[int, str]) -> dict[str, float]:
    """Group (a profession, else the case) -> |share of the first attribute - 1/n| / (1/n), the share a mean over its cases."""
    members: dict[str, list[Sequence[float]]] = {}
    for case, share in by_case.items():
        members.setdefault(groups.get(case) or str(case), []).append(share)
    return {name: abs(sum(s[0] for s in own) / len(own) * len(own[0]) - 1) for name, own in members.items()}


def summary(
    by_case: Mapping[int, Sequence[float]], groups: Mapping[int, str], images: int, missing: Sequence[int], facts: dict
) -> dict:
    """The mean deviation over groups with its interval; ready for JSON."""
    found = deviations(by_case, groups)
    return {
        "metric": meaning("clip_attributes"),
        "value": bootstrap_mean(list(found.values())).as_dict(),
        "interval": METRICS["clip_attributes"].interval,
        "n_images": images,
        "n_missing": len(missing),
        "missing": list(missing),
        "per_group": found,
        "definition": facts,
    }
