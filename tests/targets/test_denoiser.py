from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from unbraid.core.errors import UserError
from unbraid.targets.toy import Toy, find_toy
from unbraid.targets.toy_kit.denoiser import DenoiserModule, HotFeatures, feature_planes, fit_scalars, plane_shape, random_planes, ternary


def toy(**knobs: object) -> Toy:
    return type(find_toy("denoiser")).parse({"kind": "denoiser", **knobs})


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_inputs_have_so_many_features_on_and_noise_around() -> None:
    data = HotFeatures(50, 2, 0.03)
    clean = data.clean(100, generator())
    assert clean.sum(1).tolist() == [2.0] * 100
    noise = data.batch(0, 100, generator()) - clean
    assert float(noise.std()) == pytest.approx(0.03, rel=0.1)


def test_weights_are_ternary_and_every_feature_is_read() -> None:
    E = ternary(60, 300, 0.1, generator())
    assert set(E.unique().tolist()) == {-1.0, 0.0, 1.0}
    assert int(E.abs().sum(0).min()) >= 3
    assert float(E.abs().mean()) == pytest.approx(0.1, abs=0.01)


def test_module_is_the_written_formula() -> None:
    E = ternary(6, 10, 0.5, generator())
    module = DenoiserModule(E, "tanh3")
    module.get_buffer("c_in").fill_(1.5)
    module.get_buffer("c_out").fill_(0.3)
    x = torch.randn(4, 10)
    torch.testing.assert_close(module(x), 0.3 * torch.tanh(1.5 * x @ E.T) ** 3 @ E)
    jump = DenoiserModule(torch.eye(3), "jumprelu")
    torch.testing.assert_close(jump(torch.tensor([[0.5, 1.5, -2.0]])), torch.tensor([[0.0, 1.5, 0.0]]))


def test_fitted_scalars_cannot_be_bettered() -> None:
    E = ternary(32, 64, 0.2, generator())
    data = HotFeatures(64, 2, 0.03)
    clean, noisy = data.clean(200, generator()), data.batch(0, 200, generator())
    module = DenoiserModule(E, "tanh3")
    fit_scalars(module, clean, noisy)
    weight = torch.where(clean > 0, 8.0, 1.0)

    def error(c_in: float, c_out: float) -> float:
        return float((weight * (c_out * torch.tanh(c_in * noisy @ E.T) ** 3 @ E - clean).square()).sum())

    c_in, c_out = float(module.get_buffer("c_in")), float(module.get_buffer("c_out"))
    assert all(error(c_in, c_out) <= error(c_in * a, c_out * b) for a, b in ((0.8, 1.0), (1.25, 1.0), (1.0, 0.95), (1.0, 1.05)))


def test_planes_are_of_other_features_and_turn_by_the_angle() -> None:
    anchors, planes = feature_planes(40, 5, 60.0, generator())
    _, straight = feature_planes(40, 5, 0.0, generator())
    torch.testing.assert_close((planes * straight).sum(-1), torch.full((5, 2), math.cos(math.radians(60))))
    torch.testing.assert_close(planes.norm(dim=-1), torch.ones(5, 2))
    assert float((anchors[:, None] * straight).sum()) == 0.0
    torch.testing.assert_close(random_planes(40, 5, generator())[1].norm(dim=-1), torch.ones(5, 2))


def test_linear_model_has_exponent_two_in_every_plane() -> None:
    linear = nn.Linear(30, 30, bias=False).requires_grad_(False)
    anchors, planes = feature_planes(30, 3, 0.0, generator())
    for anchor, plane in zip(anchors, planes, strict=True):
        shape = plane_shape(linear, anchor, plane)
        assert shape.fit.p == pytest.approx(2.0, abs=0.02)


def test_model_that_never_answers_has_no_level_set() -> None:
    silent = DenoiserModule(torch.zeros(4, 10), "jumprelu").requires_grad_(False)
    anchors, planes = feature_planes(10, 1, 0.0, generator())
    with pytest.raises(UserError, match="half axes"):
        plane_shape(silent, anchors[0], planes[0])


def test_features_are_singled_out_and_random_directions_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    default = toy()
    monkeypatch.setattr(type(default), "planes", 24)
    module = default.build().requires_grad_(False)
    checks = default.checks(module)
    assert [check.passed for check in checks] == [True] * 5
    assert "median of 24" in checks[1].name


def test_truth_is_the_matrix_and_loses_only_the_noise() -> None:
    default = toy()
    module = default.build().requires_grad_(False)
    site = default.truth(module).sites["read"]
    torch.testing.assert_close(site.V @ site.U, module.read.weight.T)
    x = default.data().batch(0, 256, generator())
    assert float(site.on(x).sum(1).mean()) == 2.0
    kept = module(x * site.on(x))
    assert float((kept - module(x)).square().sum() / module(x).square().sum()) < 0.05
