"""What is one thing to verify? A toy at some knobs, a seed, and perhaps something that was spoilt on purpose."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from unbraid.core.errors import UserError, unknown
from unbraid.targets.toy import Toy, find_toy, toys
from unbraid.verify.controls import CONTROLS


@dataclass(frozen=True)
class Case:
    """One decomposition that is to be scored.

    Attributes:
        toy: The toy's name.
        seed: The decomposition's seed.
        variant: What the knobs are called; "" for the defaults.
        knobs: The toy's settings that differ from the defaults.
        control: What was spoilt, by the name of a negative control; "" for nothing.
        phase: Whether the case is a cell of the phase diagram.
        overrides: Settings laid over the toy's recipe, as "key=value".
    """

    toy: str
    seed: int = 0
    variant: str = ""
    knobs: Mapping[str, Any] = field(default_factory=dict[str, Any])
    control: str = ""
    phase: bool = False
    overrides: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What the case's folder is called."""
        parts = [self.toy, self.variant.replace(" ", "_").replace("=", ""), self.control.replace(" ", "_"), f"seed{self.seed}"]
        return "-".join(part for part in parts if part)

    @property
    def title(self) -> str:
        """How tables call the toy at these knobs."""
        return f"{self.toy}, {self.variant}" if self.variant else self.toy

    def tree(self) -> dict[str, Any]:
        """Return the case as JSON-ready values."""
        return json.loads(json.dumps(asdict(self)))


def cases(
    names: Sequence[str], seeds: int | None, first_seed: int, controls: bool, phases: bool, overrides: Sequence[str] = ()
) -> list[Case]:
    """Return everything to verify: each toy at its default knobs and variants at every seed, then the controls, then the phase diagrams.

    Args:
        names: Toys; empty for all.
        seeds: How many seeds; None for each toy's own number.
        first_seed: The first of them.
        controls: Whether to include the negative controls.
        phases: Whether to include the cells of the phase diagrams.
        overrides: Settings laid over every recipe, as "key=value".

    Raises:
        UserError: There is no toy of a name, or no seed.
    """
    known = sorted(toys.kinds())
    for name in names:
        if name not in known:
            raise unknown("target", name, known, "unbraid targets list")
    if seeds is not None and seeds < 1:
        raise UserError(f"{seeds} seeds would verify nothing.", "Give at least 1.")
    chosen = [find_toy(name) for name in (names or known)]
    found = [case for toy in chosen for case in _seeds(toy, seeds, first_seed)]
    if controls:
        found += [Case(toy.kind, control=control.name) for toy in chosen for control in CONTROLS if toy.kind in control.toys]
    if phases:
        found += [case for toy in chosen for case in _cells(toy)]
    return [replace(case, overrides=(*case.overrides, *overrides)) for case in found]


def _seeds(toy: Toy, seeds: int | None, first: int) -> Iterator[Case]:
    count = toy.verify_seeds if seeds is None else seeds
    for variant, knobs in {"": {}, **toy.variants}.items():
        for seed in range(first, first + count):
            yield Case(toy.kind, seed, variant, knobs)


def _cells(toy: Toy) -> Iterator[Case]:
    """Return the cells of a toy's phase diagram, at seed 0."""
    if toy.phase is None:
        return
    for row in toy.phase.rows:
        for column in toy.phase.columns:
            cell = {toy.phase.row_knob: row, toy.phase.column_knob: column}
            title = ", ".join(f"{knob}={value}" for knob, value in cell.items())
            yield Case(toy.kind, 0, title, {**toy.phase.fixed, **cell}, phase=True, overrides=toy.phase.overrides)
