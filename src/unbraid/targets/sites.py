"""Which weight matrices of a model are studied? Sites are named by module path and chosen by glob."""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unbraid.core.errors import UserError
from unbraid.targets.matrices import DECOMPOSABLE, is_decomposable, is_linear, is_table, quantised, weight_of, why_not
from unbraid.targets.models.fused import PART, View, is_fused, parts_of, split_part


@dataclass(frozen=True)
class Tie:
    """This site's weights are those of another site: read `transposed`, its read directions are the other's write directions."""

    owner: str
    transposed: bool


@dataclass(frozen=True)
class Site:
    """One weight matrix under study.

    Attributes:
        path: Module path in the model; an inserted identity ends in `.pre_identity`, a part of a fused matrix in `:NAME`.
        d_in: Width of what the matrix reads; for an embedding the size of the vocabulary, for a convolution that of a patch.
        d_out: Width of what it writes.
        tie: Set when the weights are another site's.
        part: Which outputs of the module's matrix it has; None for all.
    """

    path: str
    d_in: int
    d_out: int
    tie: Tie | None = None
    part: View | None = None

    @property
    def is_identity(self) -> bool:
        """Whether this is an identity inserted before a module, to study how that module's input is read."""
        return self.path.endswith(IDENTITY_SUFFIX)

    @property
    def module_path(self) -> str:
        """The path of the module whose matrix, or whose input, this is."""
        return split_part(self.path.removesuffix(IDENTITY_SUFFIX))[0]


IDENTITY_SUFFIX = ".pre_identity"
_LISTED = 8  # so many kinds of sites are named in an error; `unbraid sites` shows all


def match_paths(module: nn.Module, patterns: Sequence[str]) -> list[str]:
    """Return the paths of the sites that the globs choose, in the model's own order.

    A glob with a colon chooses parts of fused matrices: `*.c_attn:q`. Embeddings are chosen only by a glob that matches nothing else,
    so that `*` means every matrix that is multiplied; published runs leave the tables whole.

    Raises:
        UserError: A glob matches nothing, two globs match one site, or what was named cannot be decomposed, whole or in parts.
    """
    modules = {path: child for path, child in module.named_modules() if path}
    chosen: dict[str, str] = {}
    for pattern in patterns:
        for path in _hits(pattern, module, modules):
            if path in chosen:
                raise UserError(f"The site {path!r} is matched twice, by {chosen[path]!r} and by {pattern!r}.", "Make the globs disjoint.")
            chosen[path] = pattern
    for path, pattern in chosen.items():
        whole, part = split_part(path)
        if part is not None and whole in chosen:
            raise UserError(
                f"The matrix {whole!r} is chosen whole, by {chosen[whole]!r}, and in part, by {pattern!r}.", "Choose one or the other."
            )
    order = {path: index for index, path in enumerate(modules)}
    return sorted(chosen, key=lambda path: order[split_part(path)[0]])  # a stable sort: parts stay as they stand in the matrix


def _hits(pattern: str, root: nn.Module, modules: dict[str, nn.Module]) -> list[str]:
    """Return what one glob chooses."""
    glob, part = split_part(pattern)
    matched = [path for path in modules if fnmatch.fnmatchcase(path, glob)]
    for path in matched:
        packed = quantised(modules[path])
        if packed is not None:  # not passed over in silence, as what a wide glob matches besides matrices is
            raise UserError(f"The weights of {path!r} are quantised ({packed}).", "Load the model in float32, without quantisation.")
    takes = [path for path in matched if is_decomposable(modules[path])]
    if not takes:
        raise _no_match(glob, matched, modules)
    if part is not None:
        return _matched_parts(pattern, part, takes, root, modules)
    return [path for path in takes if not is_table(modules[path])] or takes


def _matched_parts(pattern: str, part: str, takes: list[str], root: nn.Module, modules: dict[str, nn.Module]) -> list[str]:
    found = {path: parts_of(root, path, weight_of(modules[path]).shape[1]) for path in takes if is_linear(modules[path])}
    hits = [f"{path}{PART}{name}" for path, parts in found.items() for name in parts if fnmatch.fnmatchcase(name, part)]
    if hits:
        return hits
    known = next((parts for parts in found.values() if parts), None)
    if known is not None:
        raise UserError(f"The glob {pattern!r} matches no part.", f"Parts: {', '.join(known)}.")
    fused = next((path for path in takes if is_fused(path)), None)
    why = "is not a fused matrix" if fused is None else "is fused in an order that is not known for this model"
    path = fused or takes[0]
    raise UserError(f"{pattern!r} asks for a part, but {path!r} {why}.", f"Decompose it whole: {path!r}.")


