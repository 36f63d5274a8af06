"""How far may a decomposition be trusted? A table of measured lines, each with its interval, its bar and the same number for nulls.

A line passes when its value meets the bar. Bars on reconstruction are factors of what the planted truth itself loses under
the same masks, since features in superposition disturb each other even in a perfect decomposition; the factors are
checked on other seeds than the recovery table's (`benchmarks/calibration.json`). Where no truth is known, fewer lines have bars.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from unbraid.core.errors import unknown
from unbraid.core.statistics import Estimate

if TYPE_CHECKING:
    from unbraid.drawing.plot_style import Plot, ThemeName

WIDE = 148
"""Terminal columns from which on the whole table fits."""

NULLS = {
    "untrained": "the factors and importance function that training started from",
    "shuffled": "each subcomponent's importances, given to other inputs",
    "zero": "nothing is ever important",
}


MODULE_NULLS = {"random": "groups of the same sizes, drawn at random"}
"""Nulls of the lines on modules."""


@dataclass(frozen=True)
class Bar:
    """What a value must meet: at least `low` and at most `high`; `why` says where the numbers come from."""

    low: float | None = None
    high: float | None = None
    why: str = ""

    def met_by(self, value: float) -> bool:
        """Whether the value lies within."""
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)

    def __str__(self) -> str:
        low, high = (None if end is None else f"{end:.3g}" for end in (self.low, self.high))
        if low is not None and high is not None:
            return low if low == high else f"{low} – {high}"
        return f"≥ {low}" if low is not None else f"≤ {high}"


@dataclass(frozen=True)
class Line:
    """One measured number.

    Attributes:
        key: The metric's name in the field.
        title: What it asks, in words.
        group: Which of the properties it belongs to.
        value: With its interval over batches; a number that is exact has no width.
        bar: What it must meet; None is for reading only.
        nulls: Null's name → the same number.
        oracle: The same number for the planted truth.
        note: How it was measured.
    """

    key: str
    title: str
    group: Literal["truth", "behaviour", "minimality", "faithfulness", "modules"]
    value: Estimate
    bar: Bar | None = None
    nulls: Mapping[str, float] = field(default_factory=dict[str, float])
    oracle: float | None = None
    note: str = ""

    @property
    def passed(self) -> bool | None:
        """Whether the bar is met; None without a bar."""
        return None if self.bar is None else self.bar.met_by(self.value.value)

    @property
    def failing_nulls(self) -> list[str]:
        """The nulls that fail this line, as they should; a line that no null fails says nothing by itself."""
        return [name for name, value in self.nulls.items() if self.bar is not None and not self.bar.met_by(value)]


@dataclass(frozen=True)
class Scorecard:
    """Every line for one decomposition.

    Attributes:
        target: Its name.
        seed: The run's seed.
        step: Training steps.
        lines: The measured lines.
        spectrum: Site → mean importance of every subcomponent on fresh data, largest first.
        has_truth: Whether planted mechanisms were compared.
    """

    target: str
    seed: int
    step: int
    lines: tuple[Line, ...]
    spectrum: Mapping[str, Sequence[float]]
    has_truth: bool

    @property
    def passed(self) -> bool:
        """Whether every line with a bar passes."""
        return all(line.passed is not False for line in self.lines)

    @property
    def failures(self) -> list[Line]:
        """The lines that do not meet their bar."""
        return [line for line in self.lines if line.passed is False]

    def __getitem__(self, key: str) -> Line:
        """Return the line of a key.

        Raises:
            UserError: No line has this key.
        """
        lines = {line.key: line for line in self.lines}
        if key not in lines:
            raise unknown("scorecard line", key, lines)
        return lines[key]

    def verdict(self) -> list[str]:
        """Say in words what this result licenses and what it does not."""
        barred = [line for line in self.lines if line.bar is not None]
        if not self.passed:
            missed = "; ".join(f"{line.title} ({line.value.value:.3g}, bar {line.bar})" for line in self.failures)
            opening = f"{len(self.failures)} of {len(barred)} lines miss their bar: {missed}. Do not call these subcomponents mechanisms."
        elif self.has_truth:
            opening = f"All {len(barred)} lines pass: the planted mechanisms were found, in every site, and may be called by that name on this toy."
        else:
            opening = f"All {len(barred)} lines that have a bar pass. No truth is known here: the subcomponents are candidates for mechanisms, not proven ones."
        ladder = [line for line in self.lines if line.key.removeprefix("pgd_").isdigit()]
        budget = ladder[0].key.removeprefix("pgd_") if ladder else "no"
        # Of a language model it is the line in nats that has the bar. Where nulls pass it too, it licenses nothing.
        asked = [line for line in barred if line.key in (f"pgd_{budget}", f"kl_pgd_{budget}")]
        claimed = bool(asked) and all(line.passed and (line.failing_nulls or not line.nulls) for line in asked)
        claim = "Robustness is claimed against" if claimed else "No robustness is claimed against"
        worst = f", {ladder[-1].value.value:.3g} at {ladder[-1].key.removeprefix('pgd_')}" if len(ladder) > 1 else ""
        robust = (
            f"{claim} a shared adversary of {budget} steps; the share lost is {ladder[0].value.value:.3g} there{worst}." if ladder else ""
        )
        limits = (
            "Not licensed: claims about inputs unlike the training distribution, about stronger adversaries or ones that choose per "
            "input, or about other seeds; this is one seed, and the importance function is itself a network that nobody has interpreted."
        )
        silent = [line.title for line in barred if line.nulls and not line.failing_nulls]
        blind = f"No null fails these lines, so by themselves they prove nothing here: {'; '.join(silent)}." if silent else ""
        return [text for text in (opening, robust, limits, blind) if text]

    def tree(self) -> dict[str, Any]:
        """Return everything as JSON-ready values."""
        lines = [
            {**asdict(line), "bar": None if line.bar is None else {**asdict(line.bar), "text": str(line.bar)}, "passed": line.passed}
            for line in self.lines
        ]
        return {
            "target": self.target,
            "seed": self.seed,
            "step": self.step,
            "passed": self.passed,
            "lines": lines,
            "spectrum": {path: list(values) for path, values in self.spectrum.items()},
            "verdict": self.verdict(),
        }

    def summary(self, width: int = WIDE) -> Group:
        """Return the table and the verdict for the terminal; one narrower than `WIDE` columns has no room for intervals and nulls."""
        title = f"Scorecard: {self.target}, seed {self.seed}, step {self.step}"
        if width < WIDE:
            hint = Text(f"Intervals and nulls are in the report, in scorecard.json and on terminals of {WIDE} columns.", "dim")
            return Group(self._narrow(title), hint, *(Text(text) for text in self.verdict()))
        table = Table(title=title, title_justify="left")
        for name, justify in (
            ("", "left"),
            ("line", "left"),
            ("value", "right"),
            ("95 % interval", "right"),
            ("bar", "right"),
            ("oracle", "right"),
        ):
            table.add_column(name, justify=justify)  # type: ignore[arg-type]
        nulls = [null for null in (*NULLS, *MODULE_NULLS) if null in NULLS or any(null in line.nulls for line in self.lines)]
        for null in nulls:
            table.add_column(null, justify="right", style="dim")
        for line in self.lines:
            table.add_row(*_cells(line), *(_number(line.nulls.get(null)) for null in nulls))
        return Group(table, *(Text(text) for text in self.verdict()))

    def _narrow(self, title: str) -> Table:
        table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
        for name, justify in (("", "left"), ("line", "left"), ("value", "right"), ("bar", "right"), ("oracle", "right")):
            table.add_column(name, justify=justify)  # type: ignore[arg-type]
        for line in self.lines:
            mark, name, value, _, bar, oracle = _cells(line)
            table.add_row(mark, name, value, bar, oracle)
        return table

    def show(self) -> None:
        """Show the table on the terminal or in the notebook."""
        console = Console()
        console.print(self.summary(console.width))

    def plot_spectrum(self, theme: ThemeName = "light") -> Plot:
        """Show the mean importance of every subcomponent, sorted; see `plots.plot_spectrum`."""
        from unbraid.decompose import plots

        return plots.plot_spectrum(self, theme)

    def plot_ladder(self, theme: ThemeName = "light") -> Plot:
        """Show what an adversary of each budget takes; see `plots.plot_ladder`."""
        from unbraid.decompose import plots

        return plots.plot_ladder(self, theme)

    def plot_scorecard(self, theme: ThemeName = "light") -> Plot:
        """Show how far each line is from its bar; see `plots.plot_scorecard`."""
        from unbraid.decompose import plots

        return plots.plot_scorecard(self, theme)


def _cells(line: Line) -> list[Text | str]:
    mark = {True: Text("✓", "green"), False: Text("✗", "bold red"), None: Text("·", "dim")}[line.passed]
    value = line.value
    width = "" if value.low == value.high else f"{_number(value.low)} – {_number(value.high)} (n={value.n})"
    return [mark, line.title, _number(value.value), width, "" if line.bar is None else str(line.bar), _number(line.oracle)]


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e6 else f"{value:.3g}"
