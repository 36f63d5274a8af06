"""What can be decomposed in a model? Every matrix with its path, shape, what it shares and which parts it has."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor, nn

from unbraid.core.errors import UserError
from unbraid.targets.matrices import is_conv1d, is_linear, is_matrix, is_table, why_not
from unbraid.targets.models.budget import C_RULE, MEMORY_RULE, suggested_C, training_bytes
from unbraid.targets.models.fused import PART, View, config_near, heads_note, is_fused, parts_of, split_part, views
from unbraid.targets.sites import family_of, nearest


@dataclass(frozen=True)
class SiteRow:
    """One matrix of a model.

    Attributes:
        path: Its module's path, with `:NAME` for a part of a fused matrix.
        kind: What its module is: Linear, Conv1D, Embedding or Conv2d.
        d_in: Width of what it reads; for an embedding the size of the vocabulary, for a convolution that of a patch.
        d_out: Width of what it writes.
        rank: The most that its rank can be, the smaller of the two.
        C: How many subcomponents to start with; None where it is not suggested to decompose it.
        decomposable: Whether `unbraid decompose` takes it.
        shared_with: The path of the matrix that is the same parameter and comes earlier in the model, or that this is a part of, where
            that is listed too.
        views: The parts of a fused matrix.
        note: What else there is to know.
        training_bytes: What training its factors takes; None without C.
    """

    path: str
    kind: str
    d_in: int
    d_out: int
    rank: int
    C: int | None
    decomposable: bool
    shared_with: str | None
    views: tuple[View, ...]
    note: str | None
    training_bytes: int | None

    @property
    def parameters(self) -> int:
        """How many numbers the matrix has."""
        return self.d_in * self.d_out

    @property
    def family(self) -> str:
        """The glob of this matrix in every layer."""
        return family_of(self.path)

    def tree(self) -> dict[str, Any]:
        """Return every field as JSON-ready values."""
        parts = [{**vars(view), "outputs": str(view)} for view in self.views]
        return {**vars(self), "parameters": self.parameters, "family": self.family, "views": parts}


@dataclass(frozen=True)
class SiteTable:
    """The matrices of a model that globs choose.

    Attributes:
        model: The model's class.
        rows: The chosen matrices, in the model's order.
        parameters: How many numbers the whole model has, shared ones counted once.
        rule: Where C comes from.
    """

    model: str
    rows: tuple[SiteRow, ...]
    parameters: int
    rule: str

    @property
    def matched_parameters(self) -> int:
        """How many numbers the chosen matrices have, shared ones counted once."""
        paths = {row.path for row in self.rows}
        return sum(row.parameters for row in self.rows if row.shared_with not in paths)

    @property
    def training_bytes(self) -> int:
        """What training the factors of the chosen matrices takes."""
        return sum(row.training_bytes or 0 for row in self.rows)

    def tree(self) -> dict[str, Any]:
        """Return everything as JSON-ready values."""
        return {
            "model": self.model,
            "parameters": self.parameters,
            "matched_parameters": self.matched_parameters,
            "training_bytes": self.training_bytes,
            "memory": MEMORY_RULE,
            "rule": self.rule,
            "sites": [row.tree() for row in self.rows],
        }


def list_sites(
    module: nn.Module, match: str | Sequence[str] = "*", C: Mapping[str, int] | None = None, tied: Sequence[tuple[str, str]] = ()
) -> SiteTable:
    """List the matrices of a model that globs choose.

    Args:
        module: The model; its weights are not looked at, so it may be without them.
        match: Glob or globs over module paths.
        C: Numbers of subcomponents by path, where a recipe says them.
        tied: Pairs (owner, other) of sites that are one parameter without sharing storage.

    Raises:
        UserError: A glob matches nothing that is listed.
    """
    matrices = {path: child for path, child in module.named_modules(remove_duplicate=False) if path and is_matrix(child)}
    chosen = _choose(module, matrices, [match] if isinstance(match, str) else list(match))
    owners: dict[int, str] = {}
    shared: dict[str, str] = {other: owner for owner, other in tied}
    for path, child in matrices.items():
        owner = owners.setdefault(id(child.weight), path)
        if owner != path:
            shared[path] = owner
    output, rows = _output_embeddings(module), list[SiteRow]()
    for path, view in chosen.items():
        whole, _ = split_part(path)
        child, owner = matrices[whole], shared.get(whole)
        if view is not None:
            owner = whole if whole in chosen else None if owner is None else f"{owner}{PART}{view.name}"
        known = not (child is output or is_table(child)) and why_not(child) is None
        wanted = C.get(path) if C is not None else suggested_C(*_widths(child, view)) if known else None
        rows.append(_row(path, child, view, config_near(module, whole), child is output, owner, owner in chosen, wanted))
    parameters = sum(parameter.numel() for parameter in module.parameters())
    twice = sum(cast(Tensor, matrices[other].weight).numel() for _, other in tied)
    rule = C_RULE if C is None else "as the target's own recipe has it."
    return SiteTable(type(module).__name__, tuple(rows), parameters - twice, rule)


def block_matrices(module: nn.Module) -> list[str]:
    """Return the paths of the matrices that published runs decompose: all but the embeddings and the unembedding."""
    embedded = {id(child.weight) for child in module.modules() if isinstance(child, nn.Embedding)}
    output = _output_embeddings(module)
    return [path for path, child in module.named_modules() if is_linear(child) and child is not output and id(child.weight) not in embedded]


def _widths(module: nn.Module, view: View | None = None) -> tuple[int, int]:
    """Return d_in and d_out, whichever way round the module stores its matrix, or of a part of it."""
    first, second = cast(Tensor, module.weight).flatten(1).shape
    d_in, d_out = (first, second) if is_conv1d(module) or is_table(module) else (second, first)
    return d_in, d_out if view is None else view.width


def _kind(module: nn.Module) -> str:
    """Return the class that people know, whatever a library calls its own version of it."""
    known = (nn.Linear, nn.Embedding, nn.Conv2d)
    return next((kind.__name__ for kind in known if isinstance(module, kind)), type(module).__name__)


def _output_embeddings(module: nn.Module) -> object:
    """Return the module that turns the last layer into logits over a vocabulary; None where there is none."""
    get: Any = getattr(module, "get_output_embeddings", None)
    return None if get is None else get()


def _row(
    path: str, module: nn.Module, view: View | None, config: Any, is_output: bool, owner: str | None, owner_chosen: bool, C: int | None
) -> SiteRow:
    d_in, d_out = _widths(module, view)
    parts = views(path, d_out, config) if view is None else ()
    return SiteRow(
        path=path,
        kind=_kind(module),
        d_in=d_in,
        d_out=d_out,
        rank=min(d_in, d_out),
        C=C,
        decomposable=why_not(module) is None,
        shared_with=owner,
        views=parts,
        note=f"part {view}" if view is not None else _note(path, module, parts, d_out, config, is_output),
        training_bytes=None if C is None else training_bytes(d_in, d_out, C, shares_factors=owner_chosen),
    )


def _note(path: str, module: nn.Module, parts: tuple[View, ...], d_out: int, config: Any, is_output: bool) -> str | None:
    """Say what else there is to know of a whole matrix."""
    reason = why_not(module)
    if reason is not None:
        return f"cannot be decomposed: {reason}"
    if is_table(module):
        return "a table that is looked up; published runs leave it whole"
    if is_output:
        return "unembedding; published runs leave it whole"
    if is_fused(path):
        return "fused" if parts else "fused, in an order that is not known here"
    return heads_note(path, d_out, config)


def _choose(root: nn.Module, matrices: Mapping[str, nn.Module], patterns: Sequence[str]) -> dict[str, View | None]:
    """Return the paths that some glob matches, in the model's order, each with its part of a fused matrix or None for a whole one."""
    chosen: set[str] = set()
    every: dict[str, View | None] = {}
    for path, child in matrices.items():
        every[path] = None
        every |= {f"{path}{PART}{name}": view for name, view in parts_of(root, path, _widths(child)[1]).items()}
    for pattern in patterns:
        # Only a glob with a colon asks for parts; `*` would list each fused matrix twice.
        hits = [path for path, view in every.items() if (PART in pattern) is (view is not None) and fnmatch.fnmatchcase(path, pattern)]
        if not hits:
            raise UserError(
                f"The glob {pattern!r} matches no matrix.", nearest(pattern, every if PART in pattern else matrices, "Matrices")
            )
        chosen.update(hits)
    return {path: view for path, view in every.items() if path in chosen}
