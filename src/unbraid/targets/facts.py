"""What is known about a toy before it is taken apart? Its sites, what is planted, its recipe, and how well it does its task."""

from __future__ import annotations

from typing import Any

from torch import nn

from unbraid.targets.matrices import weight_of
from unbraid.targets.sites import match_paths
from unbraid.targets.toy import Check, Toy
from unbraid.targets.truth import Truth


def overview(toy: Toy) -> dict[str, Any]:
    """Return a toy's name, what is planted, the lesson, its sites and where its weights come from, as JSON-ready values."""
    return {
        "name": toy.kind,
        "planted": toy.summary,
        "lesson": toy.lesson,
        "sites": match_paths(toy.build(), toy.sites),
        "weights": weights_of(toy),
    }


def planted(toy: Toy) -> dict[str, Any]:
    """Return what is planted in a toy: pieces and modules by site, and what the data cannot tell apart, as JSON-ready values."""
    module = toy.build() if weights_of(toy) == "missing" else toy.load()
    truth = toy.truth(module)
    return {
        **overview(toy),
        "sites": _sites(toy, module, truth),
        "modules": truth.module_names,
        "unresolvable": [sorted(merged) for merged in truth.unresolvable],
        "negative_control": toy.negative_control,
    }


def weights_of(toy: Toy) -> str:
    """Say where a toy's weights come from: "bundled", "cached" for other knobs, "missing" until somebody trains it, or "built"."""
    path = toy.weights_path()
    if path is None:
        return "built"
    return "missing" if not path.exists() else "bundled" if toy.at_default_knobs else "cached"


def facts(toy: Toy) -> dict[str, Any]:
    """Return everything that `targets show` says about a toy, as JSON-ready values; what needs weights is None without them."""
    weights = weights_of(toy)
    module = toy.build() if weights == "missing" else toy.load()
    trained = None if weights == "missing" else toy.measure(module)
    panel = None if weights == "missing" else toy.panel(module)
    return {
        **overview(toy),
        "model": type(module).__name__,
        "parameters": sum(parameter.numel() for parameter in module.parameters()),
        "sites": _sites(toy, module, toy.truth(module)),
        "data": str(toy.data()),
        "settings": toy.tree(),
        "recipe": dict(toy.recipe),
        "loss_per_feature": trained and trained.loss_per_feature.tolist(),
        "naive_per_feature": trained and trained.naive_per_feature.tolist(),
        "checks": None if weights == "missing" else [_check(check) for check in toy.checks(module)],
        "panel": panel and panel.tree(),
    }


def _check(check: Check) -> dict[str, Any]:
    limits = {"low": check.low, "high": check.high, "passed": check.passed, "why": check.why}
    return {"name": check.name, "value": check.value, **limits}


def _sites(toy: Toy, module: nn.Module, planted: Truth) -> list[dict[str, Any]]:
    """List each site with its shape, its tie and what is planted in it."""
    modules, owners = dict(module.named_modules()), {other: owner for owner, other in toy.tied}
    rows: list[dict[str, Any]] = []
    for path in match_paths(module, toy.sites):
        d_in, d_out = weight_of(modules[path]).shape
        truth = planted.sites.get(path)
        rows.append(
            {
                "path": path,
                "d_in": d_in,
                "d_out": d_out,
                "tied_to": owners.get(path),
                "pieces": truth and truth.rank,
                "pattern": truth and truth.pattern,
                "modules": truth and len(set(truth.modules)),
                "any_basis": truth and truth.any_basis,
            }
        )
    return rows
