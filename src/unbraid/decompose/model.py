"""How does a whole model run with chosen subcomponents ablated? A twin of the target whose sites are decomposed.

The twin shares every tensor with the target and leaves the target itself untouched.
"""

from __future__ import annotations

import copy
import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn

from unbraid.core.errors import UserError
from unbraid.decompose.masks import Masks
from unbraid.decompose.pure import is_pure
from unbraid.decompose.reading import reading_of
from unbraid.decompose.site import NO_MASKS, CleanSite, DecomposedSite, Factors, Pass, Remembered, TransposedFactors
from unbraid.decompose.slots import Parts, Slot
from unbraid.targets.data import Batch
from unbraid.targets.matrices import bias_of, weight_of
from unbraid.targets.models.budget import suggested_C
from unbraid.targets.sites import Site
from unbraid.targets.target import Target, apply

Components = int | Mapping[str, int] | Literal["suggested"]


@dataclass(frozen=True)
class Clean:
    """The target's own forward pass on a batch.

    Attributes:
        batch: The inputs.
        output: The model's output, without gradient.
        sites: What each site saw and gave.
    """

    batch: Batch
    output: Tensor
    sites: dict[str, CleanSite]

    @property
    def inputs(self) -> dict[str, Tensor]:
        """The input of every site, [..., d_in]."""
        return {path: site.x for path, site in self.sites.items()}


class DecomposedModel(nn.Module):
    """The target with every site written as V U + Δ.

    Args:
        target: The model under study.
        components: C for every site, a mapping from globs over site paths to C, or "suggested", the wider side of each matrix.

    Raises:
        UserError: A glob matches no site or a site has no C; see also `Target`.
    """

    def __init__(self, target: Target, components: Components) -> None:
        super().__init__()
        self.C = resolve_components(target.sites, components)
        self._shared = Pass()
        twin = _twin(target.module)
        factors: dict[str, Factors | TransposedFactors] = {}
        self._wrappers: dict[str, DecomposedSite] = {}
        for site in target.sites:
            factors[site.path] = _factors(site, self.C[site.path], factors)
            self._wrappers[site.path] = _insert(twin, site, factors[site.path], self._shared)
        for parent, name, child in _leaves(twin):
            setattr(parent, name, Remembered(child, self._shared))
        self._twin = (twin,)  # in a tuple: its frozen tensors are the target's, not part of this module's state
        self.factors = nn.ModuleDict({_key(path): f for path, f in factors.items() if isinstance(f, Factors)})

    @property
    def sites(self) -> dict[str, DecomposedSite]:
        """The decomposed sites by path, in the model's order."""
        return self._wrappers

    @property
    def twin(self) -> nn.Module:
        """The copy of the target that is run, with a decomposed site in the place of every site."""
        return self._twin[0]

    @property
    def pruned(self) -> bool:
        """Whether any subcomponent was pruned."""
        return any(not bool(module.kept.all()) for module in self.factors.values() if isinstance(module, Factors))

    def _apply(self, fn, recurse: bool = True):  # type: ignore[no-untyped-def]
        super()._apply(fn, recurse)
        self._twin[0]._apply(fn)
        return self

    def clean(self, batch: Batch) -> Clean:
        """Run the target's own forward pass and remember what each site saw, for `masked` to share."""
        sites: dict[str, CleanSite] = {}
        self._shared.masks, self._shared.clean, self._shared.recording = NO_MASKS, sites, True
        try:
            with torch.no_grad():
                output = self._run(batch)
        finally:
            self._shared.recording = False
        missing = [path for path in self._wrappers if path not in sites]
        if missing:
            raise UserError(f"The site {missing[0]!r} is not used in the forward pass.", "Leave it out of the sites.")
        changed = [self._wrappers[path] for path, site in sites.items() if not site.input.unchanged]
        if changed:
            for wrapper in changed:
                wrapper.copies_input = True
            return self.clean(batch)
        return Clean(batch, output, sites)

    def masked(self, clean: Clean, masks: Masks, fixed: bool = False, shares: bool = True) -> Tensor:
        """Return the model's output on the same batch under masks; a site without a mask is as in the target.

        With `fixed` the gradient knows the masks alone, and V and U cost it nothing. A pass that does not share computes `x V` of its own.
        """
        self._shared.masks, self._shared.clean, self._shared.fixed, self._shared.shares = masks, clean.sites, fixed, shares
        try:
            return self._run(clean.batch)
        finally:
            self._shared.masks, self._shared.fixed, self._shared.shares = NO_MASKS, False, True

    def _run(self, batch: Batch) -> Tensor:
        """Run the twin without torch's fused attention layers, which would read the weights and pass the sites by."""
        fused = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            return apply(self._twin[0], batch)
        finally:
            torch.backends.mha.set_fastpath_enabled(fused)

    def activations(self, clean: Clean) -> dict[str, Tensor]:
        """Return `x V` of the target's own pass, [..., C] per site."""
        return {path: site.activation(clean.sites[path]) for path, site in self._wrappers.items()}


