"""What does a grouping give? One object: which subcomponents make up each module, how often it fires, and its own folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from rich.console import Console
from rich.table import Table

from unbraid.components.config import GroupingConfig
from unbraid.core.storage import check_manifest, disk_errors, read_json, write_json, write_manifest

FILE = "modules.json"
IGNORED = -1
"""The label of a subcomponent that fires too rarely to be grouped."""
SHOWN = 20


@dataclass(frozen=True)
class Modules:
    """Subcomponents of all sites in groups.

    Attributes:
        target: The name of the target.
        config: The settings that made the groups.
        labels: Site → the group of every subcomponent, or -1 where it fires too rarely.
        rates: Site → the share of datapoints on which each subcomponent fires.
        group_rates: The share of datapoints on which any member of each group fires.
        datapoints: How many positions of fresh data were looked at.
        lengths: The description length in bits per datapoint, before the first merge and after each.
        sensitivity: Pairs of another α, half and twice as large, and the ARI of its groups with these: near 1 where α decides little.
    """

    target: str
    config: GroupingConfig
    labels: Mapping[str, tuple[int, ...]]
    rates: Mapping[str, tuple[float, ...]]
    group_rates: tuple[float, ...]
    datapoints: int
    lengths: tuple[float, ...] = ()
    sensitivity: tuple[tuple[float, float], ...] = ()

    @property
    def count(self) -> int:
        """How many groups there are."""
        return len(self.group_rates)

    @cached_property
    def members(self) -> tuple[Mapping[str, tuple[int, ...]], ...]:
        """Per group: site → its subcomponents there; sites without any are left out."""
        found: list[dict[str, list[int]]] = [{} for _ in range(self.count)]
        for path, labels in self.labels.items():
            for index, label in enumerate(labels):
                if label != IGNORED:
                    found[label].setdefault(path, []).append(index)
        return tuple({path: tuple(indices) for path, indices in group.items()} for group in found)

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many subcomponents each group has, over all sites."""
        return tuple(sum(map(len, group.values())) for group in self.members)

    @property
    def ignored(self) -> int:
        """How many subcomponents fire at all, but too rarely to be grouped."""
        pairs = ((label, rate) for path in self.labels for label, rate in zip(self.labels[path], self.rates[path], strict=True))
        return sum(label == IGNORED and rate > 0 for label, rate in pairs)

    @property
    def silent(self) -> int:
        """How many subcomponents never fire."""
        return sum(rate == 0 for rates in self.rates.values() for rate in rates)

    def summary(self) -> Table:
        """Return one row per group, the largest first: members per site, and how often it fires."""
        title = f"{self.target}: {sum(self.sizes)} subcomponents in {self.count} groups; {self.ignored} ignored, {self.silent} silent"
        table = Table(title=title, title_justify="left")
        table.add_column("group", justify="right")
        for path in self.labels:
            table.add_column(path, justify="right")
        table.add_column("fires on", justify="right")
        for label, group, rate in self._rows()[:SHOWN]:
            table.add_row(str(label), *(str(len(group.get(path, ()))) for path in self.labels), f"{rate:.2%}")
        if self.count > SHOWN:
            table.caption = f"and {self.count - SHOWN} smaller groups"
        if self.sensitivity:
            others = ", ".join(f"{ari:.2f} with those at α = {alpha:g}" for alpha, ari in self.sensitivity)
            table.caption = f"{table.caption}; ARI {others}" if table.caption else f"ARI {others}"
        return table

    def _rows(self) -> list[tuple[int, Mapping[str, tuple[int, ...]], float]]:
        order = sorted(range(self.count), key=lambda label: (-self.sizes[label], -self.group_rates[label], label))
        return [(label, self.members[label], self.group_rates[label]) for label in order]

    def show(self) -> None:
        """Show the summary on the terminal or in the notebook."""
        Console().print(self.summary())

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{name}</th>" for name in ("group", *self.labels, "fires on"))
        rows = "".join(
            f"<tr><td>{label}</td>{''.join(f'<td>{len(group.get(path, ()))}</td>' for path in self.labels)}<td>{rate:.2%}</td></tr>"
            for label, group, rate in self._rows()[:SHOWN]
        )
        return f"<table><caption>{self.target}: {self.count} groups</caption><tr>{head}</tr>{rows}</table>"

    def tree(self) -> dict[str, Any]:
        """Return everything as JSON-ready values."""
        return {
            "target": self.target,
            "config": self.config.tree(),
            "labels": {path: list(labels) for path, labels in self.labels.items()},
            "rates": {path: list(rates) for path, rates in self.rates.items()},
            "group_rates": list(self.group_rates),
            "datapoints": self.datapoints,
            "lengths": list(self.lengths),
            "sensitivity": [list(pair) for pair in self.sensitivity],
        }

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write the groups as JSON, with a manifest that marks them as whole; a folder of their own, not the run's.

        Raises:
            UserError: The disk is full or the folder cannot be written.
        """
        folder = Path(folder)
        with disk_errors(folder, "Nothing that was there before is lost."):
            write_json(folder / FILE, self.tree())
            write_manifest(folder, [FILE], target=self.target)
        return folder

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Modules:
        """Read groups back.

        Raises:
            UserError: The folder is missing, unfinished or damaged.
        """
        folder = Path(folder)
        check_manifest(folder, "grouping")
        return cls.parse(read_json(folder / FILE), str(folder / FILE))

    @classmethod
    def parse(cls, tree: Mapping[str, Any], source: str = "the groups") -> Modules:
        """Make the object from what `tree` gave."""
        labels, rates = cast("dict[str, list[int]]", tree["labels"]), cast("dict[str, list[float]]", tree["rates"])
        return cls(
            str(tree["target"]),
            GroupingConfig.parse(tree["config"], source),
            {path: tuple(values) for path, values in labels.items()},
            {path: tuple(values) for path, values in rates.items()},
            tuple(tree["group_rates"]),
            int(tree["datapoints"]),
            tuple(tree["lengths"]),
            tuple((float(alpha), float(ari)) for alpha, ari in tree["sensitivity"]),
        )
