"""What does a population of paths give? One object: every curve as it was measured, and what it says with and without each control."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from rich.console import Console
from rich.table import Table
from scipy.stats import rankdata

from unbraid.core.statistics import Estimate, bootstrap_median
from unbraid.drawing.plot_style import Plot, ThemeName
from unbraid.stability.engine.curve import LINEAR_WIDTH, CurveMeasures, measure_curve
from unbraid.stability.engine.stored import read_measurement, save_measurement
from unbraid.stability.engine.tables import table_of
from unbraid.stability.path.config import PathConfig
from unbraid.stability.path.plot import plot_curves
from unbraid.stability.path.sampled import Sampled

KIND = "path"
FIDELITY_BAR = 1e-4
STRAIGHT = 0.01
"""A width this close to a straight way's is one: a curved way of the answer alone moves it by that much."""
LEAST = 3
"""Fewer curves than this give no interval."""


@dataclass(frozen=True)
class Fidelity:
    """How exact the engine is on this model.

    Attributes:
        ends: Largest relative difference of a path's beginning from the model's own answer.
        prefix: Largest relative difference of a run from kept keys and values from one of the whole prompt.
        n: Prompts it was taken over.
    """

    ends: float
    prefix: float
    n: int

    @property
    def passed(self) -> bool:
        """Whether both are as small as rounding."""
        return self.ends < FIDELITY_BAR and self.prefix < FIDELITY_BAR


@dataclass(frozen=True)
class Population:
    """The curves of many pairs under one condition; read-outs by name.

    Attributes:
        t: [pairs, n].
        norms: Norm of the activation, [pairs, n].
        to_start: Distances from the answer at 0, [pairs, n] each.
        to_end: Distances from the answer at 1.
        steps: Distances from point to point, [pairs, n - 1].
        floor: Distance between two runs of the same point, [pairs].
    """

    t: Float[ndarray, "pairs n"]
    norms: Float[ndarray, "pairs n"]
    to_start: Mapping[str, Float[ndarray, "pairs n"]]
    to_end: Mapping[str, Float[ndarray, "pairs n"]]
    steps: Mapping[str, Float[ndarray, "pairs m"]]
    floor: Mapping[str, Float[ndarray, " pairs"]]

    @classmethod
    def of(cls, samples: Sequence[Sampled]) -> Population:
        """Stack the curves of pairs."""

        def stacked(take: Callable[[Sampled], Mapping[str, Any]]) -> dict[str, ndarray]:
            return {name: np.stack([take(one)[name] for one in samples]) for name in take(samples[0])}

        return cls(
            np.stack([one.t for one in samples]),
            np.stack([one.norms for one in samples]),
            stacked(lambda one: one.to_start),
            stacked(lambda one: one.to_end),
            stacked(lambda one: one.steps),
            stacked(lambda one: one.floor),
        )

    @property
    def n(self) -> int:
        """How many pairs."""
        return len(self.t)

    def measures(self, read: str) -> tuple[CurveMeasures, ...]:
        """Return the numbers of every curve of one read-out."""
        columns = (self.t, self.to_start[read], self.to_end[read], self.steps[read], self.floor[read])
        return tuple(measure_curve(t, a, b, s, float(floor)) for t, a, b, s, floor in zip(*columns, strict=True))


def median_of(values: Sequence[float]) -> Estimate | None:
    """Return the median of what is defined, with its interval over pairs; None where too little is."""
    known = [value for value in values if math.isfinite(value)]
    return bootstrap_median(known) if len(known) >= LEAST else None


