"""What can be decomposed in a model? Every matrix with its path, shape, what it shares and which parts it has."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor, nn

from unbraid.core.errors import UserError, closest
from unbraid.targets.models.budget import C_RULE, MEMORY_RULE, suggested_C, training_bytes
from unbraid.targets.models.fused import View, heads_note, is_fused, text_config, views
from unbraid.targets.sites import is_conv1d, is_decomposable


@dataclass(frozen=True)
class SiteRow:
    """One matrix of a model.

    Attributes:
        path: Its module's path.
        kind: The module's class: Linear, Conv1D or Embedding.
        d_in: Width of what it reads; for an embedding the size of the vocabulary.
        d_out: Width of what it writes.
        rank: The most that its rank can be, the smaller of the two.
        C: How many subcomponents to start with; None where it is not suggested to decompose it.
        decomposable: Whether `unbraid decompose` takes it.
        shared_with: The path of the matrix that is the same parameter and comes earlier in the model.
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
        return re.sub(r"(?<=\.)\d+(?=\.|$)", "*", self.path)

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
    matrices = {path: child for path, child in module.named_modules(remove_duplicate=False) if path and _is_matrix(child)}
    chosen = _choose(matrices, [match] if isinstance(match, str) else list(match))
    owners: dict[int, str] = {}
    shared: dict[str, str] = {other: owner for owner, other in tied}
    for path, child in matrices.items():
        owner = owners.setdefault(id(child.weight), path)
        if owner != path:
            shared[path] = owner
    config, output = text_config(module), _output_embeddings(module)
    rows: list[SiteRow] = []
    for path in chosen:
        owner = shared.get(path)
        is_output = matrices[path] is output
        wanted = C.get(path) if C is not None else None if is_output else _suggestion(matrices[path])
        rows.append(_row(path, matrices[path], config, is_output, owner, owner in chosen, wanted))
    parameters = sum(parameter.numel() for parameter in module.parameters())
    twice = sum(cast(Tensor, matrices[other].weight).numel() for _, other in tied)
    rule = C_RULE if C is None else "as the target's own recipe has it."
    return SiteTable(type(module).__name__, tuple(rows), parameters - twice, rule)


def block_matrices(module: nn.Module) -> list[str]:
    """Return the paths of the matrices that published runs decompose: all but the embeddings and the unembedding."""
    embedded = {id(child.weight) for child in module.modules() if isinstance(child, nn.Embedding)}
    output = _output_embeddings(module)
    return [
        path
        for path, child in module.named_modules()
        if is_decomposable(child) and child is not output and id(child.weight) not in embedded
    ]


def _is_matrix(module: nn.Module) -> bool:
    return is_decomposable(module) or isinstance(module, nn.Embedding)


def _widths(module: nn.Module) -> tuple[int, int]:
    """Return d_in and d_out, whichever way round the module stores its matrix."""
    first, second = cast(Tensor, module.weight).shape
    return (first, second) if is_conv1d(module) or isinstance(module, nn.Embedding) else (second, first)


def _suggestion(module: nn.Module) -> int | None:
    return suggested_C(*_widths(module)) if is_decomposable(module) else None


def _output_embeddings(module: nn.Module) -> object:
    """Return the module that turns the last layer into logits over a vocabulary; None where there is none."""
    get: Any = getattr(module, "get_output_embeddings", None)
    return None if get is None else get()


def _row(path: str, module: nn.Module, config: Any, is_output: bool, owner: str | None, owner_chosen: bool, C: int | None) -> SiteRow:
    (d_in, d_out), takes = _widths(module), is_decomposable(module)
    parts = views(path, d_out, config)
    if parts:
        note = "fused"
    elif is_fused(path):
        note = "fused, in an order that is not known here"
    elif not takes:
        note = "a table that is looked up; it cannot be decomposed"
    elif is_output:
        note = "unembedding; published runs leave it whole"
    else:
        note = heads_note(path, d_out, config)
    return SiteRow(
        path=path,
        kind="Conv1D" if is_conv1d(module) else "Linear" if takes else "Embedding",
        d_in=d_in,
        d_out=d_out,
        rank=min(d_in, d_out),
        C=C,
        decomposable=takes,
        shared_with=owner,
        views=parts,
        note=note,
        training_bytes=None if C is None else training_bytes(d_in, d_out, C, shares_factors=owner_chosen),
    )


def _choose(matrices: Mapping[str, nn.Module], patterns: Sequence[str]) -> list[str]:
    """Return the paths that some glob matches, in the model's order."""
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(path, pattern) for path in matrices):
            near = closest(pattern, matrices)
            families = dict.fromkeys(re.sub(r"(?<=\.)\d+(?=\.|$)", "*", path) for path in matrices)
            hint = f"Closest: {near!r}. " if near else ""
            raise UserError(f"The glob {pattern!r} matches no matrix.", f"{hint}Matrices of this model: {', '.join(families) or 'none'}.")
    return [path for path in matrices if any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns)]
