"""Is the planted truth found, at every seed, on every toy? Runs `unbraid verify` on all of them and writes recovery.json and the tables of the docs.

Interrupt it and run it again: finished cases of the same code are taken over, and an unfinished run goes on.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.runs import ROOT, provenance, write_between
from unbraid.core.errors import UserError
from unbraid.decompose.verb import Stopped
from unbraid.targets.toy import toys
from unbraid.verify.case import cases
from unbraid.verify.result import Verification
from unbraid.verify.run import known_record
from unbraid.verify.table import Row
from unbraid.verify.verb import VerifyConfig, verify

RESULT, README, DOCS = ROOT / "benchmarks" / "recovery.json", ROOT / "README.md", ROOT / "docs" / "proving-ground.md"


def main() -> None:
    """Run what is missing and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=[])
    parser.add_argument("--seeds", type=int, default=None)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--no-phases", action="store_true", help="leave the phase diagrams out")
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "verify")
    parser.add_argument("--tables-only", action="store_true", help="measure nothing; write the tables from the file that is there")
    parser.add_argument("--as-is", action="store_true", help="run nothing; write what is finished in the folder, and say what is missing")
    arguments = parser.parse_args()
    if not arguments.tables_only:
        config = VerifyConfig(seeds=arguments.seeds, jobs=arguments.jobs, phases=not arguments.no_phases)
        try:
            if arguments.as_is:
                result, missing = finished(arguments.names, config, arguments.folder)
            else:
                result, missing = verify(arguments.names, config, arguments.folder, report=_say), []
        except Stopped as stop:
            print("Stopped; finished cases and the states of running ones are kept. Type the same command again to go on.")
            raise SystemExit(128 + (stop.signal or 2)) from None
        except UserError as error:
            raise SystemExit(str(error)) from None
        tree = {**result.tree(), **provenance(), "skipped": [*skipped(arguments.names), *missing]}
        RESULT.write_text(with_runs_on_lines(tree), encoding="utf-8")
    tree = json.loads(RESULT.read_text(encoding="utf-8"))
    write_tables(Verification.read(RESULT), tree)
    print(f"Wrote {RESULT.relative_to(ROOT)} and the tables in {README.name} and docs/{DOCS.name}.")


def with_runs_on_lines(tree: dict[str, Any]) -> str:
    """Write JSON in which each run is one line, so that a change of one run is a change of one line."""
    head = json.dumps({key: value for key, value in tree.items() if key != "runs"}, indent=1)
    return head.removesuffix("\n}") + ',\n "runs": [\n' + ",\n".join(json.dumps(run) for run in tree["runs"]) + "\n ]\n}\n"


def finished(names: list[str], config: VerifyConfig, folder: Path) -> tuple[Verification, list[str]]:
    """Return what has been measured so far with this very code, and what has not."""
    records: list[dict[str, Any]] = []
    missing: dict[str, list[int]] = {}
    for case in cases(names, config.seeds, config.first_seed, config.controls, config.phases, config.overrides):
        record = known_record(case, folder)
        if record is not None:
            records.append(record)
        else:
            what = f"the phase diagram of {case.toy}" if case.phase else " ".join(part for part in (case.title, case.control) if part)
            missing.setdefault(what, []).append(case.seed)
    told = [what if what.startswith("the phase") else f"{what} (seeds {', '.join(map(str, seeds))})" for what, seeds in missing.items()]
    return Verification(tuple(records), provenance()), told


def skipped(names: list[str]) -> list[str]:
    """Return the toys that were not measured."""
    return sorted(set(toys.kinds()) - set(names)) if names else []


def _say(record: dict[str, Any], done: int, count: int) -> None:
    case = record["case"]
    title = " ".join(str(part) for part in (case["toy"], case["variant"], case["control"]) if part)
    verdict = "found" if record["passed"] else f"misses {', '.join(record['failed_lines'][:6])}"
    print(f"[{done}/{count}] {title} seed {case['seed']}: {record['cpu_seconds']:.0f} CPU-s, {verdict}", flush=True)


def write_tables(result: Verification, tree: dict[str, Any]) -> None:
    """Write every table between its marks."""
    write_between(README, "recovery", f"{toy_table(result)}\n\n{source(tree)}")
    write_between(README, "controls", control_table(result))
    write_between(DOCS, "toys", f"{toy_table(result)}\n\n{source(tree)}")
    write_between(DOCS, "gaps", gap_table(result))
    write_between(DOCS, "controls", control_table(result))
    write_between(DOCS, "phases", phase_tables(result))
    write_between(DOCS, "checks", check_table(result))


def source(tree: dict[str, Any]) -> str:
    """Say where the numbers come from."""
    environment = tree["environment"]
    left_out = f" Not measured: {', '.join(tree['skipped'])}." if tree.get("skipped") else ""
    return (
        f"Mean over seeds, with its 95 % bootstrap interval over seeds; found: every line of the scorecard passes. Measured {tree['time']} at "
        f"commit {tree['commit'][:10]}, torch {environment['versions']['torch']}, one thread, {environment['system']}.{left_out}"
    )


