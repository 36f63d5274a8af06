"""Which weight matrices of a model are studied? Sites are named by module path and chosen by glob."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unbraid.core.errors import UserError, closest


@dataclass(frozen=True)
class Tie:
    """This site's weights are those of another site: read `transposed`, its read directions are the other's write directions."""

    owner: str
    transposed: bool


@dataclass(frozen=True)
class Site:
    """One weight matrix under study.

    Attributes:
        path: Module path in the model; an inserted identity ends in `.pre_identity`.
        d_in: Width of what the matrix reads.
        d_out: Width of what it writes.
        tie: Set when the weights are another site's.
    """

    path: str
    d_in: int
    d_out: int
    tie: Tie | None = None

    @property
    def is_identity(self) -> bool:
        """Whether this is an identity inserted before a module, to study how that module's input is read."""
        return self.path.endswith(IDENTITY_SUFFIX)


IDENTITY_SUFFIX = ".pre_identity"


def is_conv1d(module: nn.Module) -> bool:
    """Recognise Hugging Face's `Conv1D`, a linear map that stores its weight as [d_in, d_out], without importing it."""
    return type(module).__name__ == "Conv1D" and hasattr(module, "nf")


def is_decomposable(module: nn.Module) -> bool:
    """Whether this module's weight can be written as a sum of rank-one pieces."""
    return isinstance(module, nn.Linear) or is_conv1d(module)


def weight_of(module: nn.Module) -> Float[Tensor, "d_in d_out"]:
    """Return the matrix M with `y = x @ M + bias`, whichever way round the module stores it."""
    weight = cast(Tensor, module.weight).detach()
    return weight if is_conv1d(module) else weight.T


def bias_of(module: nn.Module) -> Float[Tensor, " d_out"] | None:
    """Return the module's bias, or None when it has none."""
    bias = getattr(module, "bias", None)
    return bias.detach() if isinstance(bias, Tensor) else None


def match_paths(module: nn.Module, patterns: Sequence[str]) -> list[str]:
    """Return the paths of the modules that the globs choose, in the model's own order.

    Raises:
        UserError: A glob matches nothing, two globs match one module, or a module that was named cannot be decomposed.
    """
    modules = {path: child for path, child in module.named_modules() if path}
    decomposable = [path for path, child in modules.items() if is_decomposable(child)]
    chosen: dict[str, str] = {}
    for pattern in patterns:
        hits = [path for path in decomposable if fnmatch.fnmatchcase(path, pattern)]
        if not hits:
            raise _no_match(pattern, modules, decomposable)
        for path in hits:
            if path in chosen:
                raise UserError(f"The site {path!r} is matched twice, by {chosen[path]!r} and by {pattern!r}.", "Make the globs disjoint.")
            chosen[path] = pattern
    return [path for path in decomposable if path in chosen]


def _no_match(pattern: str, modules: dict[str, nn.Module], decomposable: list[str]) -> UserError:
    others = [path for path in modules if fnmatch.fnmatchcase(path, pattern)]
    if others:
        kinds = ", ".join(sorted({type(modules[path]).__name__ for path in others}))
        return UserError(
            f"The glob {pattern!r} matches only modules that cannot be decomposed ({kinds}).", "Allowed: nn.Linear and Hugging Face Conv1D."
        )
    near = closest(pattern, decomposable)
    hint = f"Closest: {near!r}. " if near else ""
    return UserError(f"The glob {pattern!r} matches no site.", f"{hint}Sites of this model: {', '.join(decomposable) or 'none'}.")


def find_sites(
    module: nn.Module,
    patterns: Sequence[str],
    identities: Sequence[str] = (),
    tied: Sequence[tuple[str, str]] = (),
) -> tuple[Site, ...]:
    """Resolve globs to sites, with identities inserted before the modules of `identities` and ties found or declared.

    Args:
        module: The model.
        patterns: Globs over module paths.
        identities: Globs of modules before which an identity is inserted and decomposed.
        tied: Pairs (owner, other) of sites whose weights are one parameter; shared storage is found by itself.

    Raises:
        UserError: See `match_paths`; also weights that are not finite, or a declared tie that is not one.
    """
    paths = match_paths(module, patterns)
    modules = dict(module.named_modules())
    weights = {path: weight_of(modules[path]) for path in paths}
    for path, weight in weights.items():
        if not bool(torch.isfinite(weight).all()):
            raise UserError(f"The weights of {path!r} hold NaN or infinity.", "Load the model again, or leave this site out.")
    ties = _ties(weights, tied)
    sites = [Site(path, *weights[path].shape, tie=ties.get(path)) for path in paths]
    for path in match_paths(module, identities):
        width = weight_of(modules[path]).shape[0]
        sites.append(Site(path + IDENTITY_SUFFIX, width, width))
    return tuple(sites)


def _ties(weights: dict[str, Tensor], declared: Sequence[tuple[str, str]]) -> dict[str, Tie]:
    ties: dict[str, Tie] = {}
    paths = list(weights)
    for index, path in enumerate(paths):
        for owner in paths[:index]:
            a, b = weights[owner], weights[path]
            if owner not in ties and a.data_ptr() == b.data_ptr() and a.numel() == b.numel():
                ties[path] = Tie(owner, transposed=a.shape != b.shape or a.stride() != b.stride())
    for owner, path in declared:
        missing = [name for name in (owner, path) if name not in weights]
        if missing:
            raise UserError(f"The tie {owner!r} = {path!r} names {missing[0]!r}, which is not a site.", f"Sites: {', '.join(paths)}.")
        if torch.equal(weights[owner].T, weights[path]):
            ties[path] = Tie(owner, transposed=True)
        elif torch.equal(weights[owner], weights[path]):
            ties[path] = Tie(owner, transposed=False)
        else:
            raise UserError(
                f"The sites {owner!r} and {path!r} are declared tied, but their weights differ.", "Drop the tie, or load the right weights."
            )
    return ties
