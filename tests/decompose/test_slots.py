"""Is a fused matrix with some parts as sites the same matrix, and is each part masked alone?"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.models import Conv1D, decomposed
from unbraid.decompose.masks import Mask, constant_masks
from unbraid.decompose.model import Clean, DecomposedModel
from unbraid.decompose.site import DecomposedSite
from unbraid.targets.models.fused import View, views
from unbraid.targets.target import Target


class Config:
    """What says which family a model is of."""

    num_attention_heads, hidden_size = 2, 6

    def __init__(self, model_type: str) -> None:
        self.model_type = model_type


class Layer(nn.Module):
    """A fused matrix of two heads, in turn or by head, and something that uses its parts."""

    def __init__(self, family: str) -> None:
        super().__init__()
        self.config = Config(family)
        name = "c_attn" if family == "gpt2" else "query_key_value"
        self.add_module(name, Conv1D(18, 6) if family == "gpt2" else nn.Linear(6, 18))
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.get_submodule(self.name)(x)) * torch.linspace(1, 2, 18)


class Wrapped(nn.Module):
    """A model that somebody put into one of their own."""

    def __init__(self, family: str) -> None:
        super().__init__()
        self.inner = Layer(family)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x).unflatten(-1, (3, 6))[..., 0, :]


PATHS = {"gpt2": "c_attn", "gpt_neox": "query_key_value"}
both = pytest.mark.parametrize("family", PATHS)


def like(model: DecomposedModel, clean: Clean) -> dict[str, Tensor]:
    return {path: torch.rand(*site.x.shape[:-1], model.C[path]) for path, site in clean.sites.items()}


def parts(family: str) -> dict[str, View]:
    return {view.name: view for view in views(PATHS[family], 18, Config(family))}


@both
@pytest.mark.parametrize("chosen", ["*", "[qk]", "k", "v"])
def test_everything_kept_is_the_matrix_and_parts_are_its_columns(family: str, chosen: str) -> None:
    target = Target(Layer(family), sites=f"{PATHS[family]}:{chosen}", data=[torch.randn(5, 6)])
    model, _ = decomposed(target)
    x = torch.randn(4, 6)
    clean = model.clean(x)
    torch.testing.assert_close(clean.output, target(x))
    torch.testing.assert_close(model.masked(clean, constant_masks(like(model, clean), 1.0, 1.0)), target(x))
    fused: Any = target.module.get_submodule(PATHS[family])
    whole = fused.weight if family == "gpt2" else fused.weight.T
    for path, site in model.sites.items():
        outputs = parts(family)[path.rpartition(":")[2]].outputs()
        assert torch.equal(site.weight, whole[:, outputs]) and site.bias is not None
        assert torch.equal(site.bias, fused.bias[outputs])
        torch.testing.assert_close(clean.inputs[path], x)


@both
def test_masking_a_part_changes_its_outputs_alone(family: str) -> None:
    target = Target(Layer(family), sites=f"{PATHS[family]}:*", data=[torch.randn(5, 6)])
    model, _ = decomposed(target)
    clean = model.clean(torch.randn(4, 6))
    for path, g in like(model, clean).items():
        changed = (model.masked(clean, {path: Mask(g)}) != clean.output).any(0)
        assert changed.nonzero()[:, 0].tolist() == parts(family)[path.rpartition(":")[2]].outputs()


@both
def test_masked_parts_are_the_written_formula(family: str) -> None:
    layer = Layer(family)
    model, _ = decomposed(Target(layer, sites=f"{PATHS[family]}:[kv]", data=[torch.randn(5, 6)]))
    x = torch.randn(4, 6)
    clean = model.clean(x)
    masks = {path: Mask(g, torch.rand(4)) for path, g in like(model, clean).items()}
    y = layer.get_submodule(layer.name)(x).clone()
    for path, mask in masks.items():
        site = model.sites[path]
        V, U = site.factors.views()
        assert mask.delta is not None and site.bias is not None
        part = (x @ V * mask.component) @ U + mask.delta[:, None] * (x @ site.delta()) + site.bias
        y[:, parts(family)[path.rpartition(":")[2]].outputs()] = part
    torch.testing.assert_close(model.masked(clean, masks), torch.tanh(y) * torch.linspace(1, 2, 18))


def test_the_family_is_read_from_the_innermost_configuration() -> None:
    target = Target(Wrapped("gpt2"), sites="inner.c_attn:q", data=[torch.randn(5, 6)])
    assert [site.path for site in target.sites] == ["inner.c_attn:q"]
    model, _ = decomposed(target)
    assert sorted(model.state_dict()) == [f"factors.inner/c_attn:q.{name}" for name in ("U", "V", "kept")]


def test_an_identity_before_a_matrix_in_parts() -> None:
    target = Target(Layer("gpt2"), sites="c_attn:*", identities="c_attn", data=[torch.randn(5, 6)])
    model, _ = decomposed(target)
    x = torch.randn(4, 6)
    clean = model.clean(x)
    assert sorted(clean.sites) == ["c_attn.pre_identity", "c_attn:k", "c_attn:q", "c_attn:v"]
    torch.testing.assert_close(model.masked(clean, constant_masks(like(model, clean), 1.0, 1.0)), target(x))


@both
def test_the_weight_of_a_slot_is_no_number(family: str) -> None:
    """A model that used it besides calling the module would be masked in part only, and is found out by this."""
    model, _ = decomposed(Target(Layer(family), sites=f"{PATHS[family]}:*", data=[torch.randn(5, 6)]))
    slot: Any = model._twin[0].get_submodule(PATHS[family])
    assert slot.weight.shape == Layer(family).get_submodule(PATHS[family]).get_parameter("weight").shape
    assert slot.weight.dtype == torch.float32 and bool(slot.weight.isnan().all())


def test_the_same_part_of_a_shared_matrix_is_one_parameter() -> None:
    first, second = Layer("gpt_neox"), Layer("gpt_neox")
    second.get_submodule("query_key_value").weight = first.get_submodule("query_key_value").weight
    model = nn.Sequential(first, nn.Linear(18, 6), second)
    sites = ("0.query_key_value:q", "2.query_key_value:[qk]")
    built, _ = decomposed(Target(model, sites=sites, data=[torch.randn(5, 6)]))
    q, other = built.sites["0.query_key_value:q"], built.sites["2.query_key_value:q"]
    assert q.factors is other.factors
    assert built.sites["2.query_key_value:k"].factors is not q.factors
    assert isinstance(q, DecomposedSite)
