"""How are records put together? Per toy and variant over the seeds, per negative control, and per phase diagram."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from unbraid.core.statistics import Estimate, bootstrap_mean
from unbraid.targets.toy import toys
from unbraid.verify.case import Case
from unbraid.verify.controls import control_named

Record = Mapping[str, Any]

PHASE_SCORES = ("module_ari", "piece_coverage", "piece_cosine")


@dataclass(frozen=True)
class Row:
    """One toy at some knobs, over its seeds.

    Attributes:
        toy: Its name.
        title: Its name with the variant's.
        variant: The variant's name; "" for the default knobs.
        seeds: How many seeds were run.
        found: At how many of them every line passed.
        control: Whether the toy's claimed truth is false on purpose, so that it must not be found.
        scores: Line → its mean over seeds with the interval.
        worst: Line → the values per seed.
        baselines: Method → its ARI per seed, for toys with hidden units.
        missed: The lines that failed at some seed, the most often failed first.
        unreal: The toy's own checks that fail.
        cpu_seconds: The median over seeds.
        peak_memory_mb: The largest over seeds.
    """

    toy: str
    title: str
    variant: str
    seeds: int
    found: int
    control: bool
    scores: Mapping[str, Estimate]
    worst: Mapping[str, Sequence[float]]
    baselines: Mapping[str, Sequence[float]]
    missed: Sequence[str]
    unreal: Sequence[str]
    cpu_seconds: float
    peak_memory_mb: float

    def cell(self, key: str) -> str:
        """Return a score for a table: its mean, with the interval over seeds where it has a width."""
        if key not in self.scores:
            return "–"
        score = self.scores[key]
        return f"{score.value:.3f}" if score.low == score.high else f"{score.value:.3f} [{score.low:.3f}, {score.high:.3f}]"

    def tree(self) -> dict[str, Any]:
        """Return the row as JSON-ready values."""
        return asdict(self)


def toy_rows(records: Sequence[Record]) -> list[Row]:
    """Return one row per toy and variant, in the order of the records; controls and phase cells stand elsewhere."""
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        case = record["case"]
        if not case["control"] and not case["phase"]:
            groups.setdefault((case["toy"], case["variant"]), []).append(record)
    return [_row(toy, variant, group) for (toy, variant), group in groups.items()]


def _row(toy: str, variant: str, group: Sequence[Record]) -> Row:
    keys = list(dict.fromkeys(key for record in group for key in record["lines"]))
    values = {key: [record["lines"][key]["value"] for record in group if key in record["lines"]] for key in keys}
    failed = [key for record in group for key in record["failed_lines"]]
    methods = list(dict.fromkeys(method for record in group for method in record["baselines"]))
    return Row(
        toy=toy,
        title=Case(toy, variant=variant).title,
        variant=variant,
        seeds=len(group),
        found=sum(record["passed"] for record in group),
        control=toy in toys.kinds() and toys.get(toy).negative_control,
        scores={key: bootstrap_mean(of_key) for key, of_key in values.items()},
        worst=values,
        baselines={method: [record["baselines"][method] for record in group if method in record["baselines"]] for method in methods},
        missed=sorted(set(failed), key=lambda key: (-failed.count(key), key)),
        unreal=sorted({check["name"] for record in group for check in record["checks"] if not check["passed"]}),
        cpu_seconds=statistics.median(record["cpu_seconds"] for record in group),
        peak_memory_mb=max(record["peak_memory_mb"] for record in group),
    )


def invariance_gaps(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return how far each score falls when a network is written in other coordinates that compute the same function.

    The gap is the mean over seeds in the toy's own coordinates minus that in the others; beside it the same for each baseline.
    """
    known = {(row.toy, row.variant): row for row in rows}
    gaps: list[dict[str, Any]] = []
    for (name, variant), row in known.items():
        if variant not in (toys.get(name).same_function if name in toys.kinds() else ()) or (name, "") not in known:
            continue
        aligned = known[name, ""]
        ours = {
            key: aligned.scores[key].value - row.scores[key].value for key in PHASE_SCORES if key in row.scores and key in aligned.scores
        }
        theirs = {
            method: statistics.mean(aligned.baselines[method]) - statistics.mean(row.baselines[method])
            for method in row.baselines
            if method in aligned.baselines
        }
        gaps.append({"toy": name, "variant": variant, "gap": ours, "baseline_gap": theirs})
    return gaps


def control_rows(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Return one row per negative control, with whether the right line failed; a toy that is itself a control is one as well."""
    rows: list[dict[str, Any]] = []
    for record in records:
        case = record["case"]
        if case["control"]:
            control = control_named(case["control"])
            noticed = control.noticed(record["failed_lines"])
            rows.append(
                {
                    "toy": case["toy"],
                    "control": control.name,
                    "why": control.why,
                    "should_fail": list(control.lines),
                    "failed": record["failed_lines"],
                    "noticed": noticed,
                    "fails_as_it_should": bool(noticed),
                }
            )
    return rows


def phase_grids(records: Sequence[Record]) -> dict[str, Any]:
    """Return each toy's phase diagram: the knobs, their values, and a grid of every score that the cells have; None where a cell is missing."""
    grids: dict[str, Any] = {}
    for name in dict.fromkeys(record["case"]["toy"] for record in records if record["case"]["phase"]):
        phase = toys.get(name).phase
        if phase is None:
            continue
        cells = {
            (record["case"]["knobs"][phase.row_knob], record["case"]["knobs"][phase.column_knob]): record
            for record in records
            if record["case"]["phase"] and record["case"]["toy"] == name
        }
        scores = {
            key: [[_cell(cells.get((row, column)), key) for column in phase.columns] for row in phase.rows]
            for key in PHASE_SCORES
            if any(key in record["lines"] for record in cells.values())
        }
        methods = sorted({method for record in cells.values() for method in record["baselines"]})
        for method in methods:
            scores[f"baseline: {method}"] = [
                [(cells[row, column]["baselines"].get(method) if (row, column) in cells else None) for column in phase.columns]
                for row in phase.rows
            ]
        grids[name] = {**asdict(phase), "scores": scores}
    return grids


def _cell(record: Record | None, key: str) -> float | None:
    return None if record is None or key not in record["lines"] else record["lines"][key]["value"]
