"""Costs in a few characters."""


def duration(seconds: float) -> str:
    digits = 0 if seconds >= 9.5 else 1 if seconds >= 0.95 else 2
    return f"{seconds:.{digits}f} s" if seconds >= 0.01 else "< 0.01 s"


def file_size(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 999_500 else f"{max(size / 1e3, 1):.0f} kB"
