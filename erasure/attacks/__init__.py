"""Attacks: how to bring back what an edit erased, to measure how well it was erased. One file an attack.

Every attack is a class made of a `Target` (the erased model, how it draws, and a judge of pictures) and a `Plan` (settings and
data), with one method:

    result = attacks.run(attacks.create("text_grad", target, plan), case, folder, config)

It leaves a folder in the format of UnlearnDiffAtk's logs (`erasure.attacks.log`); a run that was stopped goes on from there.

`RingABell` by itself is an attack on embeddings for the generator; it says what the UNet is given in place of a prompt's states:

    attack = RingABell(vector, eta)
    generate(model, rows, folder, settings, identity | attack.identity(), encode=attack.encode(model))
"""

import os
from collections.abc import Mapping
from typing import Any

NAMES = (
    "text_grad",
    "hard_prompt",
    "random",
    "seed_search",
    "no_attack",
    "ring_a_bell",
    "ring_a_bell_embedding",
    "concept_inversion",
)


def create(name: str, target, plan):
    """The attack of a name, ready to be run on any case."""
    from erasure.attacks import black_box, white_box
    from erasure.attacks.concept_inversion import ConceptInversion

    classes = (
        white_box.UnlearnDiffAtk,
        white_box.P4D,
        black_box.RandomTokens,
        black_box.SeedSearch,
        black_box.NoAttack,
        black_box.RingABellSearch,
        black_box.RingABellEmbedding,
        ConceptInversion,
    )
    return dict(zip(NAMES, classes, strict=True))[name](target, plan)


def run(attack, case, folder: str | os.PathLike, config: Mapping[str, Any], overwrite: bool = False) -> dict[str, Any]:
    """Attack one case, or go on with it; the result, which is in `folder` as well.

    attack: of `create`. The unchanged prompt is drawn first; where it shows the concept, nothing is attacked (pre-success).
    """
    from erasure.attacks.log import Log, result_of
    from erasure.prompts import ids_cell

    log = Log(folder, config, overwrite)
    if (result := result_of(folder)) is not None:
        return result
    if not log.entries:
        picture, answer = attack.target.tried(attack.target.unchanged(case), case)
        given = {} if case.token_ids is None else {"token_ids": ids_cell(case.token_ids)}
        log.add(picture, "orig.png", answer | {"prompt": case.prompt, **given})
    if not log.entries[0]["success"]:
        attack.run(case, log)
    return log.finish(index=case.index)


__all__ = ["NAMES", "create", "run"]
