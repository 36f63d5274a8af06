"""How does a run folder get its report? Figures with their numbers, the scorecard, the card and the page, each whole or not there."""

from __future__ import annotations

from pathlib import Path

from unbraid.components.plots import DRAWINGS as MODULE_DRAWINGS
from unbraid.components.plots import module_figures
from unbraid.components.scorecard import Judged
from unbraid.core.storage import disk_errors, read_json, write_json, write_text
from unbraid.decompose.plots import DRAWINGS, figure_data
from unbraid.decompose.result import Decomposition
from unbraid.drawing.plot_style import THEMES, draw, json_text
from unbraid.report.card import model_card
from unbraid.report.decomposition import decomposition_page
from unbraid.report.html import render

PAGE, CARD, NUMBERS, FIGURES, MODULES = "report.html", "README.md", "scorecard.json", "figures", "modules"


def write_report(folder: Path, decomposition: Decomposition, judged: Judged) -> Path:
    """Write `report.html`, `README.md`, `scorecard.json` and `figures/` into a folder, and return the page's path.

    Args:
        folder: Where to.
        decomposition: What is reported.
        judged: Its scorecard, and its groups where modules are planted.

    Raises:
        UserError: The disk is full or the folder cannot be written.
    """
    scorecard = judged.scorecard
    data = figure_data(decomposition, scorecard)
    if judged.modules is not None and judged.scores is not None:
        data |= module_figures(decomposition, judged.modules, judged.scores)
    drawings = {**DRAWINGS, **MODULE_DRAWINGS}
    figures = {name: {theme: draw(drawings[name], numbers, theme).svg() for theme in THEMES} for name, numbers in data.items()}
    environment = read_json(folder / "env.json") if (folder / "env.json").exists() else None
    page = render(decomposition_page(decomposition, scorecard, figures, environment, data))
    with disk_errors(folder, "The decomposition itself is whole."):
        for name, numbers in data.items():
            write_text(folder / FIGURES / f"{name}.svg", figures[name]["light"])
            write_text(folder / FIGURES / f"{name}-dark.svg", figures[name]["dark"])
            write_text(folder / FIGURES / f"{name}.json", json_text(numbers))
        for name in drawings.keys() - data.keys():  # what an earlier report drew and this one cannot
            for file in (f"{name}.svg", f"{name}-dark.svg", f"{name}.json"):
                (folder / FIGURES / file).unlink(missing_ok=True)
        if judged.modules is not None:
            judged.modules.save_pretrained(folder / MODULES)
        write_json(folder / NUMBERS, scorecard.tree())
        write_text(folder / CARD, model_card(decomposition, scorecard))
        write_text(folder / PAGE, page)
    return folder / PAGE
