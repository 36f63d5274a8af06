from __future__ import annotations

import pytest
import yaml

from unbraid.core.errors import UserError
from unbraid.decompose.config import DecomposeConfig
from unbraid.decompose.preset import preset, preset_names, resolve
from unbraid.targets.toy import toys

TOYS = ("tms-5-2", "tms-5-2-id", "tms-40-10", "tms-40-10-id", "residual-mlp-1")


def test_names() -> None:
    assert {"apd", "spd", "vpd"} <= set(preset_names())
    assert set(TOYS) <= set(toys.kinds())


@pytest.mark.parametrize("name", [*preset_names(), *sorted(toys.kinds())])
def test_settings_survive_yaml(name: str) -> None:
    config = preset(name)
    assert DecomposeConfig.parse(yaml.safe_load(config.to_yaml())) == config


@pytest.mark.parametrize("name", sorted(toys.kinds()))
def test_settings_of_a_toy_rebuild_the_toy(name: str) -> None:
    config = resolve(name)
    assert config.target is not None
    assert config.target["kind"] == name
    assert DecomposeConfig.parse(yaml.safe_load(config.to_yaml())) == config


def test_spd_is_the_published_recipe() -> None:
    config = preset("spd")
    assert config.importance.kind == "component-mlp"
    assert {name: loss.kind for name, loss in config.losses.items()} == {
        "stochastic": "stochastic",
        "stochastic-layerwise": "stochastic",
        "minimality": "lp-minimality",
    }


def test_vpd_has_a_persistent_adversary_and_clipped_factors() -> None:
    config = preset("vpd")
    assert "persistent-adversarial" in config.losses
    assert config.optimizer.factors.clip == 0.01


def test_apd_learns_no_importance_and_has_no_delta() -> None:
    config = preset("apd")
    assert config.importance.kind == "attribution-top-k"
    assert {name: loss.kind for name, loss in config.losses.items()} == {
        "faithfulness": "faithfulness",
        "minimality": "importance-masked",
        "simplicity": "simplicity",
    }


def test_later_settings_win() -> None:
    config = resolve("tms-5-2", "spd", {"steps": 300, "batch_size": 64}, ["steps=400", "losses.minimality.coefficient=1e-4"])
    assert (config.steps, config.batch_size) == (400, 64)
    assert config.losses["minimality"].coefficient == 1e-4
    assert config.losses["minimality"].kind == "lp-minimality"


def test_null_takes_a_loss_out() -> None:
    assert set(resolve("tms-5-2", "spd", overrides=["losses.stochastic-layerwise=null"]).losses) == {"stochastic", "minimality"}


def test_changes_to_a_preset() -> None:
    assert preset("spd", steps=7, losses={"minimality": {"coefficient": 0.5}}).losses["minimality"].coefficient == 0.5


def test_unknown_names_and_knobs() -> None:
    with pytest.raises(UserError, match="Unknown preset 'sdp'"):
        preset("sdp")
    with pytest.raises(UserError, match="Unknown target 'tms-5-3'. Closest: 'tms-5-2'"):
        resolve("tms-5-3")
    with pytest.raises(UserError, match="unknown key 'n_feature'. Closest: 'n_features'"):
        resolve("tms-5-2", overrides=["target.n_feature=6"])