def toy_table(result: Verification) -> str:
    """Write one row per toy and variant."""
    rows = [
        "| toy | found | pieces matched | piece cosine | identity error | dense error | module ARI | lost to a 20-step adversary (truth itself) | CPU-seconds | missed at some seed |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in result.rows:
        oracle = [record["lines"]["pgd_20"]["oracle"] for record in result.records if record["case"]["toy"] == row.toy]
        known = f" ({oracle[0]:.3f})" if oracle and oracle[0] is not None else ""
        cells = [
            row.title + (" (must not be found)" if row.control else ""),
            f"{row.found} of {row.seeds}",
            row.cell("piece_coverage"),
            row.cell("piece_cosine"),
            _errors(row.worst.get("identity_error")) + _worst_site(row),
            _errors(row.worst.get("dense_error")),
            row.cell("module_ari"),
            row.cell("pgd_20") + known,
            f"{row.cpu_seconds:.0f}",
            ", ".join(row.missed[:5]) + (" …" if len(row.missed) > 5 else ""),
        ]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def _errors(values: Any) -> str:
    return "–" if not values else "–".join(dict.fromkeys(f"{end:.0f}" for end in (min(values), max(values))))


def _worst_site(row: Row) -> str:
    """Say how many of a toy's wrong entries stand in one matrix at most, where it has several."""
    sites = [value for key, values in row.worst.items() if key.startswith("identity_error/") for value in values]
    return f" (≤ {max(sites):.0f} in one matrix)" if sites else ""


def gap_table(result: Verification) -> str:
    """Write how far scores fall in other coordinates of the same function, ours and the baselines'."""
    rows = ["| toy, coordinates | method | score in its own coordinates | in the others | gap |", "|---|---|---|---|---|"]
    by_title = {row.title: row for row in result.rows}
    for gap in result.gaps:
        own, other = by_title[gap["toy"]], by_title[f"{gap['toy']}, {gap['variant']}"]
        for key, value in gap["gap"].items():
            rows.append(f"| {other.title} | unbraid, {key} | {own.cell(key)} | {other.cell(key)} | {value:.3f} |")
        for method, value in gap["baseline_gap"].items():
            first, second = _mean(own.baselines[method]), _mean(other.baselines[method])
            rows.append(f"| {other.title} | {method}, ARI of hidden units | {first:.3f} | {second:.3f} | {value:.3f} |")
    return "\n".join(rows)


def _mean(values: Any) -> float:
    return sum(values) / len(values)


def control_table(result: Verification) -> str:
    """Write which negative controls fail, and on which lines."""
    rows = ["| toy | what was spoilt | fails as it should | lines that noticed |", "|---|---|---|---|"]
    for row in result.controls:
        lines = ", ".join(row["noticed"][:6]) + (" …" if len(row["noticed"]) > 6 else "")
        rows.append(f"| {row['toy']} | {row['control']} | {'yes' if row['fails_as_it_should'] else '**no**'} | {lines} |")
    for row in result.rows:
        if row.control:
            verdict = "yes" if row.found == 0 else "**no**"
            rows.append(f"| {row.title} | the claimed truth is false | {verdict} | {', '.join(row.missed[:6])} |")
    return "\n".join(rows)


def phase_tables(result: Verification) -> str:
    """Write each phase diagram as tables, one per score."""
    parts: list[str] = []
    for name, grid in result.phases.items():
        for score, values in grid["scores"].items():
            head = " | ".join(f"{grid['column_knob']} {column}" for column in grid["columns"])
            lines = [f"{name}, {score}:", "", f"| {grid['row_knob']} | {head} |", "|" + "---|" * (len(grid["columns"]) + 1)]
            lines += [
                f"| {row} | " + " | ".join("–" if value is None else f"{value:.2f}" for value in of_row) + " |"
                for row, of_row in zip(grid["rows"], values, strict=True)
            ]
            parts.append("\n".join(lines))
    return "\n\n".join(parts)


def check_table(result: Verification) -> str:
    """Write what each toy was asked before its truth was believed."""
    rows = ["| toy | check | value | asked for | passed |", "|---|---|---|---|---|"]
    for row in result.rows:
        record = next(r for r in result.records if (r["case"]["toy"], r["case"]["variant"]) == (row.toy, row.variant))
        for check in record["checks"]:
            low, high = (None if check[end] is None else f"{check[end]:.4g}" for end in ("low", "high"))
            asked = f"{low} – {high}" if low and high else f"≥ {low}" if low else f"≤ {high}" if high else "–"
            rows.append(f"| {row.title} | {check['name']} | {check['value']:.4g} | {asked} | {'yes' if check['passed'] else '**no**'} |")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
