"""What is scored? A decomposed model with some way of saying what each input needs: the learned one, the oracle, or a null."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from unbraid.core.seeds import Streams
from unbraid.decompose.config import DecomposeConfig
from unbraid.decompose.importance_function import ImportanceFunction
from unbraid.decompose.model import Clean, DecomposedModel
from unbraid.decompose.site import Factors
from unbraid.decompose.step import importances_of
from unbraid.decompose.training import build
from unbraid.targets.target import Target
from unbraid.targets.truth import Truth


@dataclass(frozen=True)
class Subject:
    """A decomposed model and the importance of its parts on a clean pass, [..., C] per site."""

    model: DecomposedModel
    importance: Callable[[Clean], Mapping[str, Tensor]]


def learned(model: DecomposedModel, function: ImportanceFunction) -> Subject:
    """The decomposition itself."""
    return Subject(model, lambda clean: importances_of(model, function, clean).lower)


def untrained(target: Target, config: DecomposeConfig) -> Subject:
    """A null: the same factors and importance function as the training started from."""
    model, function = build(target, config)
    device = torch.device(config.device)
    return learned(model.to(device).eval(), function.to(device).eval())


def shuffled(subject: Subject, seed: int) -> Subject:
    """A null: each subcomponent keeps its own importances, but for the inputs of others."""
    generator = Streams(seed)["shuffle"]

    def importance(clean: Clean) -> dict[str, Tensor]:
        result: dict[str, Tensor] = {}
        for path, g in subject.importance(clean).items():
            order = torch.rand(g.shape, generator=generator).argsort(dim=0).to(g.device)
            result[path] = g.gather(0, order)
        return result

    return Subject(subject.model, importance)


def zeroed(subject: Subject) -> Subject:
    """A null: nothing is ever important."""
    return Subject(subject.model, lambda clean: {path: torch.zeros_like(g) for path, g in subject.importance(clean).items()})


def oracle(target: Target, truth: Truth) -> Subject:
    """The planted truth itself, as if it had been learned perfectly."""
    model = DecomposedModel(target, {path: site.rank for path, site in truth.sites.items()})
    with torch.no_grad():
        for path, site in model.sites.items():
            if isinstance(site.factors, Factors):
                site.factors.V.copy_(truth.sites[path].V)
                site.factors.U.copy_(truth.sites[path].U)
    return Subject(model, lambda clean: truth.importance(cast(Tensor, clean.batch)))