def resolve_components(sites: tuple[Site, ...], components: Components) -> dict[str, int]:
    """Give every site its number of subcomponents; tied sites must agree.

    Raises:
        UserError: C is not positive, a glob matches no site, a site has no C, or tied sites differ.
    """
    if components == "suggested":
        return {site.path: suggested_C(site.d_in, site.d_out) for site in sites}
    globs = {"*": components} if isinstance(components, int) else dict(components)
    paths = [site.path for site in sites]
    for glob, C in globs.items():
        if C <= 0:
            raise UserError(
                f"components: {glob!r} was given C = {C}.", "C is a positive whole number, best well above the number of mechanisms."
            )
        if not any(fnmatch.fnmatchcase(path, glob) for path in paths):
            raise UserError(f"components: the glob {glob!r} matches no site.", f"Sites: {', '.join(paths)}.")
    result: dict[str, int] = {}
    for path in paths:
        # The most exact glob wins, so that {"*": 20, "hidden": 8} reads as a person means it.
        matching = sorted((glob for glob in globs if fnmatch.fnmatchcase(path, glob)), key=lambda glob: (glob == path, len(glob)))
        if not matching:
            raise UserError(f"components: the site {path!r} has no C.", 'Add it, or a glob such as "*": 20.')
        result[path] = globs[matching[-1]]
    for site in sites:
        if site.tie is not None and result[site.path] != result[site.tie.owner]:
            raise UserError(f"components: {site.path!r} is tied to {site.tie.owner!r} but has another C.", "Give both the same C.")
    return result


def _key(path: str) -> str:
    return path.replace(".", "/")  # ModuleDict forbids dots in names


def _twin(module: nn.Module) -> nn.Module:
    """Copy the module tree but share every tensor, frozen."""
    memo: dict[int, object] = {}
    for parameter in module.parameters():
        memo[id(parameter)] = nn.Parameter(parameter.detach(), requires_grad=False)
    for buffer in module.buffers():
        memo[id(buffer)] = buffer
    return copy.deepcopy(module, memo)


def _factors(site: Site, C: int, known: Mapping[str, Factors | TransposedFactors]) -> Factors | TransposedFactors:
    if site.tie is None:
        return Factors(site.d_in, site.d_out, C)
    owner = known[site.tie.owner]
    if not site.tie.transposed:
        return owner
    return TransposedFactors(owner) if isinstance(owner, Factors) else owner.owner


def _insert(twin: nn.Module, site: Site, factors: Factors | TransposedFactors, shared: Pass) -> DecomposedSite:
    """Put a decomposed site in the place of its module, or of a part of it, or, for an identity, before it."""
    module = twin.get_submodule(site.module_path)
    if site.is_identity:
        wrapper = DecomposedSite(site.path, torch.eye(site.d_in), None, factors, shared)
        _replace(twin, module, nn.Sequential(wrapper, module))
        return wrapper
    if site.part is None:
        wrapper = DecomposedSite(site.path, _checked(site, module), bias_of(module), factors, shared, reading_of(module))
        # A Linear's transposed weight gives a use besides calling it away by itself.
        _replace(twin, module, wrapper if isinstance(module, nn.Linear) else Slot(wrapper, cast(Tensor, module.weight).shape))
        return wrapper
    if isinstance(module, Slot):  # another part of the same matrix came before
        parts = cast(Parts, module.inner)
    else:
        parts = Parts(_checked(site, module), bias_of(module))
        _replace(twin, module, Slot(parts, cast(Tensor, module.weight).shape))
    wrapper = DecomposedSite(site.path, *parts.columns(site.part), factors, shared)
    parts.put(site.part, wrapper)
    return wrapper


def _checked(site: Site, module: nn.Module) -> Tensor:
    """Return the whole matrix of a site's module, which has to be float32."""
    weight = weight_of(module)
    if weight.dtype != torch.float32:
        name = str(weight.dtype).removeprefix("torch.")
        raise UserError(f"The weights of {site.path!r} are {name}.", "Decompose a float32 copy: module.float(), and the data alike.")
    return weight


def _replace(root: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put a module wherever another one stands, which may be in several places: a call by either name is a call of the site."""
    for path in [path for path, child in root.named_modules(remove_duplicate=False) if child is old]:
        parent, _, name = path.rpartition(".")
        setattr(root.get_submodule(parent), name, new)


def _leaves(root: nn.Module) -> list[tuple[nn.Module, str, nn.Module]]:
    """List the pure modules without sites, with their parents."""
    return [
        (parent, name, child)
        for parent in root.modules()
        if not isinstance(parent, DecomposedSite)
        for name, child in parent.named_children()
        if is_pure(child)
    ]
