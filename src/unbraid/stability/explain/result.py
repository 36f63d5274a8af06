"""What does `explain` give? One object: the plateau's shares with their nulls, when parts switch, whether the active parts are enough, and its folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import ndarray
from rich.console import Console
from rich.table import Table

from unbraid.stability.engine.stored import read_measurement, save_measurement
from unbraid.stability.engine.tables import table_of
from unbraid.stability.explain.config import ExplainConfig
from unbraid.stability.explain.facts import Facts, facts_of
from unbraid.stability.explain.share_rows import Share, Shares
from unbraid.stability.explain.shares import mean_of

if TYPE_CHECKING:
    from unbraid.drawing.plot_style import Plot, ThemeName

SHOWN = 8
"""So many single components are listed."""

LEAST = 1e-3
"""A widening under this is rounding."""


@dataclass(frozen=True)
class ExplainResult:
    """Which parts build the plateaus of some pairs.

    Attributes:
        target: The name of the target.
        config: The settings.
        place: Where the activation was exchanged.
        sets: The names of the sets that were removed, as the second axis of `arrays["curves"]` has them after the model's own curve.
        parts: The name of every part.
        arrays: The raw curves; see `measure_pair`.
    """

    target: str
    config: ExplainConfig
    place: str
    sets: tuple[str, ...]
    parts: tuple[str, ...]
    arrays: Mapping[str, ndarray]

    @cached_property
    def shares(self) -> Shares:
        """What each set of parts and each single component builds of the plateau."""
        return Shares(self.arrays, self.sets)

    @cached_property
    def facts(self) -> Facts:
        """When parts switch along the path, and whether the active ones are enough."""
        return facts_of(self.arrays, self.shares.widths, self.config.threshold)

    def summary(self) -> Table:
        """Return one row per set of parts: its share of the plateau, those of random sets, and whether it builds more than they do."""
        shares = self.shares
        heads = ("without", "parts", "share of the plateau", "random, equal size", "random, equal norms", "beats them", "n")
        table = table_of(f"{self.target}: what builds the plateaus from {self.place}, {shares.pairs} pairs", heads)
        for row in shares.rows:
            table.add_row(*_cells(row.name, row))
        if shares.fair:
            table.add_section()
        for row in shares.fair:
            table.add_row(*_cells(f"{row.name}, over all orders", row))
        table.add_section()
        for single in shares.singles[:SHOWN]:
            table.add_row(self.parts[single.part], "1", single.share.text(), "", "", "", str(single.share.n))
        table.caption = "\n".join(self.notes())
        return table

    def notes(self) -> list[str]:
        """Return what has to be said beside the shares: what there is to share out, what they leave of 1, what is undefined."""
        shares = self.shares
        defined = int(np.isfinite(shares.whole).sum())
        notes = [
            f"Width {mean_of(shares.whole).text('.3f')}, defined on {defined} of {shares.pairs} pairs; a straight line has 0.8."
            f" Without any part it is wider by {shares.widening.text('+.3f')}."
        ]
        if shares.pairs < self.config.pairs:
            notes.append(f"{self.config.pairs - shares.pairs} of the pairs drawn have the same activation at both ends, and are left out.")
        if not shares.widening.low > LEAST:
            notes.append(
                "Nothing says that the model's parts make the change narrower: there is no plateau to share out, and no share means anything."
            )
        if shares.silent.any():
            notes.append(f"Without any part the model has one answer throughout on {shares.silent.sum()} pairs; 0.8 stands for that width.")
        notes += [f"What the shares of {way} leave of 1: {left.text()} (n = {left.n})." for way, left in shares.residuals.items()]
        notes.append(
            f"Single components: the {SHOWN} that widen most, of {len(shares.singles)}; n is on how many pairs each is active."
            " Chosen on these same pairs, they look larger than they are."
        )
        return notes

    def show(self) -> None:
        """Show the tables on the terminal or in the notebook."""
        Console().print(self.summary(), self.facts.summary())

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><td>{row.name}</td><td>{row.parts:.0f}</td><td>{row.share.text()}</td></tr>" for row in self.shares.rows)
        head = "".join(f"<th>{name}</th>" for name in ("without", "parts", "share of the plateau"))
        return f"<table><caption>{self.target} from {self.place}: {' '.join(self.notes())}</caption><tr>{head}</tr>{rows}</table>"

    def tree(self) -> dict[str, Any]:
        """Return every summary as JSON-ready values; what is undefined is null."""
        shares = self.shares
        return {
            "kind": "explain",
            "target": self.target,
            "place": self.place,
            "config": self.config.tree(),
            "pairs": shares.pairs,
            "width": mean_of(shares.whole).tree(),
            "widening": shares.widening.tree(),
            "silent": int(shares.silent.sum()),
            "shares": [row.tree() for row in shares.rows],
            "fair": [row.tree() for row in shares.fair],
            "singles": [{"part": self.parts[single.part], "share": single.share.tree()} for single in shares.singles],
            "residuals": {way: left.tree() for way, left in shares.residuals.items()},
            "facts": self.facts.tree(),
        }

    def plot_shares(self, theme: ThemeName = "light") -> Plot:
        """Show the share of each set as a bar, with the band of random sets; see `plot_shares`."""
        from unbraid.stability.explain.plot import plot_shares

        return plot_shares(self, theme)

    def plot_importance_path(self, pair: int = 0, theme: ThemeName = "light") -> Plot:
        """Show one pair's importances along the path under its answer's curve; see `plot_importance_path`."""
        from unbraid.stability.explain.plot_importance_path import plot_importance_path

        return plot_importance_path(self, pair, theme)

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write the raw curves and the settings into a folder of their own.

        Raises:
            UserError: The disk is full or the folder cannot be written.
        """
        return save_measurement(folder, {**self.tree(), "sets": list(self.sets), "parts": list(self.parts)}, self.arrays)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> ExplainResult:
        """Read a result back.

        Raises:
            UserError: The folder is missing, unfinished or damaged, or holds another measurement.
        """
        tree, arrays = read_measurement(folder, "explain")
        config = ExplainConfig.parse(tree["config"], str(folder))
        return cls(str(tree["target"]), config, str(tree["place"]), tuple(tree["sets"]), tuple(tree["parts"]), arrays)


def _cells(name: str, row: Share) -> list[str]:
    """Return a row of the summary."""
    chance = [("–" if value is None else value.text()) for value in (row.size, row.norm)]
    beats = {None: "–", True: "yes", False: "no"}[row.beats_null]
    return [name, f"{row.parts:.0f}", row.share.text(), *chance, beats, str(row.share.n)]
