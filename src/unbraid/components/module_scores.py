"""Are the groups the planted modules? Every comparison with the truth, beside the truth itself and groups drawn at random."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from unbraid.components.calibration import Calibration, calibration
from unbraid.components.labelling import has_single_pieces, planted_names
from unbraid.components.measure import Labels, Measured, factors_of, foreground, measure, sort_subcomponents
from unbraid.components.probes import draw_probes
from unbraid.components.result import IGNORED, Modules
from unbraid.components.verb import group, group_by
from unbraid.core.errors import UserError
from unbraid.decompose.result import Decomposition
from unbraid.decompose.scorecard import Line
from unbraid.decompose.subject import oracle
from unbraid.decompose.training import build
from unbraid.targets.truth import Truth


@dataclass(frozen=True)
class ModuleScores:
    """How the groups of a decomposition compare with the planted modules.

    Attributes:
        target: The name of the target.
        names: The planted modules, modules that the data cannot tell apart under one name.
        found: What was measured on the groups.
        random: The same for groups of the same sizes drawn at random.
        untrained: The same for what training started from, without ablations.
        oracle: The same for the planted pieces, grouped by their planted firings: the best that any decomposition could give here.
        planted: The same for the planted pieces in their planted modules, however they fire: what the target itself allows.
        ignored: Subcomponents that fire too rarely to be grouped.
        background: Planted modules that nearly every input needs; nothing can be asked of them alone.
        unseen: Planted modules for which no input was seen that needs them alone.
        calibration: Groups that fire against modules that are needed.
        bars: What the toy asks for where it differs from the default; see `Truth`.
    """

    target: str
    names: tuple[str, ...]
    found: Measured
    random: Measured
    untrained: Measured
    oracle: Measured
    planted: Measured
    ignored: int
    background: tuple[str, ...]
    unseen: tuple[str, ...]
    calibration: tuple[Calibration, ...]
    bars: Mapping[str, tuple[float | None, float | None]]

    def lines(self) -> tuple[Line, ...]:
        """Return the scorecard's lines on modules."""
        from unbraid.components.lines import module_lines

        return module_lines(self)

    def tree(self) -> dict[str, Any]:
        """Return everything as JSON-ready values."""
        return asdict(self)

    def summary(self) -> Table:
        """Return one row per line: value, bar, the planted truth and the nulls."""
        table = Table(title=f"Modules of {self.target}: {self.found.groups} groups, {len(self.names)} planted", title_justify="left")
        for name in ("line", "value", "bar", "oracle", "random", "untrained"):
            table.add_column(name, justify="left" if name == "line" else "right")
        for line in self.lines():
            beside = (line.oracle, line.nulls.get("random"), line.nulls.get("untrained"))
            cells = ("" if value is None else f"{value:.3g}" for value in beside)
            table.add_row(line.title, f"{line.value.value:.3g}", "" if line.bar is None else str(line.bar), *cells)
        return table

    def show(self) -> None:
        """Show the summary on the terminal or in the notebook."""
        Console().print(self.summary())

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><td>{line.title}</td><td>{line.value.value:.3g}</td><td>{line.bar or ''}</td></tr>" for line in self.lines())
        return f"<table><caption>Modules of {self.target}</caption><tr><th>line</th><th>value</th><th>bar</th></tr>{rows}</table>"


def has_modules(truth: Truth | None) -> bool:
    """Whether there are planted modules to compare with."""
    return truth is not None and bool(truth.module_names)


