"""Tiny models, and the plain computations that the engine is compared with."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from unbraid.core.seeds import Streams
from unbraid.decompose.config import DecomposeConfig
from unbraid.decompose.importance_function import ImportanceFunction
from unbraid.decompose.masks import Mask
from unbraid.decompose.model import DecomposedModel
from unbraid.decompose.step import Importances, Step, importances_of
from unbraid.decompose.training import build
from unbraid.targets.target import Target


def mlp(d_in: int = 4, d_hidden: int = 6, d_out: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Linear(d_in, d_hidden), nn.ReLU(), nn.Linear(d_hidden, d_out))


class Pair(nn.Module):
    """`up(relu(down(x)))`."""

    def __init__(self, d: int, hidden: int) -> None:
        super().__init__()
        self.down = nn.Linear(d, hidden, bias=False)
        self.up = nn.Linear(hidden, d)

    def forward(self, x: Tensor) -> Tensor:
        return self.up(torch.relu(self.down(x)))


def tied_pair(d: int = 5, hidden: int = 2) -> Pair:
    module = Pair(d, hidden)
    with torch.no_grad():
        module.up.weight.copy_(module.down.weight.T)
    return module


class Conv1D(nn.Module):
    """Stands in for Hugging Face's class of this name: the weight is [d_in, d_out], and `nf` is the output width."""

    def __init__(self, nf: int, nx: int) -> None:
        super().__init__()
        self.nf = nf
        self.weight = nn.Parameter(torch.randn(nx, nf))
        self.bias = nn.Parameter(torch.randn(nf))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight + self.bias


def decomposed(
    target: Target, C: int = 7, importance: str = "layerwise-mlp", **settings: object
) -> tuple[DecomposedModel, ImportanceFunction]:
    """Return a decomposed model with random factors, and an importance function of this kind."""
    return build(target, DecomposeConfig.parse({"components": C, "importance": importance, **settings}))


def step_for(
    target: Target,
    model: DecomposedModel,
    function: ImportanceFunction | None = None,
    x: Tensor | None = None,
    progress: float = 0.0,
    seed: int = 0,
) -> Step:
    """Return the step that losses see; without an importance function the importances are random leaves in (0, 1)."""
    batch = target.data.batch(0, 8, torch.Generator().manual_seed(seed)) if x is None else x
    clean = model.clean(batch)
    if function is None:
        generator = torch.Generator().manual_seed(seed)
        g = {
            path: torch.rand(*site.x.shape[:-1], model.C[path], generator=generator).requires_grad_() for path, site in clean.sites.items()
        }
        importances = Importances(g, g)
    else:
        importances = importances_of(model, function, clean)
    step, other = (Step(model, clean, importances, target.behaviour, progress, Streams(seed)) for _ in range(2))
    other.keeps_delta = True
    step.elsewhere = other
    return step


def dense_weight(model: DecomposedModel, path: str, mask: Mask, row: int) -> Tensor:
    """Return the matrix [d_in, d_out] that input number `row` meets under a mask: `V diag(m) U + m_Δ Δ`, written out."""
    site = model.sites[path]
    V, U = site.factors.views()
    if mask.routed is not None and not bool(mask.routed[row]):
        return site.weight
    weight = sum((mask.component[row, c] * torch.outer(V[:, c], U[c]) for c in range(V.shape[1])), torch.zeros_like(site.weight))
    if mask.delta is not None:
        weight = weight + mask.delta[row] * (site.weight - V @ U)
    return weight


def dense_mlp_output(model: DecomposedModel, module: nn.Sequential, x: Tensor, masks: dict[str, Mask]) -> Tensor:
    """Run `mlp()` row by row with explicit dense matrices in the place of its own."""
    rows: list[Tensor] = []
    for row in range(x.shape[0]):
        value = x[row]
        for path, layer in module.named_children():
            if not isinstance(layer, nn.Linear):
                value = layer(value)
            elif path in masks:
                value = value @ dense_weight(model, path, masks[path], row) + layer.bias
            else:
                value = layer(value)
        rows.append(value)
    return torch.stack(rows)
