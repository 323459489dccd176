"""Solving for the bases of SepCE: our elimination and SVD in float64 beside the published symbolic one."""

import statistics
import time

from benchmarks.harness import Column, Settings, interleave, seconds_text

TITLE = "Null spaces of SepCE's protected prompts"
NOTE = (
    "Random text states that share the start token, as CLIP's do: 77 rows are the empty prompt, 231 those of the published bases. "
    "*rref* is the published basis, *svd* an orthonormal one of the same space. The peer is the published call, sympy's `Matrix.nullspace` on "
    "24-bit numbers, made once; its time grows with rows x rows x columns, and "
    "beyond what is shown it was not waited for. *difference*: largest, of the rref basis's entries. sympy comes with torch; no part of the project calls it."
)
COLUMNS = [
    Column("size", "rows x columns"),
    Column("bases", "bases"),
    Column("rref_s", "rref", seconds_text),
    Column("svd_s", "svd", seconds_text),
    Column("peer_s", "peer", seconds_text),
    Column("ratio", "peer / rref", "**{:,.0f}**".format),
    Column("difference", "difference", "{:.0e}".format),
]
LENGTH = 77
SIZES = ((77, 128), (77, 768), (154, 768), (231, 768), (385, 768), (693, 768))
PEERS = 2  # sizes that it is waited for: seconds, then minutes


def run(settings: Settings) -> list[dict]:
    if settings.quick:
        return [measure(12, 32, True, settings), measure(24, 48, False, settings)]
    return [measure(*size, i < PEERS, settings) for i, size in enumerate(SIZES)]


def measure(rows: int, columns: int, peer: bool, settings: Settings) -> dict:
    from methods.sepce.nullspace import nullspace_basis

    em = stacked_states(rows, columns)
    calls = {method: lambda method=method: nullspace_basis(em, method) for method in ("rref", "svd")}
    times = interleave(calls, "cpu", settings.seconds / 4, (1, 1) if settings.quick else (5, 50))
    ours = nullspace_basis(em)
    row = {"size": f"{rows} x {columns}", "bases": len(ours)}
    row |= {f"{method}_s": statistics.median(taken) for method, taken in times.items()}
    if peer:
        started = time.perf_counter()
        row["difference"] = difference(published(em), ours)
        row["peer_s"] = time.perf_counter() - started
        row["ratio"] = row["peer_s"] / row["rref_s"]
    return row


def stacked_states(rows: int, columns: int):
    """Text after text, as the bases are solved for: [rows, columns] float32."""
    import numpy as np

    generator = np.random.default_rng(0)
    em = generator.standard_normal((rows, columns), np.float32) + generator.standard_normal(columns, np.float32)
    em[::LENGTH] = em[0]
    return em


def difference(peer, ours) -> float:
    """Between entries. RuntimeError if the bases are not the same but for the peer's 24 bits."""
    found = float(abs(peer - ours).max())
    if not found < 1e-3:
        raise RuntimeError(f"null space: other vectors than the published ones, by {found:.1e}")
    return found


def published(em):
    """Unit vectors [n_b, D] by symbolic elimination."""
    import numpy as np
    import sympy

    vectors = np.array([np.array(v, np.float64)[:, 0] for v in sympy.Matrix(em).nullspace()])
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