def module_scores(decomposition: Decomposition, modules: Modules | None = None, seed: int = 0) -> ModuleScores:
    """Compare the groups of a decomposition with the planted modules.

    Args:
        decomposition: What was taken apart.
        modules: Its groups; by default they are made by the settings of `GroupingConfig`.
        seed: Decides fresh data, random ablations and the adversary's start.

    Raises:
        UserError: No modules are planted in the target, or its inputs are no tensors.
    """
    target, truth = decomposition.target, decomposition.target.truth
    if truth is None or not has_modules(truth):
        raise UserError(f"No modules are planted in {target.name!r}.", "Score a toy that has some: unbraid targets list --truth")
    modules = modules or group(decomposition)
    probes = draw_probes(decomposition, truth, seed=seed)
    found = measure(decomposition.model, target, truth, modules.labels, probes, seed)
    found = replace(found, stability=_stability(modules))
    random = measure(decomposition.model, target, truth, permuted(modules.labels, seed), probes, seed)
    random = replace(random, agreement=_chance(decomposition, truth, modules.labels, seed))
    pieces = oracle(target, truth).model
    perfect = group_by(lambda batch: truth.importance(cast(Tensor, batch)), target, modules.config, decomposition.device)
    best = replace(measure(pieces, target, truth, perfect.labels, probes, seed), stability=_stability(perfect))
    same = perfect.ignored + perfect.silent == 0 and best.agreement.ari > 1 - 1e-9
    planted = best if same else measure(pieces, target, truth, planted_labels(truth), probes, seed)
    own = foreground(sort_subcomponents(factors_of(decomposition.model), modules.labels, truth), probes)
    return ModuleScores(
        target.name,
        probes.names,
        found,
        random,
        _untrained(decomposition, truth, modules),
        best,
        planted,
        modules.ignored,
        tuple(probes.names[module] for module in sorted(probes.background)),
        tuple(name for index, name in enumerate(probes.names) if index not in probes.background and index not in probes.inputs),
        calibration(decomposition, modules.labels, own, probes, modules.config.threshold),
        truth.bars,
    )


def _stability(modules: Modules) -> float | None:
    return min((ari for _, ari in modules.sensitivity), default=None)


def planted_labels(truth: Truth) -> Labels:
    """Return the planted modules as groups of the planted pieces; pieces without a module, or that are zero, are in no group."""
    names = planted_names(truth)
    labels: dict[str, tuple[int, ...]] = {}
    for path, site in truth.sites.items():
        size = site.V.norm(dim=0) * site.U.norm(dim=1)
        own = site.modules or [""] * site.rank
        labels[path] = tuple(
            names.index(truth.resolvable(name)) if name and bool(size[index] > 1e-6 * size.max()) else IGNORED
            for index, name in enumerate(own)
        )
    return labels


def permuted(labels: Labels, seed: int) -> Labels:
    """Return a null: the same subcomponents in groups of the same sizes, drawn at random over all sites."""
    values = [label for own in labels.values() for label in own if label != IGNORED]
    order = iter(np.random.default_rng(seed).permutation(values).tolist())
    return {path: tuple(IGNORED if label == IGNORED else next(order) for label in own) for path, own in labels.items()}


def _chance(decomposition: Decomposition, truth: Truth, labels: Labels, seed: int, draws: int = 20) -> Any:
    """Return the mean agreement over several random groupings."""
    from unbraid.core.agreement import Agreement, agreement

    found = sort_subcomponents(factors_of(decomposition.model), labels, truth)
    generator = np.random.default_rng(seed)
    each = [agreement(generator.permutation(found.group).tolist(), found.planted.tolist()) for _ in range(draws)]
    return Agreement(*(float(np.mean([getattr(one, name) for one in each])) for name in ("ari", "nmi", "homogeneity", "completeness")))


def _untrained(decomposition: Decomposition, truth: Truth, modules: Modules) -> Measured:
    """Group and compare what training started from."""
    model, function = build(decomposition.target, decomposition.config)
    device = torch.device(decomposition.config.device)
    start = Decomposition(decomposition.target, decomposition.config, model.to(device).eval(), function.to(device).eval(), 0)
    return measure(start.model, decomposition.target, truth, group(start, modules.config).labels, None)


def has_pieces(truth: Truth) -> bool:
    """Whether single pieces are planted anywhere."""
    return any(site.modules and has_single_pieces(site) for site in truth.sites.values())
