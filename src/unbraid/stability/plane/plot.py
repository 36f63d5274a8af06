"""What does the plane through three activations look like? Red where the model answers as at A, green as at B, blue as at C; and what it predicts.

The colours are the complements of three distances, each from an anchor's answer in the anchor's own context (Janiak et al. 2024). The scale
is fixed by what the three anchors answer, so that pictures of one model at several stages of training can be laid side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, cycle
from typing import Any, cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from numpy import ndarray
from scipy import ndimage

from unbraid.core.errors import UserError, unknown
from unbraid.drawing.plot_style import Data, Plot, Theme, ThemeName, canvas, draw, panel, panel_title, rounded
from unbraid.stability.plane.result import PlaneResult

SHARE_WITH_NAME = 0.05
"""A patch of one prediction is named where it takes this share of the plane."""
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442")
"""Okabe and Ito (2008); predictions beyond these are greys."""
GREYS = ("#b8bec6", "#8f97a3", "#d9dde2", "#a3aab5", "#c8cdd4")
LONGEST = 46


def plot_plane(result: PlaneResult, plane: int = 0, model: str = "model", theme: ThemeName = "light") -> Plot:
    """Show one plane of a result.

    Raises:
        UserError: There is no such plane or model.
    """
    return draw(draw_plane, plane_data(result, plane, model), theme)


def plane_data(result: PlaneResult, plane: int, model: str) -> Data:
    """Return how close every answer is to those of the anchors, the predictions, and what the anchors' words were."""
    if model not in result.pictures:
        raise unknown("model", model, result.pictures)
    if not 0 <= plane < len(result.prompts):
        raise UserError(f"Plane {plane} was asked for, and there are {len(result.prompts)}.", "They are counted from 0.")
    found = result.pictures[model]
    labels = found.label[plane]
    kinds, counts = np.unique(labels, return_counts=True)
    order = [int(label) for label in kinds[np.argsort(-counts, kind="stable")]]
    return {
        "title": f"{result.target}{'' if model == 'model' else f', {model}'}: {result.place} → {result.read}",
        "is_text": result.is_text,
        "prompts": list(result.prompts[plane]),
        "closeness": rounded(found.closeness(plane), 3),
        "labels": labels.tolist(),
        "words": {str(label): result.words[label] for label in order},
        "a": rounded(found.a[plane][[0, -1]], 6),
        "b": [-result.config.margin, 1 + result.config.margin],
        "c": [float(found.foot[plane]), 1.0],
        "sharpness": rounded(found.sharpness()[plane], 3),
    }


def draw_plane(data: Data, theme: Theme) -> Figure:
    """Draw the picture, its key, and the three maps of predictions."""
    figure = canvas(6.55, theme)
    close = np.nan_to_num(np.asarray(data["closeness"], dtype=np.float64))
    axes = panel(figure, 0.6, 0.62, 3.1, 3.1)
    axes.imshow(close.transpose(1, 2, 0), origin="lower", extent=_extent(data), aspect="auto", interpolation="nearest")
    _anchors(axes, data, "ABC")
    axes.set(xlabel="a, from A to B", ylabel="b, towards C")
    panel_title(axes, data["title"], "colour: whose answer the activation gets; see the key", theme)
    _key(figure, data, theme)
    colours = dict(zip(data["words"], chain(COLOURS, cycle(GREYS)), strict=False))
    for index, name in enumerate("ABC"):
        _predictions(panel(figure, 0.6 + index * 2.38, 4.62, 1.7, 1.7), data, index, colours, theme)
        what = "next word" if data["is_text"] else "largest output"
        figure.axes[-1].set_title(f"{what} in {name}'s context", loc="left", fontsize=8.5, color=theme.ink)
    return figure


def _extent(data: Data) -> tuple[float, float, float, float]:
    return data["a"][0], data["a"][1], data["b"][0], data["b"][1]


def _anchors(axes: Axes, data: Data, names: str) -> None:
    """Mark the anchors, readable on any colour."""
    for name, (x, y) in zip("ABC", [(0.0, 0.0), (1.0, 0.0), data["c"]], strict=True):
        axes.plot([x], [y], "o", color="#ffffff", markeredgecolor="#1b1f24", markersize=6 if name in names else 3)
        if name in names:
            outline = [withStroke(linewidth=2.5, foreground="#1b1f24")]
            axes.annotate(
                name, (x, y), xytext=(6, 5), textcoords="offset points", weight="bold", color="#ffffff", fontsize=10, path_effects=outline
            )


