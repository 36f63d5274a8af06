"""What does a question about planes give? The pictures of the model and of its untrained self, and how thin their boundaries are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy import ndarray
from rich.console import Console
from rich.table import Table

from unbraid.core.statistics import Estimate, bootstrap_mean
from unbraid.stability.engine.stored import read_measurement, save_measurement
from unbraid.stability.engine.tables import table_of
from unbraid.stability.plane.square import closeness, sharpness

if TYPE_CHECKING:
    from unbraid.drawing.plot_style import Plot, ThemeName
    from unbraid.stability.plane.verb import PlaneConfig

LINE = 0.5
"""The share of the plane that holds half of the change where the answer is a linear function of the activation."""


@dataclass(frozen=True)
class Pictures:
    """What was read over each plane; contexts are those of A, B and C, the grid's rows go by b and its columns by a.

    Attributes:
        distance: From the answer of the context's own anchor, [planes, 3, n, n].
        others: That distance at the two other anchors, [planes, 3, 2].
        label: The prediction, [planes, 3, n, n].
        steps_a: From a point's answer to the next one's along a, [planes, 3, n, n - 1].
        steps_b: The same along b, [planes, 3, n - 1, n].
        a: The coordinates along a, [planes, n].
        foot: The coordinate a of C, [planes].
        norm: The norm of each point, [planes, n, n].
        anchor_norm: The norms of A, B and C, [planes, 3].
        fidelity: How far the answer at the anchors is from the model's own, as a share of its norm, [planes].
    """

    distance: ndarray
    others: ndarray
    label: ndarray
    steps_a: ndarray
    steps_b: ndarray
    a: ndarray
    foot: ndarray
    norm: ndarray
    anchor_norm: ndarray
    fidelity: ndarray

    NAMES: ClassVar[tuple[str, ...]] = (
        "distance",
        "others",
        "label",
        "steps_a",
        "steps_b",
        "a",
        "foot",
        "norm",
        "anchor_norm",
        "fidelity",
    )

    def sharpness(self) -> list[float]:
        """Return, for each plane, the share of it that holds half of the change, averaged over the three contexts; NaN where nothing changes."""
        return [
            float(np.mean([sharpness(a, b) for a, b in zip(*steps, strict=True)])) for steps in zip(self.steps_a, self.steps_b, strict=True)
        ]

    def near(self) -> list[float]:
        """Return, for each plane, the share of it whose answer is nearer to the own anchor's than half of the others' distance, over contexts."""
        return [float(np.mean(self.closeness(plane) > 0.5)) for plane in range(len(self.foot))]

    def predictions(self) -> list[float]:
        """Return, for each plane, how many different predictions there are on it, averaged over the contexts."""
        return [float(np.mean([len(np.unique(label)) for label in labels])) for labels in self.label]

    def closeness(self, plane: int) -> ndarray:
        """Return how close every answer is to that of the context's own anchor, [3, n, n] in [0, 1]; see `plane.closeness`."""
        return np.stack([closeness(d, o) for d, o in zip(self.distance[plane], self.others[plane], strict=True)])


