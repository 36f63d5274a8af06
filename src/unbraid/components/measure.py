"""What is measured on one way of grouping? The same questions are put to the groups that were found, to the planted ones and to the nulls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy import ndarray
from scipy.optimize import linear_sum_assignment

from unbraid.components.coverage import Factors, PieceMatch, SubspaceMatch, match_all_pieces, match_subspaces
from unbraid.components.cross_talk import CrossTalk, Group, cross_talk, input_side, output_side
from unbraid.components.labelling import planted_modules, planted_names
from unbraid.components.probes import Probes
from unbraid.components.result import IGNORED
from unbraid.components.sufficiency import GroupWorth, group_worth
from unbraid.core.agreement import NOTHING, Agreement, agreement
from unbraid.core.seeds import Streams
from unbraid.decompose.model import DecomposedModel
from unbraid.targets.target import Target
from unbraid.targets.truth import Truth

MOST_GROUPS = 256  # groups that are ablated, the weightiest; a decomposition with more has found no modules
INPUT_ROWS = 2048  # inputs per ablation on the input side, over all modules

Labels = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Sorted:
    """Every grouped subcomponent of all sites that have planted modules, one entry each.

    Attributes:
        group: Its group.
        planted: Its planted module, by the number of the name.
        share: How much of it lies in that module.
        size: `‖V_c‖ ‖U_c‖` over the sum at its site, so that sites count alike.
        where: Its site and index.
        names: The planted modules.
    """

    group: ndarray
    planted: ndarray
    share: ndarray
    size: ndarray
    where: tuple[tuple[str, int], ...]
    names: tuple[str, ...]

    def mass(self) -> dict[tuple[int, int], float]:
        """Return how much of each group lies in each planted module."""
        total: dict[tuple[int, int], float] = {}
        for group, module, value in zip(self.group.tolist(), self.planted.tolist(), (self.size * self.share).tolist(), strict=True):
            total[group, module] = total.get((group, module), 0.0) + value
        return total


@dataclass(frozen=True)
class Measured:
    """What was measured on one grouping; parts that were not asked for are None or empty.

    Attributes:
        agreement: Groups against planted modules.
        weighted: The same, each subcomponent counted by its norm.
        groups: How many groups have a subcomponent at a site with planted modules.
        module_groups: Planted module → the group that was matched to it.
        recognised: The modules whose group holds most of the module's mass, and little else.
        share: How much of a subcomponent lies in one planted module, the mean by norm.
        pieces: Site → how the planted pieces were matched.
        subspaces: Per site and module, how alike the spans are.
        output_side: Cross-talk of ablated groups; groups of the background are left out.
        input_side: Cross-talk of resampled inputs.
        worth: What each module's group is worth to it.
        stability: The least ARI of the groups with those at half and at twice the α; None for groups that α did not make.
    """

    agreement: Agreement = NOTHING
    weighted: Agreement = NOTHING
    groups: int = 0
    module_groups: Mapping[str, int] = field(default_factory=dict[str, int])
    recognised: tuple[str, ...] = ()
    share: float = 0.0
    pieces: Mapping[str, PieceMatch] = field(default_factory=dict[str, PieceMatch])
    subspaces: tuple[SubspaceMatch, ...] = ()
    output_side: CrossTalk | None = None
    input_side: CrossTalk | None = None
    worth: tuple[GroupWorth, ...] = ()
    stability: float | None = None


def factors_of(model: DecomposedModel) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Return the subcomponents of every site, on the CPU."""
    found: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    for path, site in model.sites.items():
        V, U = site.factors.views()
        found[path] = V.detach().cpu(), U.detach().cpu()
    return found


def sort_subcomponents(factors: Factors, labels: Labels, truth: Truth) -> Sorted:
    """Put the group and the planted module of every grouped subcomponent side by side."""
    group, planted, share, size, where = list[int](), list[int](), list[float](), list[float](), list[tuple[str, int]]()
    for path, site in truth.sites.items():
        alive = [index for index, label in enumerate(labels[path]) if label != IGNORED]
        if not site.modules or not alive:
            continue
        V, U = factors[path]
        own = planted_modules(V[:, alive], U[alive], site, truth)
        norms = V[:, alive].norm(dim=0) * U[alive].norm(dim=1)
        group += [labels[path][index] for index in alive]
        planted += own.module.tolist()
        share += own.share.tolist()
        size += (norms / norms.sum().clamp(min=1e-12)).tolist()
        where += [(path, index) for index in alive]
    arrays = np.array(group, dtype=np.int64), np.array(planted, dtype=np.int64), np.array(share), np.array(size)
    return Sorted(*arrays, tuple(where), planted_names(truth))


