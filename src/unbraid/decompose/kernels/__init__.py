"""Where do the compiled kernels come from? The C files of this folder, built once by the system's compiler into the user's cache.

Without a compiler, or with UNBRAID_KERNELS=0, everything runs in torch and gives the same numbers.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unbraid.core.storage import cache_folder

_FLAGS = ("-O3", "-march=native", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-fopenmp-simd", "-shared", "-fPIC")
_SOURCES = ("elementwise.c", "site.c", "split.c", "split.h")

_WITHOUT_CONTENTS: list[Any] = []  # what stands for the kernels inside `counts_as_cpu`


class _Idle(ctypes.CDLL):
    """Kernels that do nothing, for tensors that hold nothing."""

    def __init__(self) -> None:
        """Load nothing."""

    def __getattr__(self, name: str) -> Any:
        def nothing(*_: object) -> None:
            """Do nothing."""

        return nothing


@contextmanager
def counts_as_cpu() -> Generator[None]:
    """Let torch's "meta" tensors, which have no contents, go the way of those on the CPU, so that as much is made as there."""
    if built() is not None:
        _WITHOUT_CONTENTS.append(_Idle())
    try:
        yield
    finally:
        _WITHOUT_CONTENTS.clear()


def on_cpu(tensor: Tensor) -> bool:
    """Whether a tensor lies where the kernels can read it."""
    return tensor.device.type == "cpu" or (bool(_WITHOUT_CONTENTS) and tensor.device.type == "meta")


def library() -> ctypes.CDLL | None:
    """Return the compiled kernels; None where there are none."""
    return _WITHOUT_CONTENTS[0] if _WITHOUT_CONTENTS else built()


@functools.cache
def built() -> ctypes.CDLL | None:
    """Return the compiled kernels, building them if this machine has not yet; None where that cannot be done."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if os.environ.get("UNBRAID_KERNELS", "1") == "0" or compiler is None:
        return None
    sources = {name: files("unbraid.decompose.kernels").joinpath(name).read_text(encoding="utf-8") for name in _SOURCES}
    try:
        path = cache_folder() / f"kernels-{_key(sources)}.so"
        if not path.exists():
            _compile(compiler, sources, path)
        return ctypes.CDLL(str(path))
    except (OSError, RuntimeError, subprocess.SubprocessError):
        return None  # no home, a cache that cannot be written, or a compiler that does not work: torch does the same


def kernels_for(*tensors: Tensor) -> ctypes.CDLL | None:
    """Return the kernels if these tensors are float32, contiguous and on the CPU."""
    return library() if all(t.dtype == torch.float32 and on_cpu(t) and t.is_contiguous() for t in tensors) else None


@functools.cache
def blas() -> ctypes.c_void_p | None:
    """Return the address of torch's own matrix product, Fortran's `sgemm_`, for kernels that need one; None where torch does not show it."""
    for library in sorted((Path(torch.__file__).parent / "lib").glob("*torch_cpu.*")):
        try:
            found = ctypes.CDLL(str(library)).sgemm_
        except (OSError, AttributeError):
            continue
        if _multiplies(found):
            return ctypes.cast(found, ctypes.c_void_p)
    return None


def _multiplies(sgemm: Any) -> bool:
    """Whether a function called so has the arguments that it should have, which a BLAS with 64-bit integers has not."""
    a, b, out = ((ctypes.c_float * len(numbers))(*numbers) for numbers in ((1, 2, 3), (1, 2, 3, 4, 5, 6), (0, 0)))
    one, two, three = (ctypes.byref(ctypes.c_int(number)) for number in (1, 2, 3))
    alpha, beta = (ctypes.byref(ctypes.c_float(number)) for number in (1, 0))
    sgemm.restype = None
    sgemm(b"N", b"N", two, one, three, alpha, b, two, a, three, beta, out, two)
    return list(out) == [22, 28]


def _key(sources: dict[str, str]) -> str:
    """Name the build by its sources, flags and processor, since `-march=native` code runs on one kind only."""
    processor = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        processor += next((line for line in lines if line.startswith(("flags", "Features"))), "")
    except OSError:
        pass
    return hashlib.sha256("\n".join([*sources.values(), *_FLAGS, platform.system(), processor]).encode()).hexdigest()[:16]


def _compile(compiler: str, sources: dict[str, str], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        code, built = [Path(folder) / name for name in sources], Path(folder) / "kernels.so"
        for file, source in zip(code, sources.values(), strict=True):
            file.write_text(source, encoding="utf-8")
        subprocess.run(
            [compiler, *_FLAGS, *(str(file) for file in code if file.suffix == ".c"), "-o", str(built), "-lm"],
            check=True,
            capture_output=True,
            timeout=60,
        )
        built.replace(path)
