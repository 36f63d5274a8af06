from __future__ import annotations

import pytest

from unbraid.core.errors import UserError
from unbraid.decompose.config import DecomposeConfig


def test_name_of_a_loss_is_its_kind_unless_it_says_otherwise() -> None:
    config = DecomposeConfig.parse({"losses": {"stochastic": {}, "layerwise": {"kind": "stochastic", "routing": "layerwise"}}})
    assert {name: loss.kind for name, loss in config.losses.items()} == {"stochastic": "stochastic", "layerwise": "stochastic"}


def test_null_takes_a_loss_out() -> None:
    config = DecomposeConfig.parse({"losses": {"stochastic": {}, "minimality": None}})
    assert list(config.losses) == ["stochastic"]


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"losses": {"stochstic": {}}}, "Unknown loss 'stochstic'. Closest: 'stochastic'"),
        ({"losses": {"stochastic": {"rooting": "all"}}}, "unknown key 'rooting'. Closest: 'routing'"),
        ({"losses": ["stochastic"]}, "losses is a mapping from a name to the settings of a loss"),
        ({"importance": "global"}, "Unknown importance function 'global'. Closest: 'global-mlp'"),
        ({"initialisation": {"kind": "gausian"}}, "Unknown initialisation 'gausian'. Closest: 'gaussian'"),
        ({"optimizer": {"factors": {"learning_rte": 1}}}, "unknown key 'optimizer.factors.learning_rte'. Closest: 'learning_rate'"),
        ({"steps": 0}, "'steps' was given 0"),
        ({"batchsize": 3}, "unknown key 'batchsize'. Closest: 'batch_size'"),
    ],
)
def test_wrong_settings_are_explained(tree: dict[str, object], message: str) -> None:
    with pytest.raises(UserError) as error:
        DecomposeConfig.parse(tree)
    assert message in error.value.what


def test_settings_of_a_kind_survive_writing() -> None:
    config = DecomposeConfig.parse({"importance": {"kind": "global-mlp", "hidden": 7}})
    assert config.tree()["importance"] == {"kind": "global-mlp", "hidden": 7}
