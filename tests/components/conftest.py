"""Small networks side by side in one MLP, taken apart by hand: as planted, split, merged or mixed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor, nn

from unbraid.components.config import GroupingConfig
from unbraid.components.module_scores import ModuleScores, module_scores
from unbraid.components.verb import group
from unbraid.decompose.config import DecomposeConfig
from unbraid.decompose.importance_function import ImportanceFunction
from unbraid.decompose.model import DecomposedModel
from unbraid.decompose.result import Decomposition
from unbraid.decompose.site import Factors
from unbraid.targets.target import Target
from unbraid.targets.truth import SiteTruth, Truth

K, D = 4, 3  # modules, and inputs, hidden units and outputs of each
QUICK = GroupingConfig(datapoints=3000)
Pieces = Mapping[str, tuple[Tensor, Tensor]]


class Blocks(nn.Module):
    """`relu(x A) B`, block by block."""

    def __init__(self, A: Tensor, B: Tensor) -> None:
        super().__init__()
        self.read, self.write = nn.Linear(*A.shape, bias=False), nn.Linear(*B.shape, bias=False)
        with torch.no_grad():
            self.read.weight.copy_(A.T)
            self.write.weight.copy_(B.T)

    def forward(self, x: Tensor) -> Tensor:
        return self.write(torch.relu(self.read(x)))


def module_data(size: int, generator: torch.Generator) -> Tensor:
    """Positive inputs of the modules that are on, each with a chance of 0.3."""
    on = (torch.rand(size, K, generator=generator) < 0.3).repeat_interleave(D, 1)
    return (torch.rand(size, K * D, generator=generator) + 0.5) * on


def module_needed(inputs: Tensor) -> Tensor:
    return (inputs != 0).to(inputs.dtype)  # a module's pieces and inputs have the same places


def blocks_truth(module: Blocks) -> Truth:
    names = tuple(f"m{unit // D}" for unit in range(K * D))
    eye, A, B = torch.eye(K * D), module.read.weight.detach().T, module.write.weight.detach().T
    sites = {
        "read": SiteTruth(V=A.clone(), U=eye, pattern="sparse", on=module_needed, needed=module_needed, modules=names),
        "write": SiteTruth(V=eye, U=B.clone(), pattern="sparse", on=module_needed, needed=module_needed, modules=names),
    }
    return Truth(sites=sites, module_inputs={f"m{k}": tuple(range(k * D, (k + 1) * D)) for k in range(K)})


def blocks_target(coupling: float = 0.0, **truth: object) -> Target:
    """Return the network with its truth; `coupling` lets every hidden unit read a little of every input."""
    generator = torch.Generator().manual_seed(1)
    A = torch.block_diag(*[torch.rand(D, D, generator=generator) + 0.2 for _ in range(K)])
    A = A + coupling * torch.rand(A.shape, generator=generator) * (A == 0)
    B = torch.block_diag(*[torch.randn(D, D, generator=generator) for _ in range(K)])
    module = Blocks(A, B)
    planted = replace(blocks_truth(module), **truth)  # type: ignore[arg-type]
    return Target(module, sites="*", data=module_data, truth=planted, name="blocks")


class ByInput(ImportanceFunction):
    """A subcomponent is needed wherever any of its modules is on."""

    def __init__(self, modules: Mapping[str, list[list[int]]]) -> None:
        super().__init__()
        self.modules = modules

    def forward(self, inputs: Mapping[str, Tensor], activations: Mapping[str, Tensor]) -> dict[str, Tensor]:
        on = inputs["read"].unflatten(-1, (K, D)).ne(0).any(-1)
        return {
            path: torch.stack([on[:, own].any(1) if own else on[:, 0] & False for own in all_], 1).float()
            for path, all_ in self.modules.items()
        }


def by_hand(target: Target, pieces: Pieces, modules: Mapping[str, list[list[int]]]) -> Decomposition:
    """Return a decomposition into these pieces, each needed when any of its modules is on."""
    model = DecomposedModel(target, {path: V.shape[1] for path, (V, _) in pieces.items()})
    with torch.no_grad():
        for path, (V, U) in pieces.items():
            factors = model.sites[path].factors
            assert isinstance(factors, Factors)
            factors.V.copy_(V)
            factors.U.copy_(U)
    config = DecomposeConfig.parse(
        {"components": K * D, "evaluation": {"batch_size": 256, "batches": 2, "ladder_batches": 1, "adversary_steps": [2]}}
    )
    return Decomposition(target, config, model.eval(), ByInput(modules), 1)


def planted_pieces(target: Target) -> Pieces:
    assert target.truth is not None
    return {path: (site.V, site.U) for path, site in target.truth.sites.items()}


OWN: dict[str, list[list[int]]] = {path: [[unit // D] for unit in range(K * D)] for path in ("read", "write")}


@pytest.fixture
def perfect() -> Callable[..., Decomposition]:
    def build(**truth: object) -> Decomposition:
        target = blocks_target(**truth)  # type: ignore[arg-type]
        return by_hand(target, planted_pieces(target), OWN)

    return build


def scored(decomposition: Decomposition) -> ModuleScores:
    return module_scores(decomposition, group(decomposition, QUICK))


@cache
def full_marks() -> ModuleScores:
    """The scores of the pieces as planted."""
    target = blocks_target()
    return scored(by_hand(target, planted_pieces(target), OWN))
