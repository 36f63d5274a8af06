"""Do answers become sharper while a model learns? The same pairs at every checkpoint, and the change from the first to the last."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from unbraid.core.errors import UserError
from unbraid.core.statistics import Estimate
from unbraid.drawing.plot_style import Data, Plot, Theme, ThemeName, canvas, draw, panel, panel_title
from unbraid.stability.engine.curve import LINEAR_WIDTH
from unbraid.stability.engine.tables import table_of
from unbraid.stability.path.config import PathConfig
from unbraid.stability.path.result import PathResult, median_of
from unbraid.stability.path.verb import path
from unbraid.targets.target import Target

RESOLUTION = 0.005
"""A smaller change of width is within what the sampling of a curve leaves open."""


@dataclass(frozen=True)
class TrainingResult:
    """Widths of the same pairs at checkpoints of one model.

    Attributes:
        stages: One population per checkpoint, the earliest first.
    """

    stages: tuple[PathResult, ...]

    @property
    def widths(self) -> tuple[Estimate | None, ...]:
        """The median width at each checkpoint."""
        return tuple(stage.width() for stage in self.stages)

    @property
    def change(self) -> Estimate | None:
        """The median over pairs of the last width minus the first; negative where answers become sharper."""
        first, last = self.stages[0].measures["model"], self.stages[-1].measures["model"]
        return median_of([b.width - a.width for a, b in zip(first, last, strict=True)])

    @property
    def sharper(self) -> Estimate | None:
        """The median over pairs of `1 - w / w₀` between the first checkpoint and the last."""
        first, last = self.stages[0].measures["model"], self.stages[-1].measures["model"]
        return median_of([1 - b.width / a.width for a, b in zip(first, last, strict=True)])

    def verdict(self) -> str:
        """Say whether sharpness grew."""
        change = self.change
        if change is None:
            return "Too few pairs have a width at both ends of training to say whether it changed."
        said = f"{change.value:+.3f} [{change.low:+.3f}, {change.high:+.3f}] over {change.n} pairs"
        if change.high < -RESOLUTION:
            return f"Answers become sharper in training: the width changes by {said}."
        return f"Answers do not become sharper in training: the width changes by {said}."

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per checkpoint."""
        rows: list[dict[str, Any]] = []
        for stage, width in zip(self.stages, self.widths, strict=True):
            measures = stage.measures["model"]
            rows.append(
                {
                    "checkpoint": stage.target,
                    "pairs": len(measures),
                    "defined": sum(math.isfinite(one.width) for one in measures),
                    "width": None if width is None else {**vars(width)},
                    "lenient": sum(one.lenient for one in measures),
                    "strict": sum(one.strict for one in measures),
                }
            )
        return rows

    def summary(self) -> Table:
        """Return one row per checkpoint."""
        first = self.stages[0]
        heads = ("checkpoint", "pairs", "defined", "width 10–90 % (95 %)", "strict", "lenient")
        table = table_of(f"The answer ({first.read}) at {first.place}, the same pairs", heads)
        for row in self.rows():
            width = row["width"]
            written = "undefined" if width is None else f"{width['value']:.3f} [{width['low']:.3f}, {width['high']:.3f}]"
            shares = (f"{row[key] / row['pairs']:.0%}" for key in ("strict", "lenient"))
            table.add_row(row["checkpoint"], str(row["pairs"]), str(row["defined"]), written, *shares)
        table.caption = self.verdict()
        return table

    def show(self) -> None:
        """Show the summary on the terminal or in the notebook."""
        Console().print(self.summary())

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><td>{row['checkpoint']}</td><td>{row['width']}</td></tr>" for row in self.rows())
        return f"<table><caption>{self.verdict()}</caption>{rows}</table>"

    def tree(self) -> dict[str, Any]:
        """Return everything but the curves as JSON-ready values."""
        change, sharper = self.change, self.sharper
        return {
            "kind": "training",
            "config": self.stages[0].config.tree(),
            "place": self.stages[0].place,
            "read": self.stages[0].read,
            "rows": self.rows(),
            "change": None if change is None else {**vars(change)},
            "sharpness": None if sharper is None else {**vars(sharper)},
            "verdict": self.verdict(),
        }

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write each checkpoint's curves into a folder of its own, numbered in their order.

        Raises:
            UserError: The disk is full or the folder cannot be written.
        """
        for index, stage in enumerate(self.stages):
            stage.save_pretrained(Path(folder) / f"stage-{index}")
        return Path(folder)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> TrainingResult:
        """Read the checkpoints back.

        Raises:
            UserError: There are none, or one is unfinished or damaged.
        """
        folders = sorted(Path(folder).glob("stage-*"), key=lambda each: int(each.name.removeprefix("stage-")))
        if not folders:
            raise UserError(f"{str(folder)!r} holds no checkpoints.", "Give what `unbraid stability training --out DIR` wrote.")
        return cls(tuple(PathResult.from_pretrained(each) for each in folders))

    def plot_training(self, theme: ThemeName = "light") -> Plot:
        """Show the median width at each checkpoint, with every pair's."""
        data = {
            "title": f"Sharpness through training, at {self.stages[0].place}",
            "names": [stage.target for stage in self.stages],
            "widths": [row["width"] for row in self.rows()],
            "pairs": [
                [round(one.width, 4) if math.isfinite(one.width) else None for one in stage.measures["model"]] for stage in self.stages
            ],
            "verdict": self.verdict(),
        }
        return draw(draw_training, data, theme)


