"""Harmonic means of "the concept is gone" and "the rest is intact" (MACE's H_o and H_c)."""

from collections.abc import Sequence


def harmonic_mean(shares: Sequence[float]) -> float:
    """n / sum(1 / share) of shares 0 ... 1; 0 if one of them is 0. ValueError for none, or one out of range."""
    if not shares or not all(0 <= share <= 1 for share in shares):
        raise ValueError(f"expected shares within 0 ... 1, not {list(shares)}")
    return len(shares) / sum(1 / share for share in shares) if all(shares) else 0.0


def object_score(erased: float, kept: float, synonyms: float) -> float:
    """H_o from accuracies: of the erased object, the others, and the erased one's synonyms."""
    return harmonic_mean((1 - erased, kept, 1 - synonyms))


def celebrity_score(erased: float, kept: float) -> float:
    """H_c from the accuracies of the erased celebrities and of the others."""
    return harmonic_mean((1 - erased, kept))
