from __future__ import annotations

from typing import Any

import pytest

from unbraid.verify.case import Case
from unbraid.verify.table import control_rows, invariance_gaps, phase_grids, toy_rows


def record(case: Case, failed: tuple[str, ...] = (), baselines: dict[str, float] | None = None, **values: float) -> dict[str, Any]:
    """What `run_case` writes, with the given lines."""
    return {
        "case": case.tree(),
        "passed": not failed,
        "failed_lines": list(failed),
        "lines": {key: {"value": value, "oracle": None, "nulls": {}, "passed": key not in failed} for key, value in values.items()},
        "checks": [{"name": "it is real", "value": 1.0, "low": 0.5, "high": None, "passed": True}],
        "baselines": baselines or {},
        "cpu_seconds": 10.0 + case.seed,
        "peak_memory_mb": 100.0 - case.seed,
    }


def test_a_row_counts_the_seeds_that_pass_every_line() -> None:
    runs = [record(Case("tms-5-2", 0), mmcs=1.0), record(Case("tms-5-2", 1), failed=("mmcs", "ml2r"), mmcs=0.5)]
    (row,) = toy_rows(runs)
    assert (row.found, row.seeds, row.missed) == (1, 2, ["ml2r", "mmcs"])
    assert row.scores["mmcs"].value == pytest.approx(0.75)
    assert row.scores["mmcs"].low <= 0.75 <= row.scores["mmcs"].high
    assert (row.cpu_seconds, row.peak_memory_mb) == (10.5, 100.0)


def test_lines_that_fail_more_often_come_first() -> None:
    runs = [record(Case("tms-5-2", seed), failed=failed) for seed, failed in enumerate([("a", "b"), ("b",), ("b", "c")])]
    assert toy_rows(runs)[0].missed[0] == "b"


def test_variants_have_rows_of_their_own_and_controls_and_cells_have_none() -> None:
    runs = [
        record(Case("tms-5-2")),
        record(Case("tms-5-2", variant="wide", knobs={"n_features": 6})),
        record(Case("tms-5-2", control="minimality × 30"), failed=("unmasked",)),
        record(Case("tms-5-2", variant="x", knobs={"n_features": 7}, phase=True)),
    ]
    assert [row.title for row in toy_rows(runs)] == ["tms-5-2", "tms-5-2, wide"]


@pytest.mark.parametrize(("failed", "verdict"), [(("unmasked",), True), (("alive/linear1",), True), (("decided",), False), ((), False)])
def test_a_control_fails_as_it_should_only_on_a_line_that_should_notice(failed: tuple[str, ...], verdict: bool) -> None:
    (row,) = control_rows([record(Case("tms-5-2", control="minimality × 30"), failed=failed)])
    assert row["fails_as_it_should"] is verdict


def test_an_empty_phase_has_no_grid() -> None:
    assert phase_grids([record(Case("tms-5-2"))]) == {}


def test_no_gap_without_variants_that_compute_the_same() -> None:
    assert invariance_gaps(toy_rows([record(Case("tms-5-2")), record(Case("tms-5-2", variant="wide"))])) == []
