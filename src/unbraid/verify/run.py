"""How is one case verified? In a process of its own: decompose in a run folder, score with modules and baselines, write one record."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from unbraid.components.baseline_scores import baseline_scores
from unbraid.components.scorecard import scorecard
from unbraid.core.devices import cpu_seconds, peak_memory_mb
from unbraid.core.storage import write_json
from unbraid.decompose.config import DecomposeConfig
from unbraid.decompose.loop import Watch, train
from unbraid.decompose.preset import resolve
from unbraid.decompose.result import CONFIG_FILE, Decomposition
from unbraid.decompose.scorecard import Line
from unbraid.decompose.training import prepare
from unbraid.decompose.verb import decompose, is_finished
from unbraid.targets.target import Target
from unbraid.targets.toy import Toy, toys
from unbraid.verify.case import Case
from unbraid.verify.code import code_of, training_code_of
from unbraid.verify.controls import control_named

RECORD = "verified.json"


def toy_of(case: Case) -> Toy:
    """Return the toy at the case's knobs.

    Raises:
        UserError: The toy has no such knob, or the value is not allowed.
    """
    return toys.get(case.toy).parse({"kind": case.toy, **case.knobs}, case.title)


def known_record(case: Case, folder: Path) -> dict[str, Any] | None:
    """Return what an earlier session measured with the same code, or None."""
    path = folder / case.name / RECORD
    if not path.exists():
        return None
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return record if record["case"] == case.tree() and record["code"] == code_of(toy_of(case)) else None


def run_case(case: Case, folder: Path) -> dict[str, Any]:
    """Decompose and score one case; a run of the same training code that was stopped goes on, and one that is finished is scored anew.

    Args:
        case: What to do.
        folder: Where each case has its run folder.

    Returns:
        The record, which is also written into the run folder: the case, whether every line passed, each line's value, bar, oracle
        and nulls, the toy's checks, baselines where the toy has hidden units, CPU-seconds and peak memory.

    Raises:
        Stopped: It was asked to stop; the state is saved.
        UserError: See `decompose`.
    """
    toy, run, began = toy_of(case), folder / case.name, time.monotonic()
    code = code_of(toy)
    # A control is spoilt by this room's own code, so its run counts for that as well.
    trained_by = code if case.control else training_code_of(toy)
    mark = folder / f"{case.name}.code"
    if not mark.exists() or mark.read_text(encoding="utf-8") != trained_by:
        shutil.rmtree(run, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    mark.write_text(trained_by, encoding="utf-8")
    control = control_named(case.control) if case.control else None
    target = control.target(toy) if control else toy.target()
    config = resolve(case.toy, file={"target": dict(toy.tree())}, overrides=[*case.overrides, f"seed={case.seed}"])
    if control:
        config = control.config(config)
    finished = is_finished(run)
    result = _decomposition(target, config, run, control.stop_at if control else None)
    card = scorecard(result)
    record = {
        "case": case.tree(),
        "code": code,
        "passed": card.passed,
        "failed_lines": [line.key for line in card.failures],
        "lines": {line.key: _line(line) for line in card.lines},
        "checks": [
            {"name": check.name, "value": check.value, "low": check.low, "high": check.high, "passed": check.passed}
            for check in toy.checks(target.module)
        ],
        "baselines": {} if control else _baselines(toy, target),
        "steps": result.step,
        "cpu_seconds": round(cpu_seconds() + _earlier_cpu_seconds(run, finished), 1),
        "wall_seconds": round(time.monotonic() - began, 1),
        "peak_memory_mb": round(peak_memory_mb(), 1),
    }
    write_json(run / "scorecard.json", card.tree())
    write_json(run / RECORD, record)
    return record


def _decomposition(target: Target, config: DecomposeConfig, run: Path, stop_at: float | None) -> Decomposition:
    """Decompose, go on with what was begun, or read what is finished; a control that is stopped early is quick and kept in memory."""
    if stop_at is not None:
        training = prepare(target, config)
        train(training, target, config, Watch(lambda step, metrics: None, lambda state: None, lambda: False), round(stop_at * config.steps))
        return Decomposition(target, config, training.model.eval(), training.function.eval(), training.step)
    if is_finished(run):
        return Decomposition.from_pretrained(run, target)
    return decompose(target, config, run, resume=(run / CONFIG_FILE).exists())


def _baselines(toy: Toy, target: Target) -> dict[str, float]:
    """Return the ARI of each method that sorts hidden units, where the toy has a layer of them with planted modules."""
    if toy.hidden_sites is None:
        return {}
    return {method: found.ari for method, found in baseline_scores(target, *toy.hidden_sites).agreement.items()}


def _line(line: Line) -> dict[str, Any]:
    """Keep of a line what tables need."""
    return {
        "title": line.title,
        **asdict(line.value),
        "bar": None if line.bar is None else str(line.bar),
        "passed": line.passed,
        "oracle": line.oracle,
        "nulls": dict(line.nulls),
        "failing_nulls": line.failing_nulls,
    }


def _earlier_cpu_seconds(run: Path, finished: bool) -> float:
    """Return what earlier sessions spent on the run."""
    if not (run / "env.json").exists():
        return 0.0
    cost = json.loads((run / "env.json").read_text(encoding="utf-8"))["cost"]
    return float(cost["cpu_seconds"] if finished else cost["earlier_cpu_seconds"])
