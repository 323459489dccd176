"""Texts with random states, the same for the same text whenever and beside whatever it is encoded."""

import zlib

import torch

from erasure.text_states import TextStates


def random_texts(dim: int, length: int = 9, seed: int = 0) -> TextStates:
    """States [length, dim]; a text's last token is as many rows behind the start as it has words, at most length - 2."""

    def state(text):
        generator = torch.Generator().manual_seed(zlib.crc32(f"{seed} {text.strip()}".encode()))
        return torch.randn(length, dim, generator=generator)

    def encode(texts):
        return torch.stack([state(text) for text in texts]), [min(len(text.split()), length - 2) for text in texts]

    return TextStates(encode)


def relative(found, wanted) -> float:
    return (torch.linalg.norm(found.double() - wanted.double()) / torch.linalg.norm(wanted.double())).item()
