"""What is a report made of? Sections of text, figures, tables, code and definitions, without a word about how they look."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Tone = Literal["", "good", "bad", "quiet", "warn"]


@dataclass(frozen=True)
class Text:
    """Paragraphs; as a list when they are separate points."""

    paragraphs: tuple[str, ...]
    points: bool = False
    kind: Literal["text"] = "text"


@dataclass(frozen=True)
class Figure:
    """A figure in both themes.

    Attributes:
        name: Its file is `figures/NAME.svg`.
        title: What it asks.
        caption: What to see in it.
        alt: What it shows, for those who do not see it.
        svg: Theme → SVG text.
    """

    name: str
    title: str
    caption: str
    alt: str
    svg: Mapping[str, str]
    kind: Literal["figure"] = "figure"


@dataclass(frozen=True)
class Cell:
    """One cell: its text, a smaller line below it, a tooltip, and its tone."""

    text: str
    note: str = ""
    tip: str = ""
    tone: Tone = ""


@dataclass(frozen=True)
class Group:
    """Rows of a table under a heading; an empty heading is left out."""

    title: str
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True)
class Table:
    """A table of grouped rows.

    Attributes:
        columns: The headings.
        groups: The rows.
        numeric: Which columns hold numbers, and stand to the right.
        caption: What the marks mean.
        wide: Whether the columns need all of the page.
    """

    columns: tuple[str, ...]
    groups: tuple[Group, ...]
    numeric: frozenset[int] = frozenset()
    caption: str = ""
    wide: bool = False
    kind: Literal["table"] = "table"


@dataclass(frozen=True)
class Code:
    """Text to be copied; with a summary it is folded away until asked for."""

    text: str
    summary: str = ""
    kind: Literal["code"] = "code"


@dataclass(frozen=True)
class Definitions:
    """Words and what they mean."""

    entries: tuple[tuple[str, str], ...]
    kind: Literal["definitions"] = "definitions"


Block = Text | Figure | Table | Code | Definitions


@dataclass(frozen=True)
class Section:
    """A heading, its anchor in the page, and what stands under it."""

    anchor: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Badge:
    """The verdict in two words, and whether it is good."""

    text: str
    good: bool


@dataclass(frozen=True)
class Page:
    """A whole report.

    Attributes:
        kicker: What kind of report it is.
        title: What it is about.
        badge: The verdict at a glance.
        lead: The verdict in a sentence.
        facts: Name → value, a line of small facts under the title.
        sections: The body.
        footer: Where it came from.
    """

    kicker: str
    title: str
    badge: Badge
    lead: str
    facts: tuple[tuple[str, str], ...]
    sections: tuple[Section, ...]
    footer: str = ""


def number(value: float | None) -> str:
    """Write a measured number: three significant digits, whole numbers whole, very small and very large ones as powers of ten."""
    if value is None:
        return ""
    if value != value or value in (float("inf"), float("-inf")):
        return str(value).replace("-", "−")
    if float(value).is_integer() and abs(value) < 1e6:
        return f"{int(value):,}".replace("-", "−")
    if 1e-3 <= abs(value) < 1e6:
        return (f"{value:#.3g}".removesuffix(".") if abs(value) < 999.5 else f"{value:,.0f}").replace("-", "−")
    factor, exponent = _scientific(value)
    return f"{factor} × {exponent}"


def interval(low: float, high: float) -> str:
    """Write an interval; a power of ten that both ends share is written once."""
    if 0 < low < 1e-3 and 0 < high < 1e-3:
        (first, exponent), (last, other) = _scientific(low), _scientific(high)
        if exponent == other:
            return f"{first} – {last} × {exponent}"
    return f"{number(low)} – {number(high)}"


def _scientific(value: float) -> tuple[str, str]:
    factor, _, exponent = f"{value:.2e}".partition("e")
    return factor.replace("-", "−"), "10" + str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
