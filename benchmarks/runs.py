"""What do measurements share? Where they were made, and how their tables get into a page."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from unbraid.verify.provenance import provenance as versions

ROOT = Path(__file__).parent.parent
FIRST_TOYS = ("tms-5-2", "tms-5-2-id", "tms-40-10", "tms-40-10-id", "residual-mlp-1")


def provenance() -> dict[str, Any]:
    """Say which commit, versions and machine a measurement was made with, and when."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    changed = subprocess.run(["git", "status", "--porcelain", "--", "src"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    return {"commit": commit, "uncommitted_changes": bool(changed.strip()), **versions()}


def write_between(path: Path, mark: str, text: str) -> None:
    """Replace what stands between two marks of a Markdown file."""
    begin, end = f"<!-- {mark}:begin -->", f"<!-- {mark}:end -->"
    whole = path.read_text(encoding="utf-8")
    if begin in whole and end in whole:
        before, after = whole.split(begin)[0], whole.split(end)[1]
        path.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


def decompose_into(place: Path, words: Iterable[str]) -> None:
    """Decompose with the command that a person would type, on one thread, or go on with what was interrupted."""
    begun = ["--resume", str(place)] if (place / "config.yaml").exists() else [*words, "--out", str(place)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    command = [sys.executable, "-m", "unbraid", "decompose", "--no-report", *begun]
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False)


def scored(place: Path, keys: Iterable[str]) -> dict[str, Any]:
    """Return what a run says of itself: what it cost, and these lines of its scorecard."""
    lines = {line["key"]: line for line in json.loads((place / "scorecard.json").read_text(encoding="utf-8"))["lines"]}
    cost = json.loads((place / "env.json").read_text(encoding="utf-8"))["cost"]
    return {"cpu_seconds": cost["cpu_seconds"], "lines": {key: lines[key]["value"] for key in keys}}


def side_by_side(runs: Mapping[str, Sequence[dict[str, Any]]], titles: Mapping[str, str]) -> list[str]:
    """Write a table with one row per line of the scorecard and one column per setting; each cell has all of its runs."""
    rows = ["| line | " + " | ".join(runs) + " |", "|---|" + "---|" * len(runs)]
    for key, title in titles.items():
        cells = (", ".join(f"{run['lines'][key]['value']:.3g}" for run in each) for each in runs.values())
        rows.append(f"| {title} | " + " | ".join(cells) + " |")
    return rows


def measured(tree: Mapping[str, Any]) -> str:
    """Say when, from which commit and on what a measurement was made."""
    environment = tree["environment"]
    return f"Measured {tree['time']} at commit {tree['commit'][:10]}, torch {environment['versions']['torch']}, {environment['system']}."
