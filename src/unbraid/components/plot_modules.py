"""Is each planted module one recovered group? How each module's norm is shared among the groups, groups in the order of their modules."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.optimize import linear_sum_assignment

from unbraid.drawing.plot_cells import colour_key, draw_cells, tick_step, two_digits
from unbraid.drawing.plot_style import WIDTH, Data, Plot, Theme, ThemeName, canvas, draw, panel, panel_title, rounded

FEW, MOST_GROUPS, MOST_NAMED = 12, 160, 24
LEFT, TOP, BELOW = 1.5, 0.8, 0.75  # inches


def plot_modules(target: str, mass: Mapping[tuple[int, int], float], names: Sequence[str], theme: ThemeName = "light") -> Plot:
    """Show recovered groups against planted modules; see `modules_data`."""
    return draw(draw_modules, modules_data(target, mass, names), theme)


def modules_data(target: str, mass: Mapping[tuple[int, int], float], names: Sequence[str]) -> Data:
    """Return the share of each planted module's norm that lies in each group, groups aligned with modules (Hungarian).

    Args:
        target: What was decomposed.
        mass: (group, module) → how much of the group lies in the module, by norm.
        names: The planted modules.
    """
    groups = sorted({group for group, _ in mass})
    table = np.zeros((len(names), len(groups)))
    for (group, module), value in mass.items():
        table[module, groups.index(group)] += value
    order = sorted(range(len(names)), key=lambda module: (len(names[module]), names[module]))  # module 10 after module 9
    table = table[order]
    rows, columns = linear_sum_assignment(table, maximize=True)
    own = {int(row): int(column) for row, column in zip(rows, columns, strict=True) if table[row, column] > 0}
    rest = sorted(set(range(len(groups))) - set(own.values()), key=lambda column: -table[:, column].sum())
    placed = [own.get(row, -1) for row in range(len(names))] + rest
    shares = table / np.maximum(table.sum(1, keepdims=True), 1e-30)
    values = np.stack([shares[:, column] if column >= 0 else np.zeros(len(names)) for column in placed], axis=1) if placed else shares
    return {
        "target": target,
        "modules": [names[row] for row in order],
        "groups": [groups[column] if column >= 0 else None for column in placed][:MOST_GROUPS],
        "matched": len(own),
        "found": len(groups),
        "values": rounded(values[:, :MOST_GROUPS], 4),
    }


def draw_modules(data: Data, theme: Theme) -> Figure:
    """Draw the matrix from its numbers."""
    values = np.asarray(data["values"], dtype=np.float64).reshape(len(data["modules"]), len(data["groups"]))
    n, columns = values.shape
    width = min(WIDTH - LEFT - 0.2, 0.42 * max(columns, 4))
    height = min(max(width * n / max(columns, 1), 1.0), 5.6)
    figure = canvas(TOP + height + BELOW, theme)
    axes = panel(figure, LEFT, TOP, width, height)
    few = n <= FEW and columns <= FEW
    draw_cells(axes, values, theme, gaps=few, write=two_digits if few else None)
    if 0 < n < columns:
        axes.axvline(n - 0.5, color=theme.muted, linewidth=0.8)
    module_ticks(axes, data["modules"], "y")
    step = 1 if columns <= 2 * FEW else tick_step(columns, 12)
    texts = ["none" if group is None else str(group) for group in data["groups"]]
    axes.set_xticks(range(0, columns, step), texts[::step])
    axes.set_xlabel("recovered group, in the order of the modules")
    note = f"share of the module's norm, each row sums to 1 · {data['found']} groups, {data['matched']} of {n} modules matched"
    panel_title(axes, f"{data['target']}: recovered groups against planted modules", note, theme)
    colour_key(figure, (WIDTH - 0.12 - 1.15, 0.16), "share", ("0", "1"), theme)
    return figure


def module_ticks(axes: Axes, names: Sequence[str], which: str) -> None:
    """Name modules along an axis where there is room, and number them where there is not."""
    n = len(names)
    if n <= MOST_NAMED:
        texts = [name if len(name) <= 20 else name[:19] + "…" for name in names]
        places = range(n)
    else:
        places = range(0, n, tick_step(n, 8))
        texts = [str(place) for place in places]
    size = 8 if n <= 16 else 6
    if which == "y":
        axes.set_yticks(places, texts, fontsize=size)
    else:
        axes.set_xticks(places, texts, fontsize=size, rotation=0 if math.fsum(map(len, texts)) < 30 else 40, ha="right")
