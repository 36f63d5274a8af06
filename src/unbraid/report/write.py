"""How does a run folder get its report? Figures with their numbers, the scorecard, the card and the page, each whole or not there."""

from __future__ import annotations

from pathlib import Path

from unbraid.core.storage import disk_errors, read_json, write_json, write_text
from unbraid.decompose.plots import DRAWINGS, draw, figure_data
from unbraid.decompose.result import Decomposition
from unbraid.decompose.scorecard import Scorecard
from unbraid.drawing.plot_style import THEMES, json_text
from unbraid.report.card import model_card
from unbraid.report.decomposition import decomposition_page
from unbraid.report.html import render

PAGE, CARD, NUMBERS, FIGURES = "report.html", "README.md", "scorecard.json", "figures"


def write_report(folder: Path, decomposition: Decomposition, scorecard: Scorecard) -> Path:
    """Write `report.html`, `README.md`, `scorecard.json` and `figures/` into a folder, and return the page's path.

    Raises:
        UserError: The disk is full or the folder cannot be written.
    """
    data = figure_data(decomposition, scorecard)
    figures = {name: {theme: draw(name, numbers, theme).svg() for theme in THEMES} for name, numbers in data.items()}
    environment = read_json(folder / "env.json") if (folder / "env.json").exists() else None
    page = render(decomposition_page(decomposition, scorecard, figures, environment, data))
    with disk_errors(folder, "The decomposition itself is whole."):
        for name, numbers in data.items():
            write_text(folder / FIGURES / f"{name}.svg", figures[name]["light"])
            write_text(folder / FIGURES / f"{name}-dark.svg", figures[name]["dark"])
            write_text(folder / FIGURES / f"{name}.json", json_text(numbers))
        for name in DRAWINGS.keys() - data.keys():  # what an earlier report drew and this one cannot
            for file in (f"{name}.svg", f"{name}-dark.svg", f"{name}.json"):
                (folder / FIGURES / file).unlink(missing_ok=True)
        write_json(folder / NUMBERS, scorecard.tree())
        write_text(folder / CARD, model_card(decomposition, scorecard))
        write_text(folder / PAGE, page)
    return folder / PAGE
