"""How is a toy's planted truth printed, and what a sceptic asks of it?"""

from __future__ import annotations

from typing import Any

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

NEEDED = {"per_feature": "each by its own feature", "always_on": "by every active input", "sparse": "where the model uses it"}
MOST_NAMED = 8
LEAST_TABLE = 12  # more features than this are summed up


def truth_table(rows: list[dict[str, Any]]) -> Table:
    """Return one row per toy: what is planted where, and what it teaches."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_lines=True)
    for name in ("target", "planted truth", "carries over to language models"):
        table.add_column(name, no_wrap=name == "target", ratio=None if name == "target" else 3 if name == "planted truth" else 2)
    for row in rows:
        marks = ["negative control"] * row["negative_control"] + ["not trained yet"] * (row["weights"] == "missing")
        name = Text.assemble((row["name"], "bold"), *((f"\n{mark}", "dim") for mark in marks))
        about = Text(row["planted"])
        for site in row["sites"]:
            about.append(f"\n{_site(site)}", "dim")
        if row["modules"]:
            about.append(f"\n{len(row['modules'])} modules: {_names(sorted(row['modules'], key=_natural))}")
        for merged in row["unresolvable"]:
            about.append(f"\nnot to be told apart: {_names(merged)}")
        table.add_row(name, about, Text(row["lesson"], "italic"))
    return table


def _site(site: dict[str, Any]) -> str:
    if not site["pieces"]:
        return f"{site['path']}: nothing planted"
    basis = ", in any basis of each module" if site["any_basis"] else ""
    return f"{site['path']} {site['d_in']} → {site['d_out']}: {site['pieces']} pieces, needed {NEEDED[site['pattern']]}{basis}"


def _natural(name: str) -> tuple[int, str]:
    return len(name), name  # so that module 10 comes after module 9


def _names(names: list[str]) -> str:
    more = f" … and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more


def checks_table(checks: list[dict[str, Any]]) -> Table:
    """Return one row per check of whether the planted truth is real."""
    table = _table(("is it real?", "left"), ("measured", "right"), ("must be", "left"), ("else", "left"))
    for check in checks:
        mark = Text("✓ ", "green") if check["passed"] else Text("✗ ", "red")
        table.add_row(mark + Text(check["name"]), number(check["value"]), limits(check["low"], check["high"]), check["why"])
    return table


def panel_tables(panel: dict[str, Any]) -> list[RenderableType]:
    """Return the sceptic's panel in numbers."""
    found: list[RenderableType] = [_per_feature(panel)]
    if panel["loss_by_active"]:
        found.append(_by_active(panel))
    if panel["responses"]:
        found.append(_responses(panel))
    if panel["cross_terms"]:
        found.append(Text(f"\n{cross_text(panel)}"))
    found += [Text(note, "dim") for note in panel["notes"]]
    return found


def _table(*columns: tuple[str, Any]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name, justify in columns:
        table.add_column(name, justify=justify)
    return table


def _per_feature(panel: dict[str, Any]) -> Table:
    """List few features each, many by their smallest, middle and largest loss."""
    table = _table((f"loss by {panel['word']}", "left"), ("model", "right"), ("naive", "right"), ("oracle", "right"))
    table.caption = panel["unit"]
    columns = [panel[f"{kind}_per_feature"] for kind in ("loss", "naive", "oracle")]
    names, n = panel["features"], len(panel["features"])
    order = sorted(range(n), key=columns[0].__getitem__)
    shown = [(names[i], i) for i in range(n)]
    if n > LEAST_TABLE:
        shown = [(f"{word} ({names[i]})", i) for word, i in (("smallest", order[0]), ("middle", order[n // 2]), ("largest", order[-1]))]
    for name, i in shown:
        table.add_row(name, *(number(column[i]) for column in columns))
    table.add_row(f"mean of {n}", *(number(sum(column) / n) for column in columns), style="bold")
    return table


def _by_active(panel: dict[str, Any]) -> Table:
    table = _table(
        (panel["count_word"], "right"), ("model", "right"), ("±", "right"), ("naive", "right"), ("oracle", "right"), ("inputs", "right")
    )
    for row in [*panel["loss_by_active"], panel["on_data"]]:
        count = "all data" if row["count"] is None else str(row["count"])
        losses = [number(row[key]) for key in ("loss", "error", "naive", "oracle")]
        table.add_row(count, *losses, f"{row['n']:,}", style="bold" if row["count"] is None else None)
    return table


def _responses(panel: dict[str, Any]) -> Table:
    """Give the responses at three values: the lowest, the middle and the highest."""
    table = _table(
        ("response", "left"), ("value", "right"), ("wanted", "right"), ("alone", "right"), ("with others: mean (10–90 %)", "right")
    )
    for response in panel["responses"]:
        last = len(response["values"]) - 1
        for place in dict.fromkeys((0, last // 2, last)):
            others = "never in company"
            if response["others_mean"] is not None:
                mean, low, high = (number(response[f"others_{key}"][place]) for key in ("mean", "low", "high"))
                others = f"{mean} ({low} – {high})"
            name = f"{response['label']} {panel['word']} {panel['features'][response['feature']]}" if place == 0 else ""
            table.add_row(name, *(number(response[key][place]) for key in ("values", "wanted", "alone")), others)
    return table


def cross_text(panel: dict[str, Any]) -> str:
    """Say in a sentence how large the cross-terms are."""
    pairs = [
        (value, wanted, i, j)
        for i, (row, right) in enumerate(zip(panel["cross_terms"], panel["wanted_cross_terms"], strict=True))
        for j, (value, wanted) in enumerate(zip(row, right, strict=True))
        if i < j
    ]
    if not pairs:
        return "Cross-terms: there is only one feature."
    value, _, i, j = max(pairs)
    first, second = (panel["features"][panel["cross_features"][place]] for place in (i, j))
    mean, right = (sum(pair[side] for pair in pairs) / len(pairs) for side in (0, 1))
    return (
        f"Cross-terms |f(i, j) − f(i) − f(j) + f()|: mean {number(mean)}, largest {number(value)} ({first} with {second}), "
        f"where {number(right)} is wanted on average; {len(pairs):,} pairs."
    )


def limits(low: float | None, high: float | None) -> str:
    """Write what a value must be."""
    if low is not None and high is not None:
        return f"{number(low)} – {number(high)}"
    return f"≥ {number(low)}" if low is not None else f"≤ {number(high)}" if high is not None else "anything"


def number(value: float | None) -> str:
    """Write a number with three significant digits."""
    return "–" if value is None else f"{value:.3g}".replace("-", "−")
