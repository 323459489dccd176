"""The embedded judge as attacks ask it: whether pictures show one concept of the toy world."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from erasure.errors import UserError
from toyworld.attack_prompts import concept_of
from toyworld.concepts import IMAGE_SIZE


def embedded_judge(name: str):
    """(judge of a concept, what it is) for `erasure.attacks`. UserError for a concept that the toy world does not have."""
    from erasure import runs
    from erasure.metrics.judging import HEAD_OF_KIND
    from toyworld.judge import JUDGE_PATH, load_judge

    try:
        kind, concept = concept_of(name)
    except ValueError as error:
        raise UserError(str(error)) from None
    network, head = load_judge(), HEAD_OF_KIND[kind]

    def judge(pictures: Sequence[np.ndarray]) -> list[dict[str, Any]]:
        if pictures[0].shape != (IMAGE_SIZE, IMAGE_SIZE, 3):
            raise UserError(f"--image_size {len(pictures[0])}: the embedded judge looks at {IMAGE_SIZE} pixels a side")
        answers = network.predict(np.stack(pictures))
        return [{"success": a[head] == concept, head: a[head], "score": a[f"{head}_p"]} for a in answers]

    return judge, {"detector": "embedded judge", "sha256": runs.sha256_file(JUDGE_PATH), "concept": concept}
