"""How does a toy look to a sceptic, as a page? Whether it is real, the panel drawn, and what its numbers mean."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unbraid.core.storage import disk_errors, write_atomically, write_text
from unbraid.drawing.plot_style import THEMES, draw, json_text
from unbraid.report.content import Badge, Block, Cell, Figure, Group, Page, Section, Table, Text, number
from unbraid.report.html import render
from unbraid.targets.plot_panel import draw_panel

CAPTION = (
    "Model in blue, the naive answer in grey, the planted mechanism's own in orange. Upper left: the loss when one alone is asked. Upper right: "
    "the answer to one feature as its value goes from end to end, alone and with others on as the data has them. Lower left: the loss against "
    "how much is on at once. Lower right: how far the effects of two features fail to add up. A loss that is only a little below the naive one, "
    "a response that vanishes in company, or a mechanism that works only by cross-terms is a toy that looks right for the wrong reason."
)
CLASSES = (
    "Model in blue, the naive answer in grey, the planted mechanism's own in orange: the loss on each class of inputs and, where it is measured, "
    "against how much competes. A class with the naive loss has not been learned, whatever the mean says."
)


def write_panel(folder: Path, card: Mapping[str, Any]) -> list[Path]:
    """Write a toy's panel as `panel.svg`, `panel-dark.svg`, `panel.png`, `panel.json` and `panel.html`, and return the paths.

    Args:
        folder: Where to.
        card: What `unbraid.targets.facts.facts` says of the toy.

    Raises:
        UserError: The disk is full or the folder cannot be written.
    """
    data: dict[str, Any] = card["panel"]
    plots = {theme: draw(draw_panel, data, theme) for theme in THEMES}
    svgs = {theme: plot.svg() for theme, plot in plots.items()}
    paths = [folder / name for name in ("panel.svg", "panel-dark.svg", "panel.png", "panel.json", "panel.html")]
    with disk_errors(folder, "What was there is as it was."):
        write_text(paths[0], svgs["light"])
        write_text(paths[1], svgs["dark"])
        write_atomically(paths[2], lambda temporary: _write_bytes(temporary, plots["light"].png()))
        write_text(paths[3], json_text(data))
        write_text(paths[4], render(panel_page(card, svgs)))
    return paths


def _write_bytes(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def panel_page(card: Mapping[str, Any], svg: Mapping[str, str]) -> Page:
    """Return the page's content."""
    checks: list[dict[str, Any]] = card["checks"] or []
    failed = [check for check in checks if not check["passed"]]
    words = "no checks declared" if not checks else "real" if not failed else f"{len(failed)} of {len(checks)} checks fail"
    panel = card["panel"]
    title = f"What would a sceptic ask of {card['name']}?"
    crossed = panel["cross_terms"] is not None
    shown = "Loss by feature, responses, loss by crowding and cross-terms" if crossed else f"Loss by {panel['word']}"
    figure = Figure("panel", title, CAPTION if crossed else CLASSES, f"{shown}, beside the naive and the oracle's answers.", svg)
    notes = Text(tuple(panel["notes"]), points=True)
    first: tuple[Block, ...] = (figure, notes)
    sections = [Section("panel", "The sceptic's panel", first)]
    if checks:
        sections.append(Section("real", "Is the planted truth real?", (_checks(checks),)))
    sections.append(Section("sites", "What is planted", (_sites(card["sites"]),)))
    facts = (
        ("weights", str(card["weights"])),
        ("parameters", f"{card['parameters']:,}"),
        ("loss on data", number(panel["on_data"]["loss"])),
        ("naive", number(panel["on_data"]["naive"])),
        ("oracle", number(panel["on_data"]["oracle"])),
    )
    return Page(
        kicker="Toy with planted truth",
        title=card["name"],
        badge=Badge(words, bool(checks) and not failed),
        lead=f"{card['planted']}. {card['lesson'][:1].upper()}{card['lesson'][1:]}.",
        facts=facts,
        sections=tuple(sections),
        footer="Written by unbraid. The numbers are in panel.json, the figure in panel.svg and panel.png.",
    )


def _checks(checks: list[dict[str, Any]]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for check in checks:
        low, high = check["low"], check["high"]
        bar = (
            f"{number(low)} – {number(high)}" if None not in (low, high) else f"≥ {number(low)}" if low is not None else f"≤ {number(high)}"
        )
        mark = Cell("✓", tone="good") if check["passed"] else Cell("✗", tone="bad")
        rows.append(
            (mark, Cell(check["name"], note=f"else: {check['why']}" if check["why"] else ""), Cell(number(check["value"])), Cell(bar))
        )
    return Table(("", "check", "measured", "must be"), (Group("", tuple(rows)),), frozenset({2, 3}))


def _sites(sites: list[dict[str, Any]]) -> Table:
    rows = tuple(
        (
            Cell(site["path"]),
            Cell(f"{site['d_in']} → {site['d_out']}"),
            Cell("" if site["pieces"] is None else str(site["pieces"])),
            Cell("" if not site["modules"] else str(site["modules"])),
        )
        for site in sites
    )
    return Table(("site", "d_in → d_out", "planted pieces", "modules"), (Group("", rows),), frozenset({1, 2, 3}))
