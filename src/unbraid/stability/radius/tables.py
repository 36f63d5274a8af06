"""How are measured radii shown on a terminal? Tables in which every number has its interval, its count and its null beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.table import Table

from unbraid.stability.engine.tables import table_of
from unbraid.stability.radius.summary import TIMES, written

if TYPE_CHECKING:
    from unbraid.stability.radius.result import RadiusResult


def radii_table(result: RadiusResult, threshold: int = 0) -> Table:
    """Return one row per family: how far to a threshold, by default the main one, beside its null, and whether there is a plateau."""
    name, tau, read = result.thresholds[threshold]
    heads = ("family", "rays", "censored", f"median, {result.unit}", "5 %", TIMES, "plateaus")
    table = table_of(f"{result.target}, {result.where}: how far until the answer changes by {name} ({read}: {tau:.3g})", heads)
    for row in (row for row in _with_control(result) if row["threshold"] == name):
        ratio = written(row[TIMES]) if row["null"] else ""
        cells = (written(row["median"]), written(row["5 %"]), ratio, written(row["plateaus"], "{:.0%}"))
        table.add_row(row["family"], str(row["rays"]), str(row["censored"]), *cells)
    table.caption = _caption(result)
    return table


def _with_control(result: RadiusResult) -> list[dict[str, Any]]:
    """Return a row per threshold and family, and those of the untrained model after them, which have no null of their own."""
    control = [] if result.control is None else result.control.rows
    return [*result.rows, *({**row, "family": f"{row['family']}, untrained", "null": None} for row in control)]


def _caption(result: RadiusResult) -> str:
    between = "between two real activations"
    words = [
        f"\\[low, high]: 95 % over {len(result.arrays['radii'])} anchors. Rays were followed to {result.furthest:.4g}; the median {between} is {result.span:.4g}.",
        "Null: 'covariance', or mixtures of the same list. Plateau: half way to the boundary less than a quarter of the threshold is reached (half: linear). '–': undefined, too many censored.",
    ]
    if len(result.units) > 1:
        words.append(
            f"One feature more moves an answer by {result.units['feature']:.3g}; two real ones are {result.units['answers']:.3g} apart."
        )
    if result.floor > 0.1:
        words.append(f"Rounding alone makes {result.floor:.0%} of a threshold.")
    if result.control is None:
        words.append(f"PROVISIONAL: there is no untrained control ({result.why_no_control}).")
    return " ".join(words)


def all_tables(result: RadiusResult) -> list[Table]:
    """Return every table: radii at each threshold, boundaries, exponents, nearest boundary, gains."""
    facts = result.facts()
    radii = [radii_table(result, threshold) for threshold in range(len(result.thresholds))]
    for table in radii[:-1]:
        table.caption = None  # it is the same under each
    found = [*radii, _boundaries(result)]
    if "planes" in facts:
        found.append(_planes(result, facts["planes"]))
    if "mixtures" in facts:
        found.append(_mixtures(result, facts["mixtures"]))
    if "nearest" in facts:
        found.append(_nearest(facts["nearest"]))
    if "gains" in facts:
        control = {} if result.control is None else result.control.facts().get("gains", {})
        found.append(_gains(result, {**facts["gains"], **{f"{name}, untrained": rows for name, rows in control.items()}}))
    return found


def _boundaries(result: RadiusResult) -> Table:
    table = table_of(
        "The boundary at the main threshold",
        ("family", "progress half way", "thickness", "no peak", "normals, same anchor", "other anchors"),
    )
    for row in (row for row in _with_control(result) if row["threshold"] == result.thresholds[0][0]):
        names = ("normals, same anchor", "normals, other anchors")
        thick = (written(row.get("thickness")), f"{row['no peak']} of {row['looked for a peak']}" if "no peak" in row else "")
        table.add_row(row["family"], written(row["halfway"]), *thick, *(written(row[name]) for name in names))
    return table


def _planes(result: RadiusResult, facts: Mapping[str, Any]) -> Table:
    heads = ("family", "p, four quadrants", "planes", "one quadrant alone", "its sign flipped")
    level = "half of the weakest half axis" if result.config.planes_at == "axes" else "the main threshold"
    title = f"Superellipse exponent at {level}: 2 for any quadratic form, above 2 where single directions are privileged"
    table = table_of(title, heads)
    for name in result.families:
        plane = facts[name]
        count = f"{plane['planes'] - plane['undefined']} of {plane['planes']}"
        table.add_row(name, written(plane["p"]), count, written(plane["one quadrant"]), written(plane["sign flipped"]))
    return table


def _mixtures(result: RadiusResult, facts: Mapping[str, Any]) -> Table:
    anchors = len(result.arrays["radii"])
    table = table_of("The same exponent from equal mixtures", ("family", *(f"of {n} directions" for n in result.config.mixtures)))
    for name in result.families:
        cells = (f"{written(row['p'])} ({anchors - row['undefined']} of {anchors})" for row in facts[name])
        table.add_row(name, *cells)
    return table


def _nearest(facts: Mapping[str, Any]) -> Table:
    table = table_of("The nearest boundary that was found", ("threshold", "found, at most", "Fisher radius", "found / Fisher", "undefined"))
    for name, row in facts.items():
        values = (written(row[key]) for key in ("found", "predicted", "found / predicted"))
        table.add_row(name, *values, str(row["undefined"]))
    return table


def _gains(result: RadiusResult, facts: Mapping[str, Any]) -> Table:
    """Return one row per block, since a model may have many."""
    table = table_of(f"Gain κ at {result.config.gain_at * result.furthest:.3g}: below 1 corrects errors", ("stage", *facts))
    for rows in zip(*facts.values(), strict=True):
        table.add_row(str(rows[0]["stage"]), *(written(row["gain"]) for row in rows))
    return table
