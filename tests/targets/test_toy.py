from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from tests.models import mlp
from unbraid.core.errors import UserError
from unbraid.targets.toy import Trained, find_toy, load_target, load_weights, save_weights, toys

FIX = "unbraid targets train NAME"


def test_every_toy_tells_what_it_is() -> None:
    assert {"tms-5-2", "tms-5-2-id", "tms-40-10", "tms-40-10-id", "residual-mlp-1"} <= set(toys.kinds())
    for name in toys.kinds():
        toy = find_toy(name)
        assert toy.kind == name
        assert toy.summary
        assert toy.lesson
        assert toy.sites
        assert toys.parse(toy.tree()) == toy


def test_unknown_toy_names_the_closest() -> None:
    with pytest.raises(UserError, match=r"Unknown target 'tms52'\. Closest: 'tms-5-2'.*unbraid targets list"):
        find_toy("tms52")


def test_bundled_toy_loads_frozen() -> None:
    target = load_target("tms-5-2")
    assert [site.path for site in target.sites] == ["linear1", "linear2"]
    assert target.sites[1].tie is not None
    assert not any(parameter.requires_grad for parameter in target.module.parameters())


def test_weights_round_trip(tmp_path: Path) -> None:
    module, other = mlp(), mlp()
    save_weights(module, tmp_path / "new" / "w.safetensors")
    load_weights(other, tmp_path / "new" / "w.safetensors", FIX)
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name])


def test_missing_weights_say_how_to_make_them(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"There are no weights at .*w\.safetensors'\. Make them with: unbraid targets train NAME"):
        load_weights(mlp(), tmp_path / "w.safetensors", FIX)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".pkl", ".ckpt"])
def test_pickles_are_refused_by_name(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"w{suffix}"
    torch.save(mlp().state_dict(), path)
    with pytest.raises(UserError, match="is a pickle, which can run code"):
        load_weights(mlp(), path, FIX)


def test_pickle_under_another_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    torch.save(mlp().state_dict(), path)
    with pytest.raises(UserError, match="is not a whole safetensors file"):
        load_weights(mlp(), path, FIX)


@pytest.mark.parametrize("keep", [0, 5, 40, -1])
def test_truncated_weights_are_refused(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "w.safetensors"
    save_weights(mlp(), path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match="is not a whole safetensors file"):
        load_weights(mlp(), path, FIX)


@pytest.mark.parametrize("other", [mlp(d_hidden=7), nn.Linear(4, 3)])
def test_weights_of_another_model_are_refused(tmp_path: Path, other: nn.Module) -> None:
    path = tmp_path / "w.safetensors"
    save_weights(other, path)
    with pytest.raises(UserError, match="holds the weights of another model"):
        load_weights(mlp(), path, FIX)


def test_unlearned_features_are_those_above_the_share() -> None:
    trained = Trained(mlp(), torch.tensor([0.1, 0.5, 0.29]), torch.ones(3))
    assert trained.unlearned(0.3) == [1]


@pytest.mark.parametrize("probability", [0.0, -0.1, 1.5])
def test_probability_that_is_none_is_refused(probability: float) -> None:
    for name in ("tms-5-2", "residual-mlp-1"):
        with pytest.raises(UserError, match="'probability' was given"):
            type(find_toy(name)).parse({"probability": probability})
