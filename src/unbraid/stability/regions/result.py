"""What does a question about regions give? The map and its controls, how regions agree with other partitions, and a folder of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import ndarray
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from unbraid.core.agreement import agreement
from unbraid.core.statistics import Estimate
from unbraid.stability.engine.stored import read_measurement, save_measurement
from unbraid.stability.engine.tables import table_of
from unbraid.stability.regions.barriers import Walks
from unbraid.stability.regions.config import RegionsConfig
from unbraid.stability.regions.map import RegionMap, verdict
from unbraid.stability.regions.partitions import MEASURES, Compared, compare_partitions

if TYPE_CHECKING:
    from unbraid.drawing.plot_style import Plot, ThemeName

TAUS = tuple(float(share) for share in np.round(np.geomspace(0.05, 2.0, 33), 6))
"""Where regions are counted, as shares of the median gap."""
_ARRAYS = ("pairs", "gap", "barrier", "reach", "flat")


@dataclass(frozen=True)
class RegionsResult:
    """The stable regions of one context's activations.

    Attributes:
        target: The name of the target.
        config: The settings.
        place: Whose output was moved.
        read: What was read, in words.
        context: The words before the last token; empty for a model that reads vectors.
        anchors: The last token of each anchor, or its number.
        words: What each predicted label says.
        maps: "model", and the controls "untrained" and "matched" (random anchors of the same covariance) where they were asked for.
        others: Name → the group of each anchor in another partition.
    """

    target: str
    config: RegionsConfig
    place: str
    read: str
    context: str
    anchors: tuple[str, ...]
    words: Mapping[int, str]
    maps: Mapping[str, RegionMap]
    others: Mapping[str, ndarray]

    @cached_property
    def labels(self) -> ndarray:
        """The region of each anchor, the largest one 0."""
        return self.maps["model"].labels()

    @cached_property
    def agreement(self) -> Mapping[str, Mapping[str, Compared] | None]:
        """Per other partition: how well the regions agree with it; None where there is nothing to agree about."""
        return {
            name: compare_partitions(self.labels, other, self.config.permutations, self.config.seed) for name, other in self.others.items()
        }

    @cached_property
    def counts(self) -> Mapping[str, list[int]]:
        """Per map: the number of regions at each of `TAUS` times its median gap."""
        return {name: found.counts(np.asarray(TAUS) * found.tau / self.config.tau) for name, found in self.maps.items()}

    @property
    def verdict(self) -> str:
        """Whether there are plateaus, in words."""
        return verdict(self.maps["model"], self.maps.get("untrained"))

    @property
    def is_provisional(self) -> bool:
        """Whether a control is missing: then the numbers stand alone."""
        return not {"untrained", "matched"} <= set(self.maps)

    @cached_property
    def numbers(self) -> Mapping[str, Mapping[str, Estimate | float | None]]:
        """Per map: what it says about regions and about the paths between them; None where undefined."""
        found: dict[str, dict[str, Estimate | float | None]] = {}
        for name, each in self.maps.items():
            sizes, labels = each.sizes(), each.labels()
            ends = each.gap_labels()
            found[name] = {
                "regions": float(len(sizes)),
                "alone": float((sizes == 1).sum()),
                "largest": float(sizes.max()),
                "regions by ends alone": float(ends.max() + 1),
                "ARI with regions by ends alone": agreement(labels.tolist(), ends.tolist()).ari,
                "stability": each.stability(self.config.seed),
                "violations": each.violations(),
                "flat": each.flat(),
                "plateaus": each.plateaus(),
                "excess": each.excess(),
                "unsettled": float(each.unsettled),
                "paths": float(len(each.walks.gap)),
                "tau": each.tau,
                "fidelity": each.fidelity if np.isfinite(each.fidelity) else None,
            }
        return found

    def summary(self) -> Table:
        """Return one row per measure, the model beside its controls."""
        title = f"{self.target}, {self.place} → {self.read}: {len(self.anchors)} anchors" + ", provisional" * self.is_provisional
        table = table_of(title, ("measure", *self.maps))
        rows = {
            "regions": f"regions at τ = {self.config.tau:g} × median gap",
            "alone": "  of one anchor",
            "largest": "  anchors in the largest",
            "regions by ends alone": "  if only the ends of paths counted",
            "stability": "ARI when anchors are drawn again",
            "violations": "i ~ j ~ k but not i ~ k",
            "flat": "flat share of a path (line: 0.20)",
            "plateaus": "paths with two plateaus",
            "excess": "R / G - 1 (line: 0)",
            "unsettled": "joining paths not walked",
        }
        for key, words in rows.items():
            table.add_row(words, *(_told(each[key]) for each in self.numbers.values()))
        errors = [each.fidelity for each in self.maps.values() if np.isfinite(each.fidelity)]
        exact = f"; at the anchors the answer is the model's own within {max(errors):.0e}" if errors else ""
        table.caption = f"[95 % interval over anchors]{exact}. {self.verdict[0].upper()}{self.verdict[1:]}"
        return table

    def agreement_table(self) -> Table:
        """Return one row per other partition: agreement, its interval, and the chance level."""
        table = table_of("The regions and other ways of sorting the same anchors", ("sorted by", "groups", *MEASURES, "p (ARI)"))
        for name, measures in self.agreement.items():
            groups = str(len(np.unique(self.others[name])))
            if measures is None:
                table.add_row(name, groups, *["undefined"] * 4)
                continue
            cells = (f"{m.value:.2f} [{m.low:.2f}, {m.high:.2f}], chance {m.null:z.2f}" for m in (measures[key] for key in MEASURES))
            table.add_row(name, groups, *cells, f"{measures['ari'].p:.3f}")
        return table

    def members(self) -> list[list[str]]:
        """Return the last tokens of every region, the largest first."""
        return [[self.anchors[i] for i in np.flatnonzero(self.labels == label)] for label in range(int(self.labels.max()) + 1)]

    def show(self) -> None:
        """Show both tables and the largest regions on the terminal or in the notebook."""
        groups = [" ".join(repr(token)[1:-1] for token in some[:12]) for some in self.members()[:6] if len(some) > 1]
        lines = [f"region {index}: {words}" for index, words in enumerate(groups)]
        Console().print(Group(self.summary(), self.agreement_table(), Text("\n".join(lines))))

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{name}</th>" for name in ("", *self.maps))
        keys = next(iter(self.numbers.values()))
        rows = "".join(f"<tr><td>{key}</td>{''.join(f'<td>{_told(n[key])}</td>' for n in self.numbers.values())}</tr>" for key in keys)
        return f"<table><caption>{self.target}: {self.verdict}</caption><tr>{head}</tr>{rows}</table>"

    def tree(self) -> dict[str, Any]:
        """Return everything but the raw numbers as JSON-ready values."""
        return {
            "kind": "regions",
            "target": self.target,
            "config": self.config.tree(),
            "place": self.place,
            "read": self.read,
            "context": self.context,
            "anchors": list(self.anchors),
            "words": {str(label): text for label, text in self.words.items()},
            "maps": {
                name: {"chance": each.chance, "tau": each.tau, "unsettled": each.unsettled, "fidelity": _finite(each.fidelity)}
                for name, each in self.maps.items()
            },
            "provisional": self.is_provisional,
            "verdict": self.verdict,
            "numbers": {name: {key: _plain(value) for key, value in each.items()} for name, each in self.numbers.items()},
            "taus": list(TAUS),
            "counts": {name: list(counts) for name, counts in self.counts.items()},
            "agreement": {
                name: None if measures is None else {key: vars(value) for key, value in measures.items()}
                for name, measures in self.agreement.items()
            },
            "labels": self.labels.tolist(),
        }

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write every path's numbers and all partitions into a folder of their own.

        Raises:
            UserError: The disk is full or the folder cannot be written.
        """
        arrays: dict[str, ndarray] = {f"other.{name}": labels.astype(np.int64) for name, labels in self.others.items()}
        for name, each in self.maps.items():
            arrays |= {f"{name}.{key}": getattr(each.walks, key) for key in _ARRAYS}
            arrays |= {f"{name}.gaps": each.gap, f"{name}.triples": each.triples.astype(np.int64)}
        return save_measurement(folder, self.tree(), arrays)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> RegionsResult:
        """Read a map back; every number is computed from its paths again.

        Raises:
            UserError: The folder is missing, unfinished or damaged, or holds another measurement.
        """
        tree, arrays = read_measurement(folder, "regions")
        maps = {
            name: RegionMap(
                Walks(*(arrays[f"{name}.{key}"] for key in _ARRAYS)),
                int(facts["chance"]),
                arrays[f"{name}.gaps"],
                float(facts["tau"]),
                int(facts["unsettled"]),
                arrays[f"{name}.triples"],
                float("nan") if facts["fidelity"] is None else float(facts["fidelity"]),
            )
            for name, facts in tree["maps"].items()
        }
        return cls(
            str(tree["target"]),
            RegionsConfig.parse(tree["config"], str(folder)),
            str(tree["place"]),
            str(tree["read"]),
            str(tree["context"]),
            tuple(map(str, tree["anchors"])),
            {int(label): str(text) for label, text in tree["words"].items()},
            maps,
            {name.removeprefix("other."): labels for name, labels in arrays.items() if name.startswith("other.")},
        )

    def plot_region_map(self, theme: ThemeName = "light") -> Plot:
        """Show the anchors by their answers, coloured by region, with the hierarchy and the number of regions; see `plot_regions`."""
        from unbraid.stability.regions.plot import plot_region_map

        return plot_region_map(self, theme)


def _told(value: Estimate | float | None) -> str:
    if value is None:
        return "undefined"
    if isinstance(value, Estimate):
        return f"{value.value:.2f} [{value.low:.2f}, {value.high:.2f}], n {value.n}"
    return f"{value:,.0f}" if value == round(value) else f"{value:.3g}"


def _plain(value: Estimate | float | None) -> Any:
    return vars(value) if isinstance(value, Estimate) else value


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
