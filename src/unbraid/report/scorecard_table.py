"""How is a scorecard written as a table? Its lines by property, each with value, interval, bar, truth and nulls."""

from __future__ import annotations

from unbraid.decompose.scorecard import MODULE_NULLS, NULLS, Line, Scorecard
from unbraid.report.content import Cell, Group, Table, interval, number

GROUPS = {
    "truth": "Truth: are the planted mechanisms found?",
    "behaviour": "Behaviour: does the model still do what it did?",
    "minimality": "Minimality: does an input need few subcomponents?",
    "faithfulness": "Faithfulness: do they add up to the weights?",
    "modules": "Modules: are the groups of subcomponents the planted modules?",
}
UNTESTED = "no null fails"


def scorecard_table(scorecard: Scorecard) -> Table:
    """Return the whole scorecard, grouped by property; columns that no line fills are left out."""
    has_oracle = any(line.oracle is not None for line in scorecard.lines)
    nulls = [name for name in (*NULLS, *MODULE_NULLS) if any(name in line.nulls for line in scorecard.lines)]
    columns = ("", "line", "value", "95 % interval", "bar", *(["planted truth"] if has_oracle else []), *nulls)
    groups = tuple(
        Group(title, tuple(_row(line, has_oracle, nulls) for line in scorecard.lines if line.group == group))
        for group, title in GROUPS.items()
        if any(line.group == group for line in scorecard.lines)
    )
    caption = (
        "✓ meets its bar, ✗ misses it, · is for reading only. A null is the same number for something that found nothing; "
        "nulls that miss the bar, as they should, are quiet, and those that meet it are marked. "
        f"“{UNTESTED}” means that the line proves nothing by itself here."
    )
    return Table(columns, groups, frozenset(range(2, len(columns))), caption, wide=True)


def _row(line: Line, has_oracle: bool, nulls: list[str]) -> tuple[Cell, ...]:
    mark = {
        True: Cell("✓", tip="meets its bar", tone="good"),
        False: Cell("✗", tip="misses its bar", tone="bad"),
        None: Cell("·", tone="quiet"),
    }
    value, bar = line.value, line.bar
    exact = value.low == value.high
    ends = number(value.low) if exact and value.n > 1 else "exact" if exact else interval(value.low, value.high)
    counted = Cell(ends, f"n = {value.n}" if value.n > 1 else "", tone="quiet" if exact else "")
    untested = bar is not None and bool(line.nulls) and not line.failing_nulls
    title = Cell(line.title, line.note, tip=line.key)
    if untested:
        title = Cell(line.title, f"{line.note} · {UNTESTED}" if line.note else UNTESTED, tip=line.key, tone="warn")
    cells = [
        mark[line.passed],
        title,
        Cell(number(value.value), tone="bad" if line.passed is False else ""),
        counted,
        Cell("" if bar is None else bar_text(line), "" if bar is None else bar.why),
    ]
    if has_oracle:
        cells.append(_compared(line, line.oracle, warn_when_met=False))
    return (*cells, *(_compared(line, line.nulls.get(name), warn_when_met=True) for name in nulls))


def _compared(line: Line, value: float | None, warn_when_met: bool) -> Cell:
    """A number beside the decomposition's own; a null that meets the bar is marked."""
    if value is None:
        return Cell("")
    if warn_when_met and line.bar is not None and line.bar.met_by(value):
        return Cell(number(value), tip="this null meets the bar", tone="warn")
    return Cell(number(value), tone="quiet")


def bar_text(line: Line) -> str:
    """Write a bar with numbers for reading."""
    if line.bar is None:
        return ""
    low, high = (
        None if end is None else number(end) if end != 0 and abs(end) < 1e-3 else f"{end:.3g}" for end in (line.bar.low, line.bar.high)
    )
    if low is not None and high is not None:
        return low if low == high else f"{low} – {high}"
    return f"≥ {low}" if low is not None else f"≤ {high}"
