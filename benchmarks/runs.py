"""What do measurements share? Where they were made, and how their tables get into a page."""

from __future__ import annotations

import subprocess
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
