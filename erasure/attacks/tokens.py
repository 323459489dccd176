"""Where adversarial tokens go in a prompt, and the states of a text whose tokens are embeddings rather than ids.

    order = insertion(length, len(found), "prefix_k")
    ids = torch.cat([prompt_ids, found])[order]                     # [77]
    states = states_of(model, torch.cat([table[prompt_ids], embeddings])[order])

Source: OPTML-Group/Diffusion-MU-Attack (5a3e5d3); a prompt's tokens are never cut, the end tokens after them are.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from erasure.errors import UserError
from erasure.text_tokens import end_of

LOCATIONS = ("prefix_k", "suffix_k", "mid_k", "insert_k", "per_k_words")
_WORDS = 3  # of a prompt, before which per_k_words puts a token


def insertion(length: int, count: int, location: str, total: int = 77) -> Tensor:
    """[total] indices into the ids of a prompt [total], followed by `count` adversarial ones.

    length: tokens of the prompt itself, between its start token and the first end token. UserError for an unknown
    location, and for a prompt that leaves no room.
    """
    if location not in LOCATIONS:
        raise UserError(f"insertion_location {location!r} is not one of {', '.join(LOCATIONS)}")
    if length + count > total - 2:
        raise UserError(f"a prompt of {length} tokens leaves no room for {count} more: a text has at most {total - 2}")
    prompt, added = list(range(1, length + 1)), list(range(total, total + count))
    if location == "per_k_words":
        starts = [_WORDS * i for i in range(count)]
    else:
        step = length // (count + 1)
        starts = {
            "prefix_k": [0] * count,
            "suffix_k": [length] * count,
            "mid_k": [length // 2] * count,
            "insert_k": [step * (i + 1) for i in range(count)],
        }[location]
    body, at = [0], 0
    for token, start in zip(added, starts, strict=True):
        body += [*prompt[at:start], token]
        at = max(at, min(start, length))
    body += prompt[at:]
    return torch.tensor(body + list(range(len(body), total)))


def count_of(length: int, k: int, location: str) -> int:
    """How many tokens P4D adds: k, but one for every k tokens of the prompt where they go between its words."""
    return max(1, math.ceil(length / k)) if location == "per_k_words" else k


class Prompt:
    """A prompt as token ids [77] with adversarial tokens in it."""

    def __init__(self, model, text: str, count: int, location: str):
        self.model, self.text = model, text
        self.ids = ids_of(model, text)
        self.order = insertion(length_of(model, self.ids), count, location, len(self.ids))

    def with_ids(self, found: Tensor) -> Tensor:
        """Ids [77] with the found ones [count] in their places."""
        return torch.cat([self.ids, found.cpu()])[self.order]

    def states(self, embeddings: Tensor) -> Tensor:
        """States [1, 77, D] with embeddings [count, D] in their places, differentiable with respect to them."""
        base = table_of(self.model)[self.ids.to(embeddings.device)]
        return states_of(self.model, torch.cat([base, embeddings.to(base.dtype)])[self.order.to(embeddings.device)])


def table_of(model) -> Tensor:
    """[V, D]: the embedding of every token of a LatentDiffusion's text tower."""
    return model.cond_stage_model.transformer.get_input_embeddings().weight.detach()


def states_of(model, embeddings: Tensor) -> Tensor:
    """States [1, L, D] of the embeddings [L, D] of a text's tokens (of a batch [B, L, D]: [B, L, D])."""
    batch = embeddings if embeddings.ndim == 3 else embeddings[None]
    return model.cond_stage_model.transformer(inputs_embeds=batch).last_hidden_state


def ids_of(model, text: str) -> Tensor:
    """Ids [77] of a text as the model's text encoder takes it."""
    stage = model.cond_stage_model
    return stage.tokenizer(
        [text], truncation=True, max_length=stage.max_length, padding="max_length", return_tensors="pt"
    ).input_ids[0]


def length_of(model, ids: Tensor) -> int:
    """Tokens of the text itself, without start and end."""
    return int((ids == end_of(model)).int().argmax()) - 1


def text_of(model, ids: Tensor | Sequence[int]) -> str:
    """The text of ids, without start and end tokens; encoding it again may give other ids."""
    ids, end = list(map(int, ids)), end_of(model)
    return model.cond_stage_model.tokenizer.decode([i for i in ids if i not in (end, end - 1)]).strip()