def training(
    targets: Sequence[Target], config: PathConfig | None = None, report: Callable[[int, int], None] | None = None
) -> TrainingResult:
    """Measure the same pairs of prompts at every checkpoint of a model.

    Args:
        targets: The checkpoints, the earliest first; all read the same text.
        config: As for `path`; controls are not measured, since the first checkpoint is one.
        report: Told of progress, in checkpoints.

    Raises:
        UserError: Fewer than two checkpoints; see also `path`.
    """
    if len(targets) < 2:
        raise UserError(
            f"{len(targets)} checkpoint was given.", "Give two or more, or the name of a shipped model, whose stages are known."
        )
    settings = (config or PathConfig()).model_copy(update={"controls": False})
    stages: list[PathResult] = []
    for index, target in enumerate(targets):
        stages.append(path(target, settings))
        if report is not None:
            report(index + 1, len(targets))
    return TrainingResult(tuple(stages))


def draw_training(data: Data, theme: Theme) -> Figure:
    """Draw the widths through training from their numbers."""
    figure = canvas(3.6, theme)
    axes = panel(figure, 0.75, 0.65, 5.9, 2.2)
    places = range(len(data["names"]))
    for index in places:
        values = [value for value in data["pairs"][index] if value is not None]
        # Pairs stand beside one another by their order, so that they do not hide one another; nothing is drawn by chance.
        shift = [0.22 * ((7 * i) % 11 / 10 - 0.5) for i in range(len(values))]
        axes.plot([index + s for s in shift], values, "o", color=theme.learned, markersize=2, alpha=0.25, markeredgewidth=0)
    known = [(index, width) for index, width in enumerate(data["widths"]) if width is not None]
    axes.plot([index for index, _ in known], [width["value"] for _, width in known], "-o", color=theme.learned, linewidth=1.8, markersize=5)
    for index, width in known:
        axes.plot([index, index], [width["low"], width["high"]], color=theme.learned, linewidth=2.4)
    axes.axhline(LINEAR_WIDTH, color=theme.muted, linestyle=":", linewidth=1)
    axes.set(xticks=list(places), xticklabels=data["names"], ylabel="width from 10 % to 90 %")
    axes.tick_params(axis="x", labelsize=7, rotation=20)
    axes.grid(True, axis="y")
    panel_title(axes, data["title"], "dots: pairs; line: median and 95 %; dotted: a straight way", theme)
    return figure