def _no_match(glob: str, matched: list[str], modules: dict[str, nn.Module]) -> UserError:
    reasons = {path: reason for path in matched if (reason := why_not(modules[path]))}
    if reasons:
        path, reason = next(iter(reasons.items()))
        return UserError(f"{path!r} cannot be decomposed: {reason}.", "Leave it out of the sites.")
    if matched:
        kinds = ", ".join(sorted({type(modules[path]).__name__ for path in matched}))
        return UserError(f"The glob {glob!r} matches only modules that cannot be decomposed ({kinds}).", f"Allowed: {DECOMPOSABLE}.")
    return UserError(
        f"The glob {glob!r} matches no site.", nearest(glob, [path for path, child in modules.items() if is_decomposable(child)])
    )


def family_of(path: str) -> str:
    """Return the glob of this site in every layer."""
    return re.sub(r"(?<=\.)\d+(?=\.|$)", "*", path)


def nearest(glob: str, paths: Iterable[str], noun: str = "Sites") -> str:
    """Say which sites are most like a glob that matched none, and which there are, in a line however large the model is."""
    families = list(dict.fromkeys(family_of(path) for path in paths))
    near = difflib.get_close_matches(glob, dict.fromkeys([*paths, *families]), n=3, cutoff=0.5)
    hint = f"Closest: {', '.join(map(repr, near))}. " if near else ""
    more = f", and {len(families) - _LISTED} more; list them: unbraid sites MODEL" if len(families) > _LISTED else "."
    return f"{hint}{noun} of this model: {', '.join(families[:_LISTED]) or 'none'}{more}"


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
        UserError: See `match_paths`; also weights that are quantised or not finite, an identity before something else than a linear map,
            or a declared tie that is not one.
    """
    modules = dict(module.named_modules())
    sites = [site_at(path, module, modules) for path in match_paths(module, patterns)]
    weights = {site.path: _checked(site, modules) for site in sites}
    ties = _ties(sites, modules) | _declared(weights, tied)
    sites = [Site(site.path, site.d_in, site.d_out, ties.get(site.path), site.part) for site in sites]
    for path in match_paths(module, identities):
        if path not in modules or not is_linear(modules[path]):
            raise UserError(f"No identity can be inserted before {path!r}.", "Allowed: nn.Linear and Hugging Face Conv1D, whole.")
        width = weight_of(modules[path]).shape[0]
        sites.append(Site(path + IDENTITY_SUFFIX, width, width))
    return tuple(sites)


def site_at(path: str, root: nn.Module, modules: dict[str, nn.Module]) -> Site:
    """Return the site that a path names, by shapes alone."""
    whole, part = split_part(path)
    d_in, d_out = weight_of(modules[whole]).shape
    if part is None:
        return Site(path, d_in, d_out)
    view = parts_of(root, whole, d_out)[part]
    return Site(path, d_in, view.width, part=view)


def _checked(site: Site, modules: dict[str, nn.Module]) -> Tensor:
    """Return a site's matrix, once its numbers can be trusted."""
    weight = weight_of(modules[site.module_path])
    if not bool(torch.isfinite(weight).all()):
        raise UserError(f"The weights of {site.path!r} hold NaN or infinity.", "Load the model again, or leave this site out.")
    return weight if site.part is None else site.part.of(weight)


def _ties(sites: Sequence[Site], modules: dict[str, nn.Module]) -> dict[str, Tie]:
    """Find sites whose modules share storage: the same parameter, or the same part of it, is one set of factors."""
    ties: dict[str, Tie] = {}
    weights = {site.path: weight_of(modules[site.module_path]) for site in sites}
    for index, site in enumerate(sites):
        for owner in sites[:index]:
            a, b = weights[owner.path], weights[site.path]
            if owner.module_path == site.module_path or a.data_ptr() != b.data_ptr() or a.numel() != b.numel():
                continue
            transposed = a.shape != b.shape or a.stride() != b.stride()
            if (owner.part is None) != (site.part is None) or (transposed and site.part is not None):
                raise UserError(
                    f"The sites {owner.path!r} and {site.path!r} overlap in one parameter without being the same.",
                    "Choose both whole, or leave one out.",
                )
            if owner.part == site.part and owner.path not in ties:
                ties[site.path] = Tie(owner.path, transposed)
    return ties


def _declared(weights: dict[str, Tensor], declared: Sequence[tuple[str, str]]) -> dict[str, Tie]:
    ties: dict[str, Tie] = {}
    for owner, path in declared:
        missing = [name for name in (owner, path) if name not in weights]
        if missing:
            raise UserError(f"The tie {owner!r} = {path!r} names {missing[0]!r}, which is not a site.", f"Sites: {', '.join(weights)}.")
        if torch.equal(weights[owner].T, weights[path]):
            ties[path] = Tie(owner, transposed=True)
        elif torch.equal(weights[owner], weights[path]):
            ties[path] = Tie(owner, transposed=False)
        else:
            raise UserError(
                f"The sites {owner!r} and {path!r} are declared tied, but their weights differ.", "Drop the tie, or load the right weights."
            )
    return ties
