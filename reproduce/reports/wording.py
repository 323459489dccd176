"""Numbers as reports write them, and kinds of measures."""

import math


def family(measure: str) -> str:
    """What a measure is a kind of: style_fid is a fid, lpips_rece an lpips, attack_p4d an attack."""
    return next((kind for kind in ("attack", "lpips", "fid") if kind in measure), measure)


def number(value: float, digits: int = 4) -> str:
    """Up to so many digits, or all of a large number's."""
    return f"{value:.0f}" if abs(value) >= 10 ** (digits - 1) else f"{value:.{digits}g}"


def beside(value: float, published: float | None) -> str:
    """A number of ours: three digits, or as many decimals as the published one has."""
    decimals = len(number(published).partition(".")[2]) if published is not None else 0
    short = number(value, 3)
    return short if len(short.partition(".")[2]) >= decimals or "e" in short else f"{value:.{decimals}f}"


def within(distance: float, width: float) -> bool:
    """With room for the rounding of decimal fractions: 31.5 and 31.2 are 0.3 apart."""
    return distance <= width or math.isclose(distance, width, rel_tol=1e-9)
