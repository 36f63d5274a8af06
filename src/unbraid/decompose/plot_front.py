"""How much behaviour do few parts keep? Parts that an input needs against what is lost, one front per way of cutting up the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from unbraid.decompose.front import Point, pareto_front
from unbraid.drawing.plot_labels import end_labels
from unbraid.drawing.plot_style import Data, Plot, Theme, ThemeName, canvas, draw, log_ticks, panel, panel_title


def plot_front(fronts: Mapping[str, Sequence[Point]], title: str, unit: str = "nats", theme: ThemeName = "light") -> Plot:
    """Show each way's runs and its front; the first one is the decomposition, the others what it is compared with."""
    return draw(draw_front, front_data(fronts, title, unit), theme)


def front_data(fronts: Mapping[str, Sequence[Point]], title: str, unit: str) -> Data:
    """Return each way's points, fewest parts first, and which of them are on its front."""
    ways: list[dict[str, object]] = []
    for name, points in fronts.items():
        best = pareto_front(points)
        rows = [
            {"parts": point.parts, "lost": point.lost, "label": point.label, "on_front": point in best}
            for point in sorted(points, key=lambda point: point.parts)
        ]
        ways.append({"name": name, "points": rows})
    return {"title": title, "unit": unit, "ways": ways}


def draw_front(data: Data, theme: Theme) -> Figure:
    """Draw the fronts from their numbers."""
    figure = canvas(4.1, theme)
    axes = panel(figure, 0.8, 0.65, 4.7, 2.75)
    colours = [theme.learned, theme.other, theme.chance, theme.muted][: len(data["ways"])]
    styles = ["-", "--", ":", "-."]
    ends: list[float] = []
    for index, way in enumerate(data["ways"]):
        front = [point for point in way["points"] if point["on_front"]]
        colour, line = colours[index], styles[index % len(styles)]
        axes.plot(
            [point["parts"] for point in front], [point["lost"] for point in front], line, color=colour, linewidth=1.6, label=way["name"]
        )
        for shown, filled in ((True, colour), (False, theme.surface)):
            at = [point for point in way["points"] if point["on_front"] is shown]
            axes.plot(
                [point["parts"] for point in at], [point["lost"] for point in at], "o", color=colour, markerfacecolor=filled, markersize=5
            )
        ends.append(front[-1]["lost"])
    axes.set(xscale="log", yscale="log", xlabel="parts that an input needs, per position", ylabel=f"lost, {data['unit']}")
    log_ticks(axes, "x")
    log_ticks(axes, "y")
    axes.grid(True, axis="y")
    end_labels(axes, ends, [way["name"] for way in data["ways"]], colours)
    panel_title(axes, data["title"], "lower left is better; hollow: beaten by another run of its kind", theme)
    return figure