@dataclass(frozen=True)
class PlaneResult:
    """A model read over planes through three of its activations.

    Attributes:
        target: The name of the target.
        config: The settings.
        place: Whose output was moved.
        read: What was read, in words.
        prompts: The three prompts of each plane.
        words: What each predicted label says.
        pictures: "model", and "untrained" where that was asked for.
        is_text: Whether prompts are words; otherwise they are input vectors.
    """

    target: str
    config: PlaneConfig
    place: str
    read: str
    prompts: tuple[tuple[str, ...], ...]
    words: Mapping[int, str]
    pictures: Mapping[str, Pictures]
    is_text: bool = True

    @cached_property
    def numbers(self) -> Mapping[str, Mapping[str, Estimate | None]]:
        """Per measure and model: its mean over planes with the interval, None where no plane defines it; "difference" is model minus untrained."""
        found: dict[str, dict[str, Estimate | None]] = {}
        for measure in ("sharpness", "near", "predictions"):
            values = {name: getattr(pictures, measure)() for name, pictures in self.pictures.items()}
            found[measure] = {name: _over_planes(each) for name, each in values.items()}
            if "untrained" in values:
                pairs = zip(values["model"], values["untrained"], strict=True)
                found[measure]["difference"] = _over_planes([trained - fresh for trained, fresh in pairs])
        return found

    @property
    def is_provisional(self) -> bool:
        """Whether a control is missing: then the numbers stand alone."""
        return "untrained" not in self.pictures

    def summary(self) -> Table:
        """Return one row per measure: the model, its untrained self, the difference, and what a linear answer would have."""
        count = len(self.prompts)
        title = f"{self.target}, {self.place} → {self.read}: {count} plane{'s' * (count != 1)}" + ", provisional" * self.is_provisional
        table = table_of(title, ("measure", "model", "untrained", "difference", "linear"))
        rows = {
            "sharpness": ("area with half the change", f"{LINE:.2f}"),
            "near": ("area like the own anchor", ""),
            "predictions": ("different predictions", ""),
        }
        for measure, (words, line) in rows.items():
            table.add_row(words, *(in_words(self.numbers[measure].get(name)) for name in ("model", "untrained", "difference")), line)
        fidelity = max(float(pictures.fidelity.max()) for pictures in self.pictures.values())
        interval = "[95 % interval over planes]" if count > 1 else "one plane: no interval"
        table.caption = f"{interval}; at the anchors the answer is the model's own within {fidelity:.0e}"
        return table

    def show(self) -> None:
        """Show the summary on the terminal or in the notebook."""
        Console().print(self.summary())

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{measure}</td>{''.join(f'<td>{name}: {in_words(value)}</td>' for name, value in each.items())}</tr>"
            for measure, each in self.numbers.items()
        )
        return f"<table><caption>{self.target}: {len(self.prompts)} planes</caption>{rows}</table>"

    def tree(self) -> dict[str, Any]:
        """Return everything but the pictures as JSON-ready values."""
        return {
            "kind": "plane",
            "target": self.target,
            "config": self.config.tree(),
            "place": self.place,
            "read": self.read,
            "prompts": [list(triple) for triple in self.prompts],
            "words": {str(label): text for label, text in self.words.items()},
            "models": list(self.pictures),
            "is_text": self.is_text,
            "provisional": self.is_provisional,
            "fidelity": {name: float(pictures.fidelity.max()) for name, pictures in self.pictures.items()},
            "numbers": {
                measure: {name: None if value is None else vars(value) for name, value in each.items()}
                for measure, each in self.numbers.items()
            },
        }

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write the pictures and everything about them into a folder of their own.

        Raises:
            UserError: The disk is full or the folder cannot be written.
        """
        arrays = {f"{model}.{name}": getattr(found, name) for model, found in self.pictures.items() for name in Pictures.NAMES}
        return save_measurement(folder, self.tree(), arrays)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> PlaneResult:
        """Read pictures back; every number is computed from them again.

        Raises:
            UserError: The folder is missing, unfinished or damaged, or holds another measurement.
        """
        from unbraid.stability.plane.verb import PlaneConfig

        tree, arrays = read_measurement(folder, "plane")
        return cls(
            str(tree["target"]),
            PlaneConfig.parse(tree["config"], str(folder)),
            str(tree["place"]),
            str(tree["read"]),
            tuple(tuple(map(str, triple)) for triple in tree["prompts"]),
            {int(label): str(text) for label, text in tree["words"].items()},
            {model: Pictures(**{field.name: arrays[f"{model}.{field.name}"] for field in fields(Pictures)}) for model in tree["models"]},
            bool(tree["is_text"]),
        )

    def plot_plane(self, plane: int = 0, model: str = "model", theme: ThemeName = "light") -> Plot:
        """Show one plane: how close every answer is to that of each anchor, and what is predicted; see `plot_plane.plot_plane`."""
        from unbraid.stability.plane.plot import plot_plane

        return plot_plane(self, plane, model, theme)


def in_words(value: Estimate | None) -> str:
    """Write a mean with its interval; one value alone has none."""
    if value is None:
        return "undefined"
    return f"{value.value:.3g}" if value.n < 2 else f"{value.value:.3g} [{value.low:.3g}, {value.high:.3g}]"


def _over_planes(values: list[float]) -> Estimate | None:
    """Return the mean over the planes that define it, whose number is the estimate's `n`."""
    defined = [value for value in values if np.isfinite(value)]
    return bootstrap_mean(defined) if defined else None
