"""Where do a run's metrics go? One JSON object per line, appended; nothing else is needed to draw them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from unbraid.core.storage import write_text


def append_metrics(path: Path, step: int, values: Mapping[str, float]) -> None:
    """Append one line of metrics."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"step": step, **values}) + "\n")


def read_metrics(path: Path) -> list[dict[str, float]]:
    """Read all whole lines; a line that a killed run left unfinished is skipped."""
    if not path.exists():
        return []
    rows: list[dict[str, float]] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows


def cut_metrics(path: Path, step: int) -> None:
    """Drop the lines after `step`, which a resumed run will write again."""
    if path.exists():
        rows = [row for row in read_metrics(path) if row["step"] <= step]
        write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
