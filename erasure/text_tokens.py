"""Texts given by the ids of their tokens: encoding the text that ids make may give others.

ids = framed(model, (320, 1125, 539))          # [77], with a start token and end tokens around them
states = states_of_ids(model, ids)             # [77, D]
bare(ids, end_of(model))                       # [320, 1125, 539]
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from erasure.errors import UserError


def end_of(model) -> int:
    """The id of a text's end token; that of its start token is one less."""
    return model.cond_stage_model.transformer.config.eos_token_id


def framed(model, ids: Sequence[int], whose: str = "a text") -> Tensor:
    """Ids [77] as the text encoder of a LatentDiffusion takes them, of those between a start and an end token.

    An end token among them is kept: an attack may have found one. UserError, which says `whose` they are, for too many ids,
    for one that is not in the vocabulary, and for a start token in front, which nobody means twice.
    """
    stage, end = model.cond_stage_model, end_of(model)
    words = len(stage.transformer.get_input_embeddings().weight)
    if wrong := [i for i in ids if not 0 <= i < words]:
        raise UserError(f"{whose}: token id {wrong[0]} is not one of this model's vocabulary, 0 to {words - 1}")
    if ids and ids[0] == end - 1:
        raise UserError(f"{whose}: token ids are given without the start token ({end - 1}), which is put before them")
    if len(ids) > stage.max_length - 2:
        raise UserError(f"{whose}: {len(ids)} token ids, and a text has at most {stage.max_length - 2}")
    return torch.tensor([end - 1, *ids, *[end] * (stage.max_length - 1 - len(ids))])


def bare(ids: Tensor | Sequence[int], end: int) -> list[int]:
    """Ids [77] without the start token and the end tokens behind the last other one: what `framed` makes them of."""
    found = [int(i) for i in ids][1:]
    while found and found[-1] == end:
        found.pop()
    return found


def states_of_ids(model, ids: Tensor) -> Tensor:
    """States [77, D] of ids [77], as the UNet takes them; without gradients."""
    with torch.no_grad():
        return model.cond_stage_model.transformer(input_ids=ids[None].to(model.device)).last_hidden_state[0]
