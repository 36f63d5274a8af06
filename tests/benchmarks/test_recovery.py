from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.recovery import (
    check_table,
    control_table,
    finished,
    gap_table,
    phase_tables,
    skipped,
    source,
    toy_table,
    with_runs_on_lines,
)
from unbraid.targets.toy import toys
from unbraid.verify.case import Case, cases
from unbraid.verify.result import Verification
from unbraid.verify.verb import VerifyConfig


def record(case: Case, failed: tuple[str, ...] = (), ari: float = 1.0) -> dict[str, Any]:
    """What a case leaves behind."""
    lines = {key: {"value": ari, "oracle": 0.5, "nulls": {}, "passed": key not in failed} for key in ("module_ari", "pgd_20")}
    check = {"name": "it is real", "value": 0.123456, "low": None, "high": 0.2, "passed": True}
    return {
        "case": case.tree(),
        "passed": not failed,
        "failed_lines": list(failed),
        "lines": lines,
        "checks": [check],
        "baselines": {"louvain": 1.0 if not case.knobs else 0.2},
        "cpu_seconds": 12.0,
        "peak_memory_mb": 100.0,
    }


RUNS = [record(case) for case in cases(["compiled-blocks"], 2, 0, False, True)]
SPOILT = record(Case("compiled-blocks", control="minimality × 30"), ("unmasked",))
RESULT = Verification((*RUNS, SPOILT, record(Case("u-and"), ("l0/linear1",))), {})


def test_one_row_per_toy_and_variant() -> None:
    rows = toy_table(RESULT).splitlines()
    assert any(row.startswith("| compiled-blocks | 2 of 2 |") for row in rows)
    assert any(row.startswith("| compiled-blocks, rotated | 2 of 2 |") for row in rows)
    assert any("u-and (must not be found) | 0 of 1" in row for row in rows)
    assert len({row.count("|") for row in rows}) == 1


def test_gaps_stand_beside_the_baselines() -> None:
    rows = gap_table(RESULT).splitlines()
    assert "| compiled-blocks, rotated | louvain, ARI of hidden units | 1.000 | 0.200 | 0.800 |" in rows
    assert any("unbraid, module_ari" in row and row.endswith("| 0.000 |") for row in rows)


def test_controls_say_which_line_noticed() -> None:
    table = control_table(RESULT)
    assert "| compiled-blocks | minimality × 30 | yes | unmasked |" in table
    assert "| u-and | the claimed truth is false | yes | l0/linear1 |" in table


def test_a_control_that_passes_stands_out() -> None:
    assert "**no**" in control_table(Verification((record(Case("compiled-blocks", control="minimality × 30")),), {}))


def test_phase_diagrams_and_checks_are_tables() -> None:
    assert "compiled-blocks, module_ari:" in phase_tables(RESULT)
    assert "| compiled-blocks | it is real | 0.1235 | ≤ 0.2 | yes |" in check_table(RESULT)


def test_what_was_not_measured_is_said() -> None:
    assert set(skipped(["tms-5-2"])) == set(toys.kinds()) - {"tms-5-2"}
    assert skipped([]) == []
    tree = {"environment": {"versions": {"torch": "2"}, "system": "x"}, "time": "now", "commit": "a" * 40, "skipped": ["tms-5-2"]}
    assert "Not measured: tms-5-2." in source(tree)


def test_what_is_not_finished_is_named_and_not_run(tmp_path: Path) -> None:
    result, missing = finished(["tms-5-2", "compiled-blocks"], VerifyConfig(seeds=2, phases=True), tmp_path)
    assert result.records == ()
    assert "tms-5-2 (seeds 0, 1)" in missing
    assert "tms-5-2 minimality × 30 (seeds 0)" in missing
    assert missing.count("the phase diagram of compiled-blocks") == 1
    assert list(tmp_path.iterdir()) == []


def test_each_run_is_one_line_of_the_file() -> None:
    tree = {"time": "now", "toys": [{"a": 1}], "runs": [record(Case("tms-5-2", seed)) for seed in (0, 1)]}
    text = with_runs_on_lines(tree)
    assert json.loads(text) == tree
    assert sum(line.startswith('{"case"') for line in text.splitlines()) == 2
