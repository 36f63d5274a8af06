"""How do the figures look? One palette in two themes, axes placed in inches, and an SVG that is the same every time.

The colours of data are those of Okabe and Ito (2008), told apart with any kind of colour vision. Text stays text in the SVG, so that
it can be searched and edited on a slide.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any, Literal, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from unbraid.core.errors import unknown
from unbraid.core.storage import write_text

WIDTH = 7.6  # inches
FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif"

ThemeName = Literal["light", "dark"]
Data = dict[str, Any]


@dataclass(frozen=True)
class Theme:
    """The colours of a figure by what they stand for."""

    name: ThemeName
    surface: str
    ink: str
    muted: str
    line: str
    empty: str
    learned: str
    planted: str
    chance: str
    other: str
    ramp: tuple[str, ...]
    opposite: tuple[str, ...]


LIGHT = Theme(
    name="light",
    surface="#ffffff",
    ink="#1b1f24",
    muted="#667080",
    line="#dfe3e8",
    empty="#f1f3f6",
    learned="#0072b2",
    planted="#d55e00",
    chance="#009e73",
    other="#a8588c",
    ramp=("#f1f3f6", "#8fc1e3", "#0072b2", "#00456e"),
    opposite=("#f1f3f6", "#f0b183", "#d55e00", "#8a3c00"),
)
DARK = Theme(
    name="dark",
    surface="#14181d",
    ink="#e8ebef",
    muted="#98a2b0",
    line="#2b323b",
    empty="#1e242b",
    learned="#56b4e9",
    planted="#f28c3c",
    chance="#2fc49a",
    other="#d98abb",
    ramp=("#1e242b", "#1f5f8b", "#56b4e9", "#c9e9fc"),
    opposite=("#1e242b", "#8a4a1a", "#f28c3c", "#ffdcbf"),
)
THEMES: dict[ThemeName, Theme] = {"light": LIGHT, "dark": DARK}


class Plot(NamedTuple):
    """A figure and the numbers that it shows."""

    figure: Figure
    data: Data

    def svg(self) -> str:
        """Return the figure as SVG text; the same figure gives the same text."""
        return svg(self.figure)

    def png(self, dpi: int = 200) -> bytes:
        """Return the figure as a PNG, for places that take no SVG."""
        buffer = BytesIO()
        self.figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
        return buffer.getvalue()

    def save(self, folder: str | Path, name: str) -> None:
        """Write `name.svg` and, with the numbers drawn, `name.json`."""
        write_text(Path(folder) / f"{name}.svg", self.svg())
        write_text(Path(folder) / f"{name}.json", json_text(self.data))

    def _repr_svg_(self) -> str:
        return self.svg()


def draw(drawing: Callable[[Data, Theme], Figure], data: Data, theme: ThemeName = "light") -> Plot:
    """Draw numbers in a theme.

    Raises:
        UserError: There is no theme of that name.
    """
    if theme not in THEMES:
        raise unknown("theme", theme, THEMES)
    with style(THEMES[theme]):
        return Plot(drawing(data, THEMES[theme]), data)


def draw_named(drawings: Mapping[str, Callable[[Data, Theme], Figure]], name: str, data: Data, theme: ThemeName = "light") -> Plot:
    """Draw numbers as one of several figures.

    Raises:
        UserError: There is no figure or theme of that name.
    """
    if name not in drawings:
        raise unknown("figure", name, drawings)
    return draw(drawings[name], data, theme)


@contextmanager
def style(theme: Theme) -> Generator[None]:
    """Draw in a theme; the settings of matplotlib are as before afterwards."""
    settings: Any = {
        "font.family": "DejaVu Sans",  # comes with matplotlib, so that sizes are the same everywhere; readers see their system's font
        "font.size": 8.5,
        "text.color": theme.ink,
        "text.parse_math": False,
        "axes.facecolor": theme.surface,
        "axes.edgecolor": theme.line,
        "axes.labelcolor": theme.muted,
        "axes.labelsize": 8.5,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.linewidth": 0.8,
        "axes.axisbelow": True,
        "axes.grid.axis": "y",
        "grid.color": theme.line,
        "grid.linewidth": 0.6,
        "xtick.color": theme.line,
        "ytick.color": theme.line,
        "xtick.labelcolor": theme.muted,
        "ytick.labelcolor": theme.muted,
        "xtick.labelsize": 8,
        "ytick.labelsize": 8,
        "xtick.major.size": 3,
        "ytick.major.size": 0,
        "lines.linewidth": 1.8,
        "lines.solid_capstyle": "round",
        "svg.fonttype": "none",
        "svg.hashsalt": "unbraid",
        "path.simplify": True,
    }
    with mpl.rc_context(settings):
        yield


def canvas(height: float, theme: Theme, width: float = WIDTH) -> Figure:
    """Return an empty figure of a size in inches."""
    return Figure(figsize=(width, height), facecolor=theme.surface)


def panel(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Return axes whose box is given in inches from the figure's upper left corner."""
    w, h = (float(side) for side in figure.get_size_inches())
    return figure.add_axes((left / w, 1 - (top + height) / h, width / w, height / h))


