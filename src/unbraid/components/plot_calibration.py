"""Do as many groups fire as the input needs modules? Groups that fire against planted modules that are on, beside the diagonal."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from unbraid.components.calibration import Calibration
from unbraid.drawing.plot_cells import tick_step
from unbraid.drawing.plot_labels import end_labels
from unbraid.drawing.plot_style import Data, Plot, Theme, ThemeName, canvas, draw, panel, panel_title, rounded

FAMILIAR = 20  # counts seen on fewer inputs are drawn hollow


def plot_calibration(target: str, counted: Sequence[Calibration], theme: ThemeName = "light") -> Plot:
    """Show how many groups fire against how many modules are needed."""
    return draw(draw_calibration, calibration_data(target, counted), theme)


def calibration_data(target: str, counted: Sequence[Calibration]) -> Data:
    """Return, by the number of planted modules that an input needs, how many groups fire on average and on how many inputs that was seen."""
    return {
        "target": target,
        "planted": [point.planted for point in counted],
        "groups": rounded([point.groups for point in counted]) if counted else [],
        "inputs": [point.inputs for point in counted],
    }


def draw_calibration(data: Data, theme: Theme) -> Figure:
    """Draw the curve from its numbers."""
    figure = canvas(3.7, theme)
    axes = panel(figure, 0.66, 0.65, 4.9, 2.45)
    planted, groups = data["planted"], data["groups"]
    most = max([1, *planted])
    top = max([most, *groups])
    axes.plot([0, most], [0, most], color=theme.planted, linewidth=4, alpha=0.4, label="planted")
    axes.plot(planted, groups, color=theme.learned, linewidth=1.5)
    for few in (False, True):
        at = [i for i, n in enumerate(data["inputs"]) if (n < FAMILIAR) is few]
        axes.plot(
            [planted[i] for i in at],
            [groups[i] for i in at],
            "o",
            color=theme.learned,
            markerfacecolor=theme.surface if few else theme.learned,
            markersize=5.5,
            label="rare" if few else "groups",
        )
    axes.set(xlim=(-0.04 * most, 1.04 * most), ylim=(-0.04 * top, 1.06 * top), xlabel="planted modules that are on")
    axes.set_xticks(range(0, most + 1, tick_step(most + 1, 10)))
    axes.grid(True, axis="y")
    axes.spines["left"].set_visible(False)
    if groups:
        end_labels(axes, [groups[-1], most], ["groups that fire", "as planted"], [theme.learned, theme.planted])
    rare = f"; hollow: fewer than {FAMILIAR} inputs" if any(n < FAMILIAR for n in data["inputs"]) else ""
    panel_title(axes, f"{data['target']}: groups that fire", f"mean over {sum(data['inputs']):,} fresh inputs{rare}", theme)
    return figure
