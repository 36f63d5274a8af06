from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from unbraid.report.verification import write_verification
from unbraid.targets.toy import find_toy
from unbraid.verify.case import Case, cases
from unbraid.verify.result import Verification


def record(case: Case, failed: tuple[str, ...] = (), **values: float) -> dict[str, Any]:
    """What `run_case` writes, with the given lines."""
    return {
        "case": case.tree(),
        "passed": not failed,
        "failed_lines": list(failed),
        "lines": {key: {"value": value, "oracle": 0.01, "nulls": {}, "passed": key not in failed} for key, value in values.items()},
        "checks": [],
        "baselines": {"louvain": 0.3},
        "cpu_seconds": 10.0,
        "peak_memory_mb": 100.0,
    }


@pytest.fixture
def result() -> Verification:
    runs = [record(case, module_ari=1.0, piece_coverage=1.0, pgd_20=0.02) for case in cases(["compiled-blocks"], 2, 0, False, True)]
    runs += [record(Case("tms-5-2", 0), failed=("mmcs",), mmcs=0.9), record(Case("u-and", 0), failed=("l0/linear1",), module_ari=0.1)]
    runs += [record(Case("tms-5-2", control="minimality × 30"), failed=("unmasked",), mmcs=0.2)]
    return Verification(tuple(runs), {"time": "2026-01-01T00:00:00Z", "environment": {}})


def test_the_page_says_what_was_found_and_what_failed_as_it_should(result: Verification, tmp_path: Path) -> None:
    text = write_verification(tmp_path, result).read_text(encoding="utf-8")
    assert "Every negative control fails, as it should." in text
    assert "minimality × 30" in text and "must not be found" in text
    assert re.search(r"\d+ of \d+ toys and variants were found at every seed", text)


def test_phase_diagrams_bring_their_numbers(result: Verification, tmp_path: Path) -> None:
    write_verification(tmp_path, result)
    phase = find_toy("compiled-blocks").phase
    assert phase is not None
    numbers = json.loads((tmp_path / "figures" / "phase-compiled-blocks.json").read_text())
    assert numbers["row_knob"] == phase.row_knob
    assert len(numbers["scores"]["module_ari"]) == len(phase.rows)
    assert "louvain" in " ".join(numbers["scores"])


def test_a_control_that_passes_is_said_loudly(result: Verification, tmp_path: Path) -> None:
    bad = record(Case("tms-5-2", control="minimality ÷ 30"), mmcs=1.0)
    text = write_verification(tmp_path, Verification((*result.records, bad), result.provenance)).read_text(encoding="utf-8")
    assert "which they must not" in text
