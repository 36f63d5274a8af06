"""How much of each output would go, to first order, if a component were taken away? Gradient attributions (Braun et al. 2025).

A component c has `rank` subcomponents in every site, P_c = {site: Σ V_j U_j}. What the published method calls its attribution is

    A_c(x) = sqrt( mean over outputs o of ( Σ_sites ∂f_o/∂M_site · P_c )² ),        ∂f_o/∂M · V_j U_j = (x · V_j) (U_j · ∂f_o/∂y).

The inner sum is the slope of f_o with respect to one mask that all of the component's subcomponents share, at the point where
every mask and Δ's are one and the model is the target itself. So it is read off a masked pass, whatever the architecture.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from unbraid.core.errors import UserError
from unbraid.decompose.masks import Mask
from unbraid.decompose.model import Clean, DecomposedModel


def spread(values: Float[Tensor, "batch K"], lead: torch.Size, rank: int) -> Float[Tensor, "*lead C"]:
    """Give every subcomponent, at every position of an input, the value of its component; C = K · rank."""
    each = values.repeat_interleave(rank, dim=-1) if rank > 1 else values
    return each.view(len(values), *[1] * (len(lead) - 1), -1).expand(*lead, -1)


@torch.enable_grad()
def attributions(model: DecomposedModel, clean: Clean, rank: int = 1) -> Float[Tensor, "batch K"]:
    """Return A_c(x) of every component, detached: subcomponents `c · rank … (c + 1) · rank - 1` of every site are component c.

    All outputs of an input count, at all its positions; there is one backward pass for each.

    Raises:
        UserError: A site or the output does not have the inputs along its first axis.
    """
    rows = clean.output.shape[0]
    wrong = [path for path, site in clean.sites.items() if site.x.dim() < 2 or site.x.shape[0] != rows]
    if wrong:
        raise UserError(
            f"Attributions need inputs along the first axis, which they are not at the site {wrong[0]!r}.", "Leave that site out."
        )
    K = next(iter(model.C.values())) // rank
    shared = clean.output.new_ones(rows, K).requires_grad_()
    masks: dict[str, Mask] = {}
    for path, site in clean.sites.items():
        lead = site.x.shape[:-1]
        masks[path] = Mask(spread(shared, lead, rank), site.x.new_ones(lead))
    outputs = model.masked(clean, masks).flatten(1)
    squares = torch.zeros_like(shared, requires_grad=False)
    for o in range(outputs.shape[1]):
        (slope,) = torch.autograd.grad(outputs[:, o].sum(), shared, retain_graph=True)
        squares += slope.square()
    return (squares / outputs.shape[1]).sqrt()
