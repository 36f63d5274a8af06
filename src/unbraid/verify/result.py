"""What does a verification give? Every case's record, put together per toy, as a table and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from unbraid.verify.table import Row, control_rows, invariance_gaps, phase_grids, toy_rows

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Verification:
    """What was found, toy by toy.

    Attributes:
        records: One per case: see `run_case`.
        provenance: Versions, machine and time.
    """

    records: tuple[Record, ...]
    provenance: Mapping[str, Any]

    @property
    def rows(self) -> list[Row]:
        """One row per toy and variant, over its seeds."""
        return toy_rows(self.records)

    @property
    def controls(self) -> list[dict[str, Any]]:
        """One row per negative control: which lines it failed, and whether one of those is among the ones that should notice."""
        return control_rows(self.records)

    @property
    def gaps(self) -> list[dict[str, Any]]:
        """One row per way of writing the same function: how far each score falls there."""
        return invariance_gaps(self.rows)

    @property
    def phases(self) -> dict[str, Any]:
        """Toy → its phase diagram: the knobs, their values, and a grid of each score."""
        return phase_grids(self.records)

    def tree(self) -> dict[str, Any]:
        """Return everything as JSON-ready values."""
        return {
            **self.provenance,
            "toys": [row.tree() for row in self.rows],
            "gaps": self.gaps,
            "controls": self.controls,
            "phases": self.phases,
            "runs": [dict(record) for record in self.records],
        }

    def summary(self) -> Table:
        """Return the table for the terminal."""
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title="Was the planted truth found?", title_justify="left")
        for name, justify in (
            ("toy", "left"),
            ("found", "left"),
            ("pieces", "right"),
            ("modules, ARI", "right"),
            ("CPU-s", "right"),
            ("missed", "left"),
        ):
            table.add_column(name, justify=justify)  # type: ignore[arg-type]
        for row in self.rows:
            found = Text(f"{row.found} of {row.seeds}", "green" if row.found == row.seeds else "bold red" if row.found == 0 else "yellow")
            table.add_row(
                row.title, found, row.cell("piece_cosine"), row.cell("module_ari"), f"{row.cpu_seconds:.0f}", ", ".join(row.missed[:4])
            )
        return table

    def show(self) -> None:
        """Show the table on the terminal or in the notebook."""
        Console().print(self.summary())

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{row.title}</td><td>{row.found} of {row.seeds}</td><td>{row.cell('piece_cosine')}</td>"
            f"<td>{row.cell('module_ari')}</td><td>{row.cpu_seconds:.0f}</td></tr>"
            for row in self.rows
        )
        return f"<table><tr><th>toy</th><th>found</th><th>pieces</th><th>modules, ARI</th><th>CPU-s</th></tr>{rows}</table>"

    @classmethod
    def read(cls, path: str | Path) -> Verification:
        """Read what `verify` wrote."""
        tree = json.loads(Path(path).read_text(encoding="utf-8"))
        kept = {key: tree[key] for key in ("time", "environment", "commit") if key in tree}
        return cls(tuple(tree["runs"]), kept)
