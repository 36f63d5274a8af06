"""Does each group serve its own module only? The effects of ablated groups beside those of changed inputs, as two matrices."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from unbraid.components.cross_talk import CrossTalk
from unbraid.components.plot_modules import module_ticks
from unbraid.drawing.plot_cells import colour_key, draw_cells, tick_step, two_digits
from unbraid.drawing.plot_style import WIDTH, Data, Plot, Theme, ThemeName, canvas, draw, panel, panel_title, rounded

FEW, MOST_GROUPS = 10, 80
LEFT, GAP, TOP, BELOW = 1.25, 0.35, 0.85, 0.7  # inches
NOTES = {
    "output": ("Output side", "lost without a group"),
    "input": ("Input side", "module's change, by group"),
}


def plot_cross_talk(target: str, output: CrossTalk | None, listening: CrossTalk | None, theme: ThemeName = "light") -> Plot:
    """Show cross-talk from both sides; see `cross_talk_data`."""
    return draw(draw_cross_talk, cross_talk_data(target, output, listening), theme)


def cross_talk_data(target: str, output: CrossTalk | None, listening: CrossTalk | None) -> Data:
    """Return the matrix of each side that was measured, modules as rows and groups as columns, matched ones on the diagonal."""
    sides = {"output": output, "input": listening}
    return {"target": target, "sides": {name: _side(side) for name, side in sides.items() if side is not None and side.modules}}


def _side(side: CrossTalk) -> Data:
    T = np.asarray(side.matrix, dtype=np.float64).reshape(len(side.groups), len(side.modules))
    modules = sorted(range(len(side.modules)), key=lambda m: (len(side.modules[m]), side.modules[m]))
    own = {module: group for group, module in side.pairs}
    rest = sorted(set(range(len(side.groups))) - set(own.values()), key=lambda group: -T[group].sum())
    placed = ([own[module] for module in modules if module in own] + rest)[:MOST_GROUPS]
    modules = [module for module in modules if module in own] + [module for module in modules if module not in own]
    return {
        "modules": [side.modules[module] for module in modules],
        "groups": [side.groups[group] for group in placed],
        "measured_groups": len(side.groups),
        "values": rounded(T[placed][:, modules].T, 4) if placed else [[] for _ in modules],
        "share": rounded(side.share),
        "margin": rounded(side.margin),
    }


def draw_cross_talk(data: Data, theme: Theme) -> Figure:
    """Draw the sides from their numbers, side by side with one scale from 0 to 1; what is above 1 has the strongest colour."""
    sides = data["sides"]
    shapes = [(len(side["modules"]), max(len(side["groups"]), 1)) for side in sides.values()] or [(1, 1)]
    width = (WIDTH - LEFT - 0.15 - GAP) / 2
    height = min(max(width * max(rows / columns for rows, columns in shapes), 1.0), 4.5)
    figure = canvas(TOP + height + BELOW, theme)
    for index, (name, side) in enumerate(sides.items()):
        axes = panel(figure, LEFT + index * (width + GAP), TOP, width, height)
        rows, columns = shapes[index]
        values = np.asarray(side["values"], dtype=np.float64).reshape(rows, len(side["groups"]))
        few = rows <= FEW and columns <= FEW
        draw_cells(axes, values, theme, gaps=few, write=two_digits if few else None)
        module_ticks(axes, side["modules"] if index == 0 else [], "y")
        step = 1 if columns <= FEW else tick_step(columns, 8)
        axes.set_xticks(range(0, len(side["groups"]), step), side["groups"][::step])
        axes.set_xlabel("group")
        title, note = NOTES[name]
        margin = f"{side['margin']:.2f}".replace("-", "−")
        panel_title(axes, title, f"{note} · X {_small(side['share'])}, margin {margin}", theme)
    colour_key(figure, (WIDTH - 0.12 - 1.15, 0.16), "effect", ("0", "1"), theme)
    return figure


def _small(share: float) -> str:
    return "< 0.001" if 0 < share < 0.001 else f"{share:.3f}"
