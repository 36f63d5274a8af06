"""What does measuring radii give? The raw radii of every ray, what they say with intervals and nulls, and a folder of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy import ndarray
from rich.console import Console, Group
from rich.table import Table

from unbraid.stability.engine.stored import read_measurement, save_measurement
from unbraid.stability.radius import summary as say
from unbraid.stability.radius.config import RadiusConfig
from unbraid.stability.radius.survival import Survival
from unbraid.stability.radius.units import Unit

if TYPE_CHECKING:
    from unbraid.drawing.plot_style import Plot, ThemeName

UNTRAINED = "untrained"


@dataclass(frozen=True)
class RadiusResult:
    """How far activations moved before the answer changed.

    Attributes:
        target: The model's name.
        config: The settings.
        place: Where activations were moved.
        turns: Whether radii are degrees, or lengths.
        furthest: How far rays were followed: radii beyond are censored.
        span: Median angle, or distance, between two real activations: the unit in which radii of two models can be compared.
        units: In what it is counted how far answers are apart, and how large that is, a median; see `units`. The first is the main threshold's.
        thresholds: (name, distance, what is read) of each threshold; the first is the main one.
        families: The families of directions.
        nulls: Family → the one that it must be compared with.
        stages: What the gains are of.
        floor: The largest share of a threshold that rounding alone makes.
        arrays: The raw measurements, each beginning with [anchors, families, rays]: "radii" (infinite where censored, NaN where there is no
            ray), "halfway", "normals", "directions", "thickness", "changes"; "nearest" [anchors, thresholds, 2], "mixtures" [anchors,
            families, sizes], "planes" [families, planes, facts].
        control: The same model untrained; None where that was not asked for, or could not be.
        why_no_control: Why there is none.
    """

    target: str
    config: RadiusConfig
    place: str
    turns: bool
    furthest: float
    span: float
    units: Mapping[Unit, float]
    thresholds: tuple[tuple[str, float, str], ...]
    families: tuple[str, ...]
    nulls: Mapping[str, str]
    stages: tuple[str, ...]
    floor: float
    arrays: Mapping[str, ndarray]
    control: RadiusResult | None = None
    why_no_control: str | None = "it was not asked for"

    def beside(self, control: RadiusResult | None, why_not: str | None) -> RadiusResult:
        """Return the same with a control, or with why there is none."""
        return replace(self, control=control, why_no_control=why_not)

    @property
    def where(self) -> str:
        """What was moved, in words: the place, and whether the inputs had noise where that is known."""
        return self.place if self.config.inputs is None else f"{self.place}, {self.config.inputs} inputs"

    @property
    def unit(self) -> str:
        """In what radii are measured."""
        return "degrees" if self.turns else "length"

    def survival(self, family: str, threshold: int = 0) -> Survival:
        """Return the survival curve of a family's radii."""
        return self._survivals[family, threshold]

    @cached_property
    def _survivals(self) -> dict[tuple[str, int], Survival]:
        radii = self.arrays["radii"]
        return {
            (name, t): Survival(radii[:, f, :, t], self.furthest, self.config.seed)
            for f, name in enumerate(self.families)
            for t in range(len(self.thresholds))
        }

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """One row per threshold and family: rays, censored ones, median and 5 % radius, their ratio to the null's, plateaus, thickness, normals."""
        return [self._row(name, t) for t in range(len(self.thresholds)) for name in self.families]

    def _row(self, name: str, t: int) -> dict[str, Any]:
        f, curve, null = self.families.index(name), self.survival(name, t), self.nulls.get(name)
        halfway = self.arrays["halfway"][:, f, :, t]
        row: dict[str, Any] = {
            "threshold": self.thresholds[t][0],
            "family": name,
            "rays": curve.rays,
            "censored": curve.censored,
            "median": say.interval_tree(curve.radius_at(0.5)),
            "5 %": say.interval_tree(curve.radius_at(0.05)),
            "null": null,
            say.TIMES: say.interval_tree(curve.ratio_to(self.survival(null, t), 0.5)) if null else None,
            "5 % / null's": say.interval_tree(curve.ratio_to(self.survival(null, t), 0.05)) if null else None,
            "halfway": say.interval_tree(say.mean_of(say.per_anchor(halfway))),
            "plateaus": say.interval_tree(say.plateau_share(halfway)),
        }
        if t == 0:
            own, other = say.normal_cosines(self.arrays["normals"][:, f])
            row |= {"normals, same anchor": say.interval_tree(own), "normals, other anchors": say.interval_tree(other)}
        if t == 0 and "thickness" in self.arrays:
            thick = self.arrays["thickness"][:, f]
            found, missing, crossed = say.thickness_facts(thick, self.arrays["radii"][:, f, : thick.shape[1], 0])
            row |= {"thickness": say.interval_tree(found), "no peak": missing, "looked for a peak": crossed}
        return row

    def facts(self) -> dict[str, Any]:
        """Return everything that is said, as JSON-ready values."""
        found: dict[str, Any] = {"radii": self.rows}
        if "planes" in self.arrays:
            found["planes"] = {name: say.plane_facts(self.arrays["planes"][f]) for f, name in enumerate(self.families)}
        if "mixtures" in self.arrays:
            sizes = self.config.mixtures
            found["mixtures"] = {name: say.mixture_facts(self.arrays["mixtures"][:, f], sizes) for f, name in enumerate(self.families)}
        if "nearest" in self.arrays:
            found["nearest"] = {name: say.nearest_facts(self.arrays["nearest"][:, t]) for t, (name, _, _) in enumerate(self.thresholds)}
        if "changes" in self.arrays:
            found["gains"] = {name: say.gain_facts(self.arrays["changes"][:, f], self.stages) for f, name in enumerate(self.families)}
        return found

    def summary(self) -> Table:
        """Return one row per family: how far to the main threshold, beside its null, and whether there is a plateau."""
        from unbraid.stability.radius.tables import radii_table

        return radii_table(self)

    def tables(self) -> list[Table]:
        """Return every table: radii, boundaries, exponents, nearest boundary, gains."""
        from unbraid.stability.radius.tables import all_tables

        return all_tables(self)

    def show(self) -> None:
        """Show every table on the terminal or in the notebook."""
        Console().print(Group(*self.tables()))

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{name}</th>" for name in ("threshold", "family", "rays", "censored", "median", "5 %", "plateaus"))
        body = "".join(
            f"<tr><td>{row['threshold']}</td><td>{row['family']}</td><td>{row['rays']}</td><td>{row['censored']}</td>"
            f"<td>{say.written(row['median'])}</td><td>{say.written(row['5 %'])}</td><td>{say.written(row['plateaus'], '{:.0%}')}</td></tr>"
            for row in self.rows
        )
        return f"<table><caption>{self.target}, {self.where}</caption><tr>{head}</tr>{body}</table>"

    def plot_survival(self, threshold: int = 0, theme: ThemeName = "light") -> Plot:
        """Show which share of rays has not crossed yet at each radius, one curve per family; see `plot_survival`."""
        from unbraid.stability.radius.plot import plot_survival

        return plot_survival(self, threshold, theme)

    def tree(self) -> dict[str, Any]:
        """Return settings and what is said as JSON-ready values."""
        return {
            "kind": "radius",
            "target": self.target,
            "config": self.config.tree(),
            "place": self.place,
            "turns": self.turns,
            "furthest": self.furthest,
            "span": self.span,
            "units": dict(self.units),
            "thresholds": [list(threshold) for threshold in self.thresholds],
            "families": list(self.families),
            "nulls": dict(self.nulls),
            "stages": list(self.stages),
            "floor": self.floor,
            "why_no_control": self.why_no_control,
            "facts": self.facts(),
            UNTRAINED: None if self.control is None else self.control.tree(),
        }

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write the raw radii and what they say, with a manifest; the untrained control lies in a folder inside.

        Raises:
            UserError: The disk is full or the folder cannot be written.
        """
        folder = Path(folder)
        if self.control is not None:
            self.control.save_pretrained(folder / UNTRAINED)
        return save_measurement(folder, self.tree(), self.arrays)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> RadiusResult:
        """Read a measurement back.

        Raises:
            UserError: The folder is missing, unfinished or damaged, or holds another measurement.
        """
        tree, arrays = read_measurement(folder, "radius")
        return cls(
            target=str(tree["target"]),
            config=RadiusConfig.parse(tree["config"], str(folder)),
            place=str(tree["place"]),
            turns=bool(tree["turns"]),
            furthest=float(tree["furthest"]),
            span=float(tree["span"]),
            units={unit: float(size) for unit, size in tree["units"].items()},
            thresholds=tuple((str(name), float(tau), str(read)) for name, tau, read in tree["thresholds"]),
            families=tuple(tree["families"]),
            nulls=dict(tree["nulls"]),
            stages=tuple(tree["stages"]),
            floor=float(tree["floor"]),
            arrays=arrays,
            control=None if tree[UNTRAINED] is None else cls.from_pretrained(Path(folder) / UNTRAINED),
            why_no_control=tree["why_no_control"],
        )
