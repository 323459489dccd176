"""What the figures were measured on, and processes of their own for peak memory."""

import contextlib
import json
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from benchmarks.harness import FORMS

ROOT = Path(__file__).resolve().parents[1]
_BF16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # x86 twice, Arm


def facts(device: str) -> dict[str, str | int | float]:
    """Machine and versions that the figures belong to; plain values."""
    import diffusers
    import torch

    from erasure.runs import versions

    cpu, has_bf16 = _cpu()
    found = {
        "date": date.today().isoformat(),
        "cpu": cpu,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "bf16 instructions": "yes" if has_bf16 else "no",
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "load at start": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else 0.0,
    }
    if device.startswith("cuda"):
        found |= {"gpu": torch.cuda.get_device_name(device), "cuda": torch.version.cuda}
    return found | versions() | {"diffusers": diffusers.__version__}


def _cpu() -> tuple[str, bool]:
    """(name of the processor, whether it multiplies bfloat16 natively)."""
    try:
        lines = [line.partition(":") for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()]
    except OSError:
        return platform.processor() or platform.machine(), False
    known = {key.strip(): value.strip() for key, _, value in reversed(lines)}
    flags = set(known.get("flags", known.get("Features", "")).split())
    return known.get("model name") or platform.machine(), bool(flags & _BF16_FLAGS)


def reset_peak(device: str) -> int:
    """Bytes in use now, from where `peak` counts; on a CPU, the peak so far where the system does not reset it."""
    if not device.startswith("cuda"):
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
        return peak(device)
    import torch

    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)


def peak(device: str) -> int:
    """Peak memory in bytes: of the process (resident), or of tensors on a GPU."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.max_memory_allocated(device)
    with contextlib.suppress(OSError, StopIteration):  # getrusage's figure would include the parent's memory on Linux
        status = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return 1024 * int(next(line.split()[1] for line in status if line.startswith("VmHWM")))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def child(arguments: Sequence[str]) -> dict:
    """The JSON that ``python -m arguments`` prints last, run in a process of its own so that its peak memory is its own."""
    command = [sys.executable, "-m", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def trained_alone(module: str, arguments: Sequence) -> dict[str, float]:
    """What each form of a training needs: a process of its own, less what it held before the model was loaded.

    ``python -m module FORM arguments`` makes few steps and prints their losses, "before" and "peak". RuntimeError if the
    forms train differently: any of their numbers in "losses" by more than a thousandth.
    """
    found = {form: child([module, form, *arguments]) for form in FORMS}
    if any(abs(a - b) > 1e-3 * abs(b) for a, b in zip(*(one["losses"] for one in found.values()), strict=True)):
        raise RuntimeError(f"{module} {arguments}: the two forms train differently: {found}")
    used = {form: one["peak"] - one["before"] for form, one in found.items()}
    processes = {f"{form}_process": one["peak"] for form, one in found.items()}
    memory = {f"{form}_memory": value for form, value in used.items()}
    return memory | processes | {"memory_ratio": used["peer"] / used["ours"]}
