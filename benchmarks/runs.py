"""How is one toy decomposed at one seed for a measurement? By the command that a person types, timed from its start to its scorecard."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
TOYS = ("tms-5-2", "tms-5-2-id", "tms-40-10", "tms-40-10-id", "residual-mlp-1")
_DRAWING = ("plot", "report", "cli")  # what cannot change a number


def engine_hash() -> str:
    """Hash the source that decides the numbers, so that a result of other code is never taken for this one's."""
    digest = hashlib.sha256()
    for path in sorted((ROOT / "src" / "unbraid").rglob("*")):
        relative = path.relative_to(ROOT / "src" / "unbraid").as_posix()
        if path.suffix in {".py", ".c", ".safetensors", ".yaml"} and not any(word in relative for word in _DRAWING):
            digest.update(relative.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def decompose(name: str, seed: int, folder: Path, overrides: tuple[str, ...] = ()) -> dict[str, Any]:
    """Decompose a toy in its own process, or take the finished result of the same code; an interrupted run goes on.

    Returns:
        The scorecard's values, with `cpu_seconds` from the start of the process to the scorecard, `wall_seconds`, and `peak_memory_mb`.
    """
    run, done = folder / f"{name}-seed{seed}", folder / f"{name}-seed{seed}.json"
    code = engine_hash()
    if done.exists():
        known = json.loads(done.read_text(encoding="utf-8"))
        if known["engine"] == code and known["overrides"] == list(overrides):
            return known
        shutil.rmtree(run, ignore_errors=True)
    resuming = (run / "config.yaml").exists() and (folder / f"{run.name}.engine").read_text(encoding="utf-8") == code
    if not resuming:
        shutil.rmtree(run, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{run.name}.engine").write_text(code, encoding="utf-8")
    command = (
        ["--resume", str(run)]
        if resuming
        else [name, "--seed", str(seed), "--out", str(run), *(x for o in overrides for x in ("--set", o))]
    )
    start = time.monotonic()
    usage, output = _timed([sys.executable, "-m", "unbraid", "decompose", *command, "--json"])
    card = json.loads(output)
    result = {
        "target": name,
        "seed": seed,
        "engine": code,
        "overrides": list(overrides),
        "passed": card["passed"],
        "failed_lines": [line["key"] for line in card["lines"] if line["passed"] is False],
        "values": {line["key"]: line["value"]["value"] for line in card["lines"]},
        "oracle": {line["key"]: line["oracle"] for line in card["lines"] if line["oracle"] is not None},
        "bars": {line["key"]: line["bar"]["text"] for line in card["lines"] if line["bar"] is not None},
        "nulls": {line["key"]: line["nulls"] for line in card["lines"]},
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime + _earlier_sessions(run, resuming), 2),
        "wall_seconds": round(time.monotonic() - start, 1),
        "peak_memory_mb": round(usage.ru_maxrss * 1024 / 1e6, 1),
        "steps": card["step"],
    }
    done.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return result


def _timed(command: list[str]) -> tuple[resource.struct_rusage, str]:
    """Run a command and return its own resource use and standard output."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, env=environment, text=True)
    output = process.stdout.read() if process.stdout else ""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return usage, output


def _earlier_sessions(run: Path, resuming: bool) -> float:
    """Return the CPU time that sessions before this one spent on the run."""
    if not resuming:
        return 0.0
    cost = json.loads((run / "env.json").read_text(encoding="utf-8")).get("cost", {})
    return float(cost.get("earlier_cpu_seconds", 0.0))


def all_runs(names: tuple[str, ...], seeds: range, folder: Path, jobs: int) -> list[dict[str, Any]]:
    """Decompose every toy at every seed, `jobs` processes at a time, and say how far it is."""
    wanted = [(name, seed) for name in names for seed in seeds]
    results: list[dict[str, Any]] = []
    with ThreadPoolExecutor(jobs) as pool:
        for result in pool.map(lambda pair: decompose(*pair, folder), wanted):
            verdict = "found" if result["passed"] else "NOT FOUND: " + ", ".join(result["failed_lines"])
            print(f"{result['target']:16s} seed {result['seed']}  {result['cpu_seconds']:7.1f} CPU-s  {verdict}", flush=True)
            results.append(result)
    return results


def provenance() -> dict[str, Any]:
    """Say which commit, versions and machine a measurement was made with, and when."""
    from unbraid.core.devices import environment

    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    dirty = bool(
        subprocess.run(["git", "status", "--porcelain", "--", "src"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    )
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return {"commit": commit, "uncommitted_changes": dirty, "engine": engine_hash(), "time": when, "environment": environment("cpu", 1)}


def write_between(path: Path, mark: str, text: str) -> None:
    """Replace what stands between two marks of a Markdown file."""
    begin, end = f"<!-- {mark}:begin -->", f"<!-- {mark}:end -->"
    whole = path.read_text(encoding="utf-8")
    if begin in whole and end in whole:
        before, after = whole.split(begin)[0], whole.split(end)[1]
        path.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")
