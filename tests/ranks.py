"""Several ranks on one machine, each a process of its own, as torchrun would start them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import unbraid

ROOT = Path(unbraid.__file__).parents[2]


@dataclass(frozen=True)
class Told:
    """What a rank left."""

    code: int
    out: str
    err: str


def begin(
    count: int, command: Sequence[str], cwd: Path, per_rank: Sequence[Sequence[str]] | None = None, **env: str
) -> list[subprocess.Popen[str]]:
    """Start `python COMMAND` as so many ranks; `per_rank` gives each further words."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
        "WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
        **env,
    }
    return [
        subprocess.Popen(
            [sys.executable, *command, *(per_rank[rank] if per_rank else ())],
            cwd=cwd,
            env=shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]


def finish(processes: Sequence[subprocess.Popen[str]], seconds: float = 120) -> list[Told]:
    """Wait for all of them."""
    told: list[Told] = []
    try:
        for process in processes:
            out, err = process.communicate(timeout=seconds)
            told.append(Told(process.returncode, out, err))
    finally:
        for process in processes:
            process.kill()
            process.communicate()  # closes its pipes; where nobody does, another test is blamed for them
    return told