@dataclass(frozen=True)
class PathResult:
    """How sharply answers change between pairs of activations.

    Attributes:
        target: The name of the model.
        config: The settings.
        place: Where the activation was exchanged.
        read: What is read, where nothing else is said.
        populations: "model" and every control, by name.
        fidelity: How exact the engine is here; None without controls.
    """

    target: str
    config: PathConfig
    place: str
    read: str
    populations: Mapping[str, Population]
    fidelity: Fidelity | None = None

    @property
    def provisional(self) -> bool:
        """Whether controls are missing."""
        return len(self.populations) == 1 or self.fidelity is None

    @cached_property
    def measures(self) -> Mapping[str, tuple[CurveMeasures, ...]]:
        """The numbers of every curve, by condition, of the read-out that counts."""
        return {name: population.measures(self.read) for name, population in self.populations.items()}

    def width(self, condition: str = "model", read: str | None = None) -> Estimate | None:
        """Return the median width with its interval over pairs; None where fewer than three are defined."""
        found = self.measures[condition] if read in (None, self.read) else self.populations[condition].measures(str(read))
        return median_of([one.width for one in found])

    def sharpness(self) -> Estimate | None:
        """Return the median of `1 - w / w₀`, where w₀ is the same pair's width in the untrained model."""
        if "untrained" not in self.measures:
            return None
        pairs = zip(self.measures["model"], self.measures["untrained"], strict=False)
        return median_of([1 - own.width / fresh.width for own, fresh in pairs])

    def paired(self, condition: str) -> Estimate | None:
        """Return the median over pairs of how much wider a curve is under a condition than without it."""
        pairs = zip(self.measures["model"], self.measures[condition], strict=False)
        return median_of([changed.width - own.width for own, changed in pairs])

    def separation_correlation(self) -> tuple[float, int] | None:
        """Return Spearman's correlation of width with how far apart the ends' distributions are, and over how many pairs."""
        if "distribution" not in self.populations["model"].to_start:
            return None
        widths = [one.width for one in self.measures["model"]]
        apart = self.populations["model"].to_start["distribution"][:, -1]
        known = [(w, a) for w, a in zip(widths, apart, strict=True) if math.isfinite(w)]
        if len(known) < LEAST:
            return None
        ranks = rankdata(np.asarray(known), axis=0)
        return float(np.corrcoef(ranks, rowvar=False)[0, 1]), len(known)

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per condition: what was changed, on how many pairs, and the numbers with their intervals."""
        found: list[dict[str, Any]] = []
        for name, measures in self.measures.items():
            known = [one for one in measures if math.isfinite(one.width)]
            width = self.width(name)
            found.append(
                {
                    "condition": name,
                    "pairs": len(measures),
                    "defined": len(known),
                    "width": _tree(width),
                    "wider": None if name == "model" else _tree(self.paired(name)),
                    "t50": _tree(median_of([one.t50 for one in known])),
                    "steadiness": _tree(median_of([one.steadiness for one in measures])),
                    "strict": sum(one.strict for one in measures),
                    "lenient": sum(one.lenient for one in measures),
                    "half_mass": _tree(median_of([one.half_mass for one in measures])),
                    "separation": _tree(median_of([one.separation for one in measures])),
                    "boundaries": _tree(median_of([float(len(one.boundaries)) for one in measures])),
                }
            )
        return found

    def verdict(self) -> str:
        """Say in words what the numbers license, and what they do not."""
        missing = "PROVISIONAL, since no controls were measured and several trivial causes give such curves. " if self.provisional else ""
        return missing + self._said_of_widths()

    def _said_of_widths(self) -> str:
        width = self.width()
        if width is None:
            return "No width is defined on these pairs: the curves turn back, or the ends give the same answer."
        sharper = width.high < LINEAR_WIDTH - STRAIGHT
        head = f"The median width is {_said(width)}; a straight way has {LINEAR_WIDTH}."
        if not sharper:
            return f"{head} There is no plateau to speak of."
        if self.provisional:
            return head
        names = {
            "untrained": "with untrained weights",
            "covariance": "between points that only share mean and covariance",
            "shuffled": "with the coordinates of the ends shuffled",
        }
        changes = {told: self.paired(name) for name, told in names.items() if name in self.measures}
        wider = [told for told, change in changes.items() if change is not None and change.low > 0]
        trivial = [told for told, change in changes.items() if change is not None and change.low <= 0]
        unknown = [told for told, change in changes.items() if change is None]
        parts = [head]
        if trivial:
            parts.append(f"It is no wider {' and '.join(trivial)}, so that it says nothing of what was learned.")
        if wider:
            parts.append(f"It is wider {' and '.join(wider)}.")
        if unknown:
            parts.append(f"Too few pairs have a width {' and '.join(unknown)} to compare.")
        return " ".join(parts)

    def summary(self) -> Table:
        """Return one row per condition."""
        heads = ("condition", "pairs", "defined", "width 10–90 % (95 %)", "wider than the model's", "t50", "steady", "strict, lenient")
        table = table_of(f"{self.target}: the answer ({self.read}) between pairs of activations at {self.place}", heads)
        for row in self.rows():
            numbers = (row["width"], row["wider"])
            table.add_row(
                row["condition"],
                str(row["pairs"]),
                str(row["defined"]),
                *("–" if row["condition"] == "model" and value is None else _written(value) for value in numbers),
                *("–" if row[key] is None else f"{row[key]['value']:.2f}" for key in ("t50", "steadiness")),
                ", ".join(f"{row[key] / row['pairs']:.0%}" for key in ("strict", "lenient")),
            )
        table.caption = self.verdict() + self._notes()
        return table

    def _notes(self) -> str:
        other = [
            f"{name} {_said(width)}"
            for name in self.populations["model"].to_start
            if name != self.read and (width := self.width(read=name))
        ]
        notes = f"\nRead elsewhere: {'; '.join(other)}." if other else ""
        if (sharp := self.sharpness()) is not None:
            notes += f"\nSharpness 1 − w / w₀ against the same pair untrained: {_said(sharp)}."
        if (found := self.separation_correlation()) is not None:
            notes += f"\nSpearman's correlation of width with √JSD between the ends: {found[0]:.2f} (n = {found[1]})."
        if self.fidelity is not None:
            ends, prefix = self.fidelity.ends, self.fidelity.prefix
            mark = "" if self.fidelity.passed else " TOO LARGE: the curves are not to be trusted."
            notes += f"\nEngine against the model's own run: {ends:.1e} at the beginning, {prefix:.1e} from kept keys and values.{mark}"
        return notes

    def show(self) -> None:
        """Show the summary on the terminal or in the notebook."""
        Console().print(self.summary())

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{name}</th>" for name in ("condition", "pairs", "defined", "width"))
        rows = "".join(
            f"<tr><td>{row['condition']}</td><td>{row['pairs']}</td><td>{row['defined']}</td><td>{_written(row['width'])}</td></tr>"
            for row in self.rows()
        )
        return f"<table><caption>{self.target}: {self.verdict()}</caption><tr>{head}</tr>{rows}</table>"

    def plot_curves(self, theme: ThemeName = "light") -> Plot:
        """Show every pair's curve with the controls' beside them, and the width under each condition."""
        return plot_curves(self, theme)

    def tree(self) -> dict[str, Any]:
        """Return everything but the curves as JSON-ready values."""
        correlation = self.separation_correlation()
        return {
            "kind": KIND,
            "target": self.target,
            "config": self.config.tree(),
            "place": self.place,
            "read": self.read,
            "rows": self.rows(),
            "sharpness": _tree(self.sharpness()),
            "widths_elsewhere": {name: _tree(self.width(read=name)) for name in self.populations["model"].to_start if name != self.read},
            "separation_correlation": None if correlation is None else {"spearman": correlation[0], "n": correlation[1]},
            "fidelity": None if self.fidelity is None else {**vars(self.fidelity)},
            "provisional": self.provisional,
            "verdict": self.verdict(),
        }

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write the curves and what follows from them into a folder of its own.

        Raises:
            UserError: The disk is full or the folder cannot be written.
        """
        arrays: dict[str, ndarray] = {}
        for name, population in self.populations.items():
            arrays |= {f"{name}/t": population.t, f"{name}/norms": population.norms}
            for kind in ("to_start", "to_end", "steps", "floor"):
                arrays |= {f"{name}/{kind}/{read}": values for read, values in getattr(population, kind).items()}
        return save_measurement(folder, self.tree(), arrays)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> PathResult:
        """Read a measurement back; summaries are computed from its curves.

        Raises:
            UserError: The folder is missing, unfinished, damaged, or another kind of measurement.
        """
        tree, arrays = read_measurement(folder, KIND)
        populations: dict[str, Population] = {}
        for row in tree["rows"]:
            name = row["condition"]
            kinds = {
                kind: {key.split("/")[2]: values for key, values in arrays.items() if key.startswith(f"{name}/{kind}/")}
                for kind in ("to_start", "to_end", "steps", "floor")
            }
            populations[name] = Population(arrays[f"{name}/t"], arrays[f"{name}/norms"], **kinds)
        config = PathConfig.parse(tree["config"], str(folder))
        fidelity = None if tree["fidelity"] is None else Fidelity(**tree["fidelity"])
        return cls(tree["target"], config, tree["place"], tree["read"], populations, fidelity)


def _tree(value: Estimate | None) -> dict[str, float] | None:
    return None if value is None else {**vars(value)}


def _said(value: Estimate) -> str:
    return f"{value.value:.2f} [{value.low:.2f}, {value.high:.2f}]"


def _written(value: Mapping[str, float] | None) -> str:
    return "undefined" if value is None else f"{value['value']:.2f} [{value['low']:.2f}, {value['high']:.2f}]"