def _key(figure: Figure, data: Data, theme: Theme) -> None:
    """Say what the colours mean, in words, and which words the anchors ended."""
    axes = panel(figure, 4.05, 0.62, 3.4, 3.1)
    axes.axis("off")
    axes.set(xlim=(0, 3.4), ylim=(3.1, 0))
    top = 0.1
    for name, colour, prompt in zip("ABC", ("#ff0000", "#00ff00", "#0000ff"), data["prompts"], strict=True):
        _swatch(axes, top, colour, theme)
        axes.text(0.32, top, f"answers as at {name}" + ", whose words end" * data["is_text"], va="center", color=theme.ink)
        if data["is_text"]:
            axes.text(0.32, top + 0.19, f"“{_end(prompt)}”", va="center", fontsize=8, color=theme.muted)
        top += 0.5
    for colours, text in (
        (("#ffff00", "#ff00ff", "#00ffff"), "like two of them, each in its own context"),
        (("#ffffff",), "like all three"),
        (("#000000",), "like none: as far as the anchors are apart"),
        (("#800000", "#008000", "#000080"), "half as far"),
    ):
        for index, colour in enumerate(colours):
            _swatch(axes, top, colour, theme, 0.3 * index)
        axes.text(0.32 + 0.3 * (len(colours) - 1), top, text, va="center", color=theme.ink)
        top += 0.25
    area = "undefined" if data["sharpness"] is None or not np.isfinite(data["sharpness"]) else f"{data['sharpness']:.0%}"
    axes.text(0, top + 0.17, f"{area} of the plane holds half of the change\n(50% where answers are linear)", va="center", color=theme.ink)


def _swatch(axes: Axes, top: float, colour: str, theme: Theme, left: float = 0.0) -> None:
    axes.add_patch(Rectangle((left, top - 0.08), 0.22, 0.16, facecolor=colour, edgecolor=theme.muted, linewidth=0.5))


def _end(prompt: str) -> str:
    """Return the last words of a prompt, on one line."""
    line = " ".join(prompt.split())
    return line if len(line) <= LONGEST else "… " + line[-LONGEST + 2 :]


def _predictions(axes: Axes, data: Data, index: int, colours: dict[str, str], theme: Theme) -> None:
    """Draw which word is predicted where, and write it on the large patches."""
    labels = np.asarray(data["labels"][index])
    picture = np.empty((*labels.shape, 3))
    for label in np.unique(labels):
        picture[labels == label] = _rgb(colours[str(label)])
    axes.imshow(picture, origin="lower", extent=_extent(data), aspect="auto", interpolation="nearest")
    axes.set(xticks=[0, 1], yticks=[0, 1])
    _anchors(axes, data, "ABC"[index])
    for label in np.unique(labels):
        for x, y in _middles(labels == label, data):
            text: Any = axes.text(x, y, _shown(data["words"][str(label)]), ha="center", va="center", fontsize=7.5, color=theme.ink)
            text.set_bbox({"facecolor": theme.surface, "edgecolor": "none", "alpha": 0.75, "pad": 1.2})


def _shown(word: str) -> str:
    """Return a token as a figure can show it: line breaks and blanks have signs of their own."""
    plain = word.replace("\n", "↵")
    return plain.strip() if plain.strip() else plain.replace(" ", "␣")


def _middles(inside: ndarray, data: Data) -> Sequence[tuple[float, float]]:
    """Return the innermost point of every large patch."""
    patches, count = cast("tuple[ndarray, int]", ndimage.label(inside))
    left, right, low, high = _extent(data)
    rows, columns = inside.shape
    found: list[tuple[float, float]] = []
    for patch in range(1, count + 1):
        if (patches == patch).mean() >= SHARE_WITH_NAME:
            depth = cast(ndarray, ndimage.distance_transform_edt(np.pad(patches == patch, 1)))[1:-1, 1:-1]
            row, column = np.unravel_index(int(depth.argmax()), depth.shape)
            found.append((left + (column + 0.5) / columns * (right - left), low + (row + 0.5) / rows * (high - low)))
    return found


def _rgb(colour: str) -> tuple[float, float, float]:
    return int(colour[1:3], 16) / 255, int(colour[3:5], 16) / 255, int(colour[5:7], 16) / 255
