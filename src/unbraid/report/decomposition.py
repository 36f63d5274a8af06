"""How is a decomposition reported? Verdict first, then what it licenses, the scorecard, the figures, and how to make it again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unbraid.decompose.result import Decomposition
from unbraid.decompose.scorecard import Scorecard
from unbraid.report.content import Badge, Block, Cell, Code, Definitions, Figure, Group, Page, Section, Table, Text, number
from unbraid.report.scorecard_table import scorecard_table
from unbraid.report.words import FIGURES, GLOSSARY


def decomposition_page(
    decomposition: Decomposition,
    scorecard: Scorecard,
    figures: Mapping[str, Mapping[str, str]],
    environment: Mapping[str, Any] | None = None,
    numbers: Mapping[str, Mapping[str, Any]] | None = None,
) -> Page:
    """Return the report's content.

    Args:
        decomposition: What is reported.
        scorecard: Its scorecard.
        figures: Figure's name → theme → SVG text.
        environment: What `env.json` of the run folder holds.
        numbers: Figure's name → what is drawn in it, so that a caption can say what was left out.
    """
    environment, numbers = environment or {}, numbers or {}
    verdict = scorecard.verdict()
    sections = [
        Section("claims", "What may be said, and what not", (Text(tuple(verdict[1:]), points=True),)),
        Section("scorecard", "Scorecard", (scorecard_table(scorecard), *_figures(figures, {"scorecard"}, numbers))),
        Section("sites", "Sites", (_sites(decomposition, scorecard),)),
        Section("figures", "Figures", _figures(figures, set(FIGURES) - {"scorecard"}, numbers)),
        Section("reproduce", "How to make it again", _reproduce(decomposition)),
        Section("environment", "Environment and cost", (_environment(environment),)),
        Section("words", "Words", (Definitions(GLOSSARY),)),
    ]
    return Page(
        kicker="Decomposition report",
        title=scorecard.target,
        badge=badge(scorecard),
        lead=verdict[0],
        facts=_facts(decomposition, scorecard, environment),
        sections=tuple(section for section in sections if any(_filled(block) for block in section.blocks)),
        footer=f"Written by unbraid. The numbers are in scorecard.json and figures/*.json, the figures in figures/*.svg. Seed {scorecard.seed}.",
    )


def badge(scorecard: Scorecard) -> Badge:
    """Return how many of the lines with a bar pass."""
    barred = [line for line in scorecard.lines if line.bar is not None]
    return Badge(f"{len(barred) - len(scorecard.failures)} of {len(barred)} lines pass", scorecard.passed)


def _filled(block: Block) -> bool:
    return bool(block.paragraphs if isinstance(block, Text) else block.groups if isinstance(block, Table) else True)


def _figures(svgs: Mapping[str, Mapping[str, str]], names: set[str], numbers: Mapping[str, Mapping[str, Any]]) -> tuple[Figure, ...]:
    return tuple(
        Figure(name, text.title, text.caption + _left_out(numbers.get(name, {})), text.alt, svgs[name])
        for name, text in FIGURES.items()
        if name in names and name in svgs
    )


def _left_out(numbers: Mapping[str, Any]) -> str:
    """Say how many sites or lines there was no room for; nothing when all are shown."""
    for shown, total, noun in (("panels", "sites", "sites"), ("lines", "barred", "lines with a bar")):
        if total in numbers and len(numbers[shown]) < numbers[total]:
            return f" There is room for the first {len(numbers[shown])} of {numbers[total]} {noun}."
    return ""


def _facts(decomposition: Decomposition, scorecard: Scorecard, environment: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    cost = environment.get("cost", {})
    facts = [("seed", str(scorecard.seed)), ("steps", f"{scorecard.step:,}"), ("sites", str(len(decomposition.model.C)))]
    if "cpu_seconds" in cost:
        facts.append(("training", f"{cost['cpu_seconds']:,.1f} CPU s"))
    if "peak_memory_mb" in cost:
        facts.append(("peak memory", f"{cost['peak_memory_mb']:,.0f} MB"))
    facts.append(("device", str(environment.get("device", decomposition.config.device))))
    return tuple(facts)


def _sites(decomposition: Decomposition, scorecard: Scorecard) -> Table:
    """Return one row per site; what was counted on data comes from the scorecard."""
    counted = {line.key: line.value.value for line in scorecard.lines}
    rows: list[tuple[Cell, ...]] = []
    for path, site in decomposition.model.sites.items():
        d_in, d_out = site.weight.shape
        share = float(site.delta().detach().square().sum() / site.weight.square().sum())
        numbers = (counted.get(f"alive/{path}"), counted.get(f"l0/{path}"), share)
        rows.append(
            (Cell(path), Cell(f"{d_in} → {d_out}"), Cell(str(decomposition.model.C[path])), *(Cell(number(value)) for value in numbers))
        )
    columns = ("site", "d_in → d_out", "subcomponents", "alive", "L0", "‖Δ‖² / ‖W‖²")
    return Table(columns, (Group("", tuple(rows)),), frozenset(range(1, 6)))


def _reproduce(decomposition: Decomposition) -> tuple[Block, ...]:
    config = decomposition.config
    loading = 'import unbraid\n\nresult = unbraid.Decomposition.from_pretrained(".")\nresult.show()\nresult.scorecard().show()'
    settings = Code(config.to_yaml(), "All settings (config.yaml)")
    if config.target is None:
        intro = Text(("The target is a module given in Python, so the run is made again from Python with the settings below.",))
        loading = loading.replace('(".")', '(".", target=target)')
        return intro, Code(loading), settings
    intro = Text(("From the run folder; the settings and the seed fix the result to the bit on one kind of machine.",))
    return intro, Code("unbraid decompose --config config.yaml"), Text(("To load it in Python:",)), Code(loading), settings


def _environment(environment: Mapping[str, Any]) -> Table:
    """Return the environment as two columns, nested names joined."""
    rows: list[tuple[Cell, ...]] = []
    for name, value in environment.items():
        if isinstance(value, Mapping):
            nested: Mapping[str, Any] = value
            for inner, entry in nested.items():
                rows.append((Cell(f"{name}: {inner.replace('_', ' ')}"), Cell(_entry(entry))))
        else:
            rows.append((Cell(name.replace("_", " ")), Cell(_entry(value))))
    return Table(("", ""), (Group("", tuple(rows)),) if rows else ())


def _entry(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return "not known" if value is None else str(value)
    return number(value)
