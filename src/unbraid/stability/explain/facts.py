"""When do parts switch along the paths, and are the active ones enough? The lines of a report, each with its null, from the raw arrays."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy import ndarray
from rich.table import Table

from unbraid.stability.engine.tables import table_of
from unbraid.stability.explain.importance_path import boundaries, cells_of, mean_offset, peak_offset, ranking, shifted_offsets
from unbraid.stability.explain.shares import Interval, mean_of
from unbraid.stability.explain.sufficiency import KINDS
from unbraid.stability.explain.widths import Width, width_of


@dataclass(frozen=True)
class Fact:
    """One line: a mean over pairs, and what it is compared with.

    Attributes:
        question: What was measured.
        value: The mean over pairs.
        against: What it is compared with; empty for nothing.
        null: That number.
        difference: Value minus null, paired over pairs.
    """

    question: str
    value: Interval
    against: str = ""
    null: Interval | None = None
    difference: Interval | None = None


@dataclass(frozen=True)
class Facts:
    """What is said of the paths, line by line, by short names."""

    lines: Mapping[str, Fact]

    def summary(self) -> Table:
        """Return one row per line."""
        heads = ("question", "value", "compared with", "its value", "difference", "n")
        table = table_of("Along the path (means over pairs)", heads, left=("compared with",))
        for fact in self.lines.values():
            null, difference = (
                ("" if value is None else value.text(form)) for value, form in ((fact.null, ".3g"), (fact.difference, "+.3g"))
            )
            table.add_row(fact.question, fact.value.text(".3g"), fact.against, null, difference, str(fact.value.n))
        return table

    def tree(self) -> dict[str, Any]:
        """Return every line as JSON-ready values."""
        return {
            name: {
                "question": fact.question,
                "value": fact.value.tree(),
                "against": fact.against or None,
                "null": None if fact.null is None else fact.null.tree(),
                "difference": None if fact.difference is None else fact.difference.tree(),
            }
            for name, fact in self.lines.items()
        }


def facts_of(arrays: Mapping[str, ndarray], widths: Sequence[Width], threshold: float) -> Facts:
    """Return the lines from the raw arrays of all pairs."""
    t = arrays["t"]
    return Facts(_switching(arrays, widths, threshold, t) | _disagreement(arrays, threshold, t) | _enough(arrays, widths, t))


def _compared(question: str, values: Sequence[float] | ndarray, against: str, null: Sequence[float] | ndarray) -> Fact:
    value, other = np.asarray(values, dtype=float), np.asarray(null, dtype=float)
    return Fact(question, mean_of(value), against, mean_of(other), mean_of(value - other))


def _switching(arrays: Mapping[str, ndarray], widths: Sequence[Width], threshold: float, t: ndarray) -> dict[str, Fact]:
    """Return where and how often parts switch."""
    density = arrays["jaccard"]
    active = [arrays[f"importance.{pair}"] > threshold for pair in range(len(density))]
    switches = np.asarray([(on[:-1] != on[1:]).sum() for on in active], dtype=float)
    cells = [cells_of(on, t, width.t10, width.t90) for on, width in zip(active, widths, strict=True)]
    jumps = np.asarray([boundaries(speed) for speed in arrays["speed"]], dtype=float)
    lines: dict[str, Fact] = {
        "active": Fact("components active at a point", mean_of(arrays["active"].mean(1).astype(float))),
        "ever": Fact("components active somewhere on the path", mean_of(np.asarray([on.shape[1] for on in active], dtype=float))),
    }
    for name, offset, words in (
        ("peak", peak_offset, "highest switch density to t50"),
        ("mean", mean_offset, "switches to t50, on average"),
    ):
        own = [offset(row, t, width.t50) for row, width in zip(density, widths, strict=True)]
        null = [_mean_or_nan(shifted_offsets(offset, row, t, width.t50)) for row, width in zip(density, widths, strict=True)]
        lines[f"{name}_offset"] = _compared(f"distance of the {words}", own, "shifted around the path", null)
    # Switches may lie in the middle of any path, as t50 does: those of one path are compared with the t50 of the others.
    middles = np.asarray([width.t50 for width in widths])
    lines["other_t50"] = _compared(
        "the same",
        [mean_offset(row, t, middle) for row, middle in zip(density, middles, strict=True)],
        "to other pairs' t50",
        [_mean_or_nan(np.asarray([mean_offset(row, t, at) for at in np.delete(middles, pair)])) for pair, row in enumerate(density)],
    )
    gates = arrays["gates"].sum(1)
    lines["switches"] = _compared("switches of components per path", switches, "gate sign flips", gates)
    lines["jumps"] = Fact("jumps of the answer per path (peaks of its speed)", mean_of(jumps))
    lines["coarseness"] = Fact("switches per jump, on paths that have one", mean_of(_ratio(switches, jumps)))
    lines["rate"] = _compared(
        "cell borders per unit of t inside the boundary", [c.inside_rate for c in cells], "in the flats", [c.flat_rate for c in cells]
    )
    lines["cells"] = Fact("importance cells per flat", mean_of(np.asarray([(c.left + c.right) / 2 for c in cells])))
    return lines


def _disagreement(arrays: Mapping[str, ndarray], threshold: float, t: ndarray) -> dict[str, Fact]:
    """Return how well the learned importance says which ablations matter, and how well the active parts rebuild the answer, off and on the ends."""
    learned, effect = arrays["ablation_learned"], arrays["ablation_effect"]
    points = learned.shape[-1]
    ends, inside = [0, points - 1], list(range(points // 3, points - points // 3))
    auc = np.asarray([[ranking(g[:, at], e[:, at], threshold) for at in range(points)] for g, e in zip(learned, effect, strict=True)])
    error = arrays["kept_error"][:, KINDS.index("own")]
    middle = (t > t[-1] / 3) & (t < t[-1] * 2 / 3)
    return {
        "ranking": _compared(
            "importance tells large ablations from small (AUC), inside", _means(auc[:, inside]), "at the ends", _means(auc[:, ends])
        ),
        "rebuilt": _compared(
            "error with only the active parts, inside (of the ends' distance)",
            error[:, middle].mean(1),
            "at the ends",
            error[:, [0, -1]].mean(1),
        ),
    }


def _enough(arrays: Mapping[str, ndarray], widths: Sequence[Width], t: ndarray) -> dict[str, Fact]:
    """Return whether the active parts of each flat rebuild it, and whether those of one flat delete the other."""
    toward, curves = arrays["kept_toward"], arrays["kept_curve"]
    kind = {name: index for index, name in enumerate(KINDS)}

    def flats(name: str) -> list[float]:
        found: list[float] = []
        for pair, width in enumerate(widths):
            here = (t <= width.t10) | (t >= width.t90) if math.isfinite(width.value) else np.zeros(len(t), dtype=bool)
            off = np.abs(toward[pair, kind[name]] - arrays["curves"][pair, 0])[here]
            found.append(float(off.mean()) if len(off) else math.nan)
        return found

    # At the one end with its own active set, and with that of the other end: 1 is the end's own answer, 0 the other end's.
    own = (toward[:, kind["right"], -1] + 1 - toward[:, kind["left"], 0]) / 2
    swapped = (toward[:, kind["left"], -1] + 1 - toward[:, kind["right"], 0]) / 2
    chance = (toward[:, kind["random"], -1] + 1 - toward[:, kind["random"], 0]) / 2
    left = [1 - width_of(t, curve).t90 for curve in curves[:, kind["left"]]]
    return {
        "flats": _compared(
            "flats rebuilt by their end's active parts: mean error of the curve", flats("switched"), "random parts", flats("random")
        ),
        "arrival": _compared(
            "answer at an end with its own active parts (1: its own, 0: the other end's)", own, "the other end's parts", swapped
        ),
        "arrival_random": _compared("the same", own, "random parts", chance),
        "second_flat": _compared(
            "right flat with the left end's parts alone", left, "of the whole model", [1 - width.t90 for width in widths]
        ),
    }


def _ratio(above: ndarray, below: ndarray) -> ndarray:
    return np.where(below > 0, above / np.maximum(below, 1), math.nan)


def _means(rows: ndarray) -> ndarray:
    return np.asarray([_mean_or_nan(row) for row in rows])


def _mean_or_nan(values: ndarray) -> float:
    seen = values[np.isfinite(values)]
    return float(seen.mean()) if len(seen) else math.nan
