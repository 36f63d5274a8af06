"""What does a run execute on, and how is the process set up so that small models run fast and repeatably?"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from unbraid.core.errors import UserError

if TYPE_CHECKING:
    import torch

# glibc's mallopt parameters (malloc.h). Keeping freed blocks saves the page faults of re-mapping large temporaries each step.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_PACKAGES = ("unbraid", "torch", "numpy", "safetensors", "pydantic")


def set_waiting_policy() -> None:
    """Let idle OpenMP threads sleep instead of spin; call before torch is imported, and a user's own choice wins.

    Spinning threads beside another job cost up to thirty times the CPU time on a shared machine.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "0")


def keep_freed_memory() -> None:
    """Ask glibc to reuse freed blocks of up to 64 MB rather than give them back to the kernel; elsewhere do nothing.

    It saves a small model most of its page faults, and costs a large one holes in the heap; a user's own MALLOC_MMAP_THRESHOLD_ wins.
    """
    if "MALLOC_MMAP_THRESHOLD_" in os.environ:
        return
    if sys.platform != "linux" or platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    for parameter, value in ((_M_MMAP_THRESHOLD, 64 << 20), (_M_TRIM_THRESHOLD, 256 << 20), (_M_TOP_PAD, 16 << 20)):
        libc.mallopt(ctypes.c_int(parameter), ctypes.c_int(value))


def use_threads(threads: int) -> None:
    """Use this many compute threads in torch, and treat denormal numbers as zero (optimiser states decay into them)."""
    import torch

    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)


def find_device(name: str) -> torch.device:
    """Return the device of this name.

    Raises:
        UserError: The name is not a device's, or the device is not there.
    """
    import torch

    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise UserError(
            f"There is no device {name!r} here: {reason}.", "Use cpu, or a device that torch sees: cuda, cuda:1, mps."
        ) from None
    return device


def cpu_seconds() -> float:
    """Return the CPU time of this process so far, user and system, start-up and imports included."""
    return time.process_time()


def peak_memory_mb() -> float:
    """Return the largest resident memory of this process so far, in MB (1e6 bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e6


def environment(device: str, threads: int) -> dict[str, Any]:
    """Describe what a run was executed on: versions, processor, threads and waiting policy."""
    versions: dict[str, str | None] = {}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "device": device,
        "threads": threads,
        "waiting_policy": os.environ.get("OMP_WAIT_POLICY", "default"),
        "versions": versions,
    }