def panel_title(axes: Axes, title: str, note: str, theme: Theme) -> None:
    """Write a title and a quieter line above a panel."""
    place: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "annotation_clip": False}
    axes.annotate(title, (0, 1), xytext=(0, 18), weight="bold", fontsize=9.5, color=theme.ink, **place)
    axes.annotate(note, (0, 1), xytext=(0, 6), fontsize=8, color=theme.muted, **place)


def log_ticks(axes: Axes, which: Literal["x", "y"] = "y") -> None:
    """Label a logarithmic axis at powers of ten, or at 1, 2, 5 where it spans less than two of them."""
    axis = axes.yaxis if which == "y" else axes.xaxis
    low, high = (math.log10(float(end)) for end in (axes.get_ylim() if which == "y" else axes.get_xlim()))
    stride = max(1, math.ceil((high - low) / 6))
    steps = (1, 2, 5) if high - low < 2 else (1,)
    powers = [p for p in range(math.floor(low), math.ceil(high) + 1) if p % stride == 0]
    ticks = [step * 10.0**p for p in powers for step in steps]
    inside = [tick for tick in ticks if low - 1e-9 <= math.log10(tick) <= high + 1e-9]
    axis.set_major_locator(FixedLocator(inside))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(_tick_text))
    axis.set_minor_formatter(NullFormatter())


def _tick_text(value: float, position: int | None = None) -> str:
    return power_text(float(value))


def power_text(value: float) -> str:
    """Write a number for an axis: plain within 0.001 and 10,000, otherwise as a power of ten."""
    if value == 0 or 1e-3 <= abs(value) <= 1e4:
        return f"{value:,.10g}"
    exponent = math.floor(math.log10(abs(value)) + 1e-9)
    factor = value / 10.0**exponent
    head = "" if abs(factor - 1) < 1e-6 else f"{factor:.2g}×"
    return head + "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def spread(wanted: Sequence[float], gap: float) -> list[float]:
    """Return positions near the wanted ones and at least `gap` apart, in the order given, so that labels do not overlap."""
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    placed = [float(wanted[index]) for index in order]
    for _ in range(200):
        close = [i for i in range(1, len(placed)) if placed[i] - placed[i - 1] < gap - 1e-9]
        if not close:
            break
        for i in close:
            push = (gap - (placed[i] - placed[i - 1])) / 2
            placed[i - 1] -= push
            placed[i] += push
    result = [0.0] * len(wanted)
    for index, value in zip(order, placed, strict=True):
        result[index] = value
    return result


def rounded(values: object, digits: int = 5) -> Any:
    """Return nested numbers as lists of floats with so many significant digits: what is drawn is what is written down."""

    def shortest(value: float) -> float:
        return float(f"{value:.{digits}g}")

    array = np.asarray(values, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        magnitude = np.where((array == 0) | ~np.isfinite(array), 0, np.floor(np.log10(np.abs(array))))
    scale = 10.0 ** (digits - 1 - magnitude)
    return np.vectorize(shortest, otypes=[float])(np.round(array * scale) / scale).tolist()


def svg(figure: Figure) -> str:
    """Return a figure as SVG text without dates, and with the reader's own font."""
    buffer = StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "unbraid"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :].replace("'DejaVu Sans'", FONTS.replace("'", "")).strip() + "\n"


def json_text(data: Data) -> str:
    """Return a figure's numbers as JSON, one key per line."""
    rows = ",\n".join(f"  {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in data.items())
    return "{\n" + rows + "\n}\n"
