"""How is a verification reported? What was found at how many seeds, which controls failed as they should, gaps, and phase diagrams."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from unbraid.components.plot_phase import draw_phase
from unbraid.core.storage import disk_errors, write_text
from unbraid.drawing import plot_style
from unbraid.drawing.plot_style import THEMES, json_text
from unbraid.report.content import Badge, Cell, Figure, Group, Page, Section, Table, Tone, number
from unbraid.report.html import render
from unbraid.verify.result import Verification
from unbraid.verify.table import Row

PAGE = "verification.html"


def write_verification(folder: Path, result: Verification) -> Path:
    """Write `verification.html` and `figures/` into a folder, and return the page's path.

    Raises:
        UserError: The disk is full or the folder cannot be written.
    """
    data = {f"phase-{name}": {"toy": name, **grid} for name, grid in result.phases.items()}
    figures = {name: {theme: plot_style.draw(draw_phase, numbers, theme).svg() for theme in THEMES} for name, numbers in data.items()}
    with disk_errors(folder, "Every run is whole."):
        for name, numbers in data.items():
            write_text(folder / "figures" / f"{name}.svg", figures[name]["light"])
            write_text(folder / "figures" / f"{name}-dark.svg", figures[name]["dark"])
            write_text(folder / "figures" / f"{name}.json", json_text(numbers))
        write_text(folder / PAGE, render(verification_page(result, figures)))
    return folder / PAGE


def verification_page(result: Verification, figures: Mapping[str, Mapping[str, str]]) -> Page:
    """Return the report's content."""
    rows = result.rows
    honest = [row for row in rows if not row.control]
    whole = sum(row.found == row.seeds for row in honest)
    passing = [row for row in result.controls if not row["fails_as_it_should"]] + [row for row in rows if row.control and row.found]
    lead = (
        f"{whole} of {len(honest)} toys and variants were found at every seed that was run; "
        f"{sum(row.found for row in honest)} of {sum(row.seeds for row in honest)} runs pass every line. "
        + ("Every negative control fails, as it should." if not passing else f"{len(passing)} negative controls pass, which they must not.")
    )
    sections = [
        Section("toys", "What was found", (_toys(rows),)),
        Section("gaps", "The same function in other coordinates", (_gaps(result),)),
        Section("controls", "Negative controls", (_controls(result),)),
        Section("phases", "Phase diagrams", tuple(_phase(name, svg) for name, svg in figures.items())),
    ]
    time = str(result.provenance.get("time", ""))
    return Page(
        kicker="Verification",
        title="Was the planted truth found?",
        badge=Badge(f"{whole} of {len(honest)} found at every seed", whole == len(honest) and not passing),
        lead=lead,
        facts=(("measured", time), ("runs", str(len(result.records)))),
        sections=tuple(section for section in sections if any(not isinstance(b, Table) or b.groups for b in section.blocks)),
        footer="Written by unbraid. Every number is in verification.json; each case has a run folder beside it.",
    )


def _toys(rows: list[Row]) -> Table:
    def cells(row: Row) -> tuple[Cell, ...]:
        good = (row.found == 0) if row.control else row.found == row.seeds
        tone: Tone = "good" if good else "bad" if row.found == 0 or row.control else "warn"
        note = "must not be found" if row.control else ""
        return (
            Cell(row.title, note=note),
            Cell(f"{row.found} of {row.seeds}", tone=tone),
            _score(row, "piece_cosine"),
            _score(row, "piece_coverage"),
            _score(row, "module_ari"),
            Cell(f"{row.cpu_seconds:.0f}"),
            Cell(", ".join(row.missed[:4]) + (" …" if len(row.missed) > 4 else ""), tip=", ".join(row.missed)),
        )

    columns = ("toy", "found", "piece cosine", "pieces matched", "module ARI", "CPU-s", "lines missed at some seed")
    caption = "Mean over seeds, with its 95 % interval over seeds below; found: every line of the scorecard passes."
    return Table(columns, (Group("", tuple(cells(row) for row in rows)),), frozenset({2, 3, 4, 5}), caption)


def _score(row: Row, key: str) -> Cell:
    if key not in row.scores:
        return Cell("–", tone="quiet")
    score = row.scores[key]
    return Cell(number(score.value), note="" if score.low == score.high else f"{number(score.low)} – {number(score.high)}")


def _gaps(result: Verification) -> Table:
    rows = tuple(
        (Cell(gap["toy"]), Cell(gap["variant"]), Cell(method), Cell(number(value), tone="good" if abs(value) <= 0.02 else "bad"))
        for gap in result.gaps
        for method, value in {**{f"unbraid, {key}": v for key, v in gap["gap"].items()}, **gap["baseline_gap"]}.items()
    )
    caption = "Score in the toy's own coordinates minus score in the others. A method that sees the function has a gap of 0."
    return Table(("toy", "coordinates", "method and score", "gap"), (Group("", rows),) if rows else (), frozenset({3}), caption)


def _controls(result: Verification) -> Table:
    rows = tuple(
        (
            Cell(row["toy"]),
            Cell(row["control"], note=row["why"]),
            Cell("fails" if row["fails_as_it_should"] else "passes", tone="good" if row["fails_as_it_should"] else "bad"),
            Cell(", ".join(row["noticed"][:5]), tip=", ".join(row["failed"])),
        )
        for row in result.controls
    )
    return Table(("toy", "spoilt", "scorecard", "by these of the lines that should notice"), (Group("", rows),) if rows else ())


def _phase(name: str, svg: Mapping[str, str]) -> Figure:
    toy = name.removeprefix("phase-")
    return Figure(
        name,
        f"{toy}: where are the modules found?",
        "One run per cell, seed 0; baselines beside ours.",
        f"Phase diagram of {toy}",
        svg,
    )