def match_modules(found: Sorted) -> dict[int, int]:
    """Give each planted module a group of its own, so that the greatest mass agrees (Hungarian); returns module → group."""
    groups = sorted(set(found.group.tolist()))
    table = np.zeros((len(groups), len(found.names)))
    for (group, module), value in found.mass().items():
        table[groups.index(group), module] = value
    rows, columns = linear_sum_assignment(table, maximize=True)
    return {module: groups[row] for row, module in zip(rows.tolist(), columns.tolist(), strict=True) if table[row, module] > 0}


def recognised(found: Sorted, own: Mapping[int, int]) -> list[int]:
    """Return the modules of which more than half is in their group, and whose group is more than half theirs."""
    mass = found.mass()
    return [
        module
        for module, group in own.items()
        if 2 * mass[group, module] > sum(value for (_, other), value in mass.items() if other == module)
        and 2 * mass[group, module] > sum(value for (other, _), value in mass.items() if other == group)
    ]


def measure(model: DecomposedModel, target: Target, truth: Truth, labels: Labels, probes: Probes | None, seed: int = 0) -> Measured:
    """Measure one grouping.

    Args:
        model: The decomposed model.
        target: What was decomposed.
        truth: What is planted in it.
        labels: Site → the group of every subcomponent, or -1.
        probes: Inputs that need one module alone; None leaves out what takes ablations.
        seed: Decides random ablations and the adversary's start.
    """
    factors = factors_of(model)
    found = sort_subcomponents(factors, labels, truth)
    members = _members(labels)
    own = match_modules(found)
    alive = {path: torch.tensor([i for i, label in enumerate(labels[path]) if label != IGNORED], dtype=torch.long) for path in labels}
    result = Measured(
        agreement=agreement(found.group.tolist(), found.planted.tolist()),
        weighted=agreement(found.group.tolist(), found.planted.tolist(), found.size.tolist()),
        groups=len(set(found.group.tolist())),
        module_groups={found.names[module]: group for module, group in sorted(own.items())},
        recognised=tuple(found.names[module] for module in recognised(found, own)),
        share=float((found.size * found.share).sum() / found.size.sum()) if len(found.size) else 0.0,
        pieces=match_all_pieces(factors, alive, truth),
        subspaces=match_subspaces(factors, {found.names[module]: members[group] for module, group in own.items()}, truth),
    )
    if probes is None or not probes.modules:
        return result
    return _ablated(result, model, target, truth, found, members, own, probes, seed)


def _ablated(
    result: Measured,
    model: DecomposedModel,
    target: Target,
    truth: Truth,
    found: Sorted,
    members: Mapping[int, Group],
    own: Mapping[int, int],
    probes: Probes,
    seed: int,
) -> Measured:
    streams = Streams(seed)
    chosen = foreground(found, probes)
    groups = [members[group] for group in chosen]
    names, columns = [str(group) for group in chosen], [probes.names[module] for module in probes.modules]
    out = cross_talk(output_side(model, target.behaviour, groups, probes).cpu(), names, columns)
    reads = _columns(truth, probes)
    listening = None
    if reads and groups:
        inputs = probes.mixed[: max(32, INPUT_ROWS // len(reads))]
        T = input_side(model, groups, reads, inputs, probes.inputs, streams["module-inputs"])
        listening = cross_talk(T.cpu(), names, [probes.names[module] for module in reads])
    background: dict[str, tuple[int, ...]] = {}
    for (path, index), module in zip(found.where, found.planted.tolist(), strict=True):
        if module in probes.background:
            background[path] = (*background.get(path, ()), index)
    matched = {module: (group, members[group]) for module, group in own.items()}
    worth = group_worth(model, target.behaviour, matched, background, probes, streams["module-masks"])
    return replace(result, output_side=out, input_side=listening, worth=worth)


def foreground(found: Sorted, probes: Probes) -> list[int]:
    """Return the groups that are ablated: the weightiest, without those that lie mostly in modules that are always on."""
    mass: dict[int, list[float]] = {}
    for (group, module), value in found.mass().items():
        mass.setdefault(group, [0.0, 0.0])[module in probes.background] += value
    mine = [group for group, (front, back) in mass.items() if front >= back]
    return sorted(sorted(mine, key=lambda group: (-mass[group][0], group))[:MOST_GROUPS])


def _members(labels: Labels) -> dict[int, Group]:
    found: dict[int, dict[str, tuple[int, ...]]] = {}
    for path, own in labels.items():
        for index, label in enumerate(own):
            if label != IGNORED:
                group = found.setdefault(label, {})
                group[path] = (*group.get(path, ()), index)
    return dict(found)


def _columns(truth: Truth, probes: Probes) -> dict[int, tuple[int, ...]]:
    """Return the input features of each module that can be asked for, where the truth knows them."""
    columns: dict[int, tuple[int, ...]] = {}
    for name, features in truth.module_inputs.items():
        module = probes.names.index(truth.resolvable(name))
        if module in probes.sample:
            columns[module] = tuple(dict.fromkeys([*columns.get(module, ()), *features]))
    return columns
