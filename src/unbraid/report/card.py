"""What does somebody see who opens the run folder? A README with what it is, the verdict, the scorecard, and how to load it."""

from __future__ import annotations

import re

from unbraid.decompose.result import Decomposition
from unbraid.decompose.scorecard import Scorecard
from unbraid.report.content import Table
from unbraid.report.decomposition import badge
from unbraid.report.scorecard_table import scorecard_table

_FRONT = """---
library_name: unbraid
tags:
- interpretability
- parameter-decomposition
---
"""


def model_card(decomposition: Decomposition, scorecard: Scorecard) -> str:
    """Return the README.md of a run folder."""
    sites = ", ".join(f"`{_plain(path)}` ({C})" for path, C in decomposition.model.C.items())
    losses = ", ".join(f"`{_plain(name)}`" for name in decomposition.config.losses)
    verdict = "\n".join(f"- {escape(text)}" for text in scorecard.verdict()[1:])
    loading = '.from_pretrained(".")' if decomposition.config.target is not None else '.from_pretrained(".", target=target)'
    parts = [
        f"{_FRONT}\n# {escape(scorecard.target)}, taken apart",
        f"The weight matrices of **{escape(scorecard.target)}** written as sums of rank-one subcomponents, with the function that says which of "
        "them an input needs.",
        f"**{badge(scorecard).text}.** {escape(scorecard.verdict()[0])}",
        f"{verdict}\n\nThe whole story with figures is in `report.html`.",
        "## How to load it",
        f"```python\nimport unbraid\n\nresult = unbraid.Decomposition{loading}\nresult.show()\n```",
        "## How it was made",
        f"{scorecard.step:,} steps with seed {scorecard.seed} on losses {losses}. Sites and their numbers of subcomponents: {sites}. "
        "All settings are in `config.yaml`, the machine and the cost in `env.json`.",
        "## Scorecard",
        markdown_table(scorecard_table(scorecard)),
    ]
    return "\n\n".join(parts) + "\n"


def markdown_table(table: Table) -> str:
    """Return a table in Markdown, its group headings as bold rows; notes and tooltips are left to the page."""
    width = len(table.columns)
    lines = [_line(table.columns), _line(["---:" if index in table.numeric else "---" for index in range(width)])]
    for group in table.groups:
        if group.title:
            lines.append(_line(["", f"**{escape(group.title)}**", *[""] * (width - 2)]))
        lines.extend(
            _line([escape(cell.text) + (f" ({cell.note})" if cell.note.startswith("n = ") else "") for cell in row]) for row in group.rows
        )
    return "\n".join([*lines, "", escape(table.caption)])


def _line(cells: list[str] | tuple[str, ...]) -> str:
    return "| " + " | ".join(cells) + " |"


def _plain(text: str) -> str:
    """Make text safe inside a code span of a table."""
    return re.sub(r"[`|\n<>]", " ", text)


def escape(text: str) -> str:
    """Escape what Markdown or HTML would read as markup."""
    return re.sub(r"([\\`*_\[\]|])", r"\\\1", text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")).replace("\n", " ")
