from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.models import mlp
from unbraid.core.errors import UserError
from unbraid.decompose.checkpoint import latest_state, load_state, save_state
from unbraid.decompose.config import DecomposeConfig
from unbraid.decompose.loop import Watch, train
from unbraid.decompose.training import Training, prepare
from unbraid.targets.data import SparseFeatures
from unbraid.targets.target import Target

CONFIG = DecomposeConfig.parse(
    {
        "steps": 30,
        "batch_size": 8,
        "components": 5,
        "warmup": {"steps": 3},
        "save_every_steps": 10,
        "losses": {
            "stochastic": {"routing": "subset"},
            "persistent-adversarial": {},
            "minimality": {"frequency": {"half_life_steps": 5}},
        },
    }
)


@pytest.fixture
def sparse_target() -> Target:
    return Target(mlp(), sites="*", data=SparseFeatures(4, 0.5))


POOLED = DecomposeConfig.parse(
    {**CONFIG.model_dump(), "losses": {"minimality": {}, "merged": {"scope": "bc", "pool": 3, "stored": "bf16"}}}
)


def run(training: Training, target: Target, folder: Path, stop_at: int | None = None, config: DecomposeConfig = CONFIG) -> bool:
    return train(training, target, config, Watch(lambda step, metrics: None, lambda t: _save(t, folder), lambda: training.step == stop_at))


def _save(training: Training, folder: Path) -> None:
    save_state(training, folder, "print")


@pytest.mark.parametrize("config", [CONFIG, POOLED], ids=["one", "pool"])
def test_resumed_run_goes_on_to_the_same_bits(tmp_path: Path, sparse_target: Target, config: DecomposeConfig) -> None:
    whole = prepare(sparse_target, config)
    assert run(whole, sparse_target, tmp_path / "whole", config=config)
    stopped = prepare(sparse_target, config)
    assert not run(stopped, sparse_target, tmp_path / "parts", stop_at=13, config=config)
    resumed = prepare(sparse_target, config)
    state = latest_state(tmp_path / "parts")
    assert state is not None
    load_state(resumed, state, "print")
    assert resumed.step == 13
    assert run(resumed, sparse_target, tmp_path / "parts", config=config)
    for part, other in ((whole.model, resumed.model), (whole.function, resumed.function), (whole.losses, resumed.losses)):
        for name, tensor in part.state_dict().items():
            assert torch.equal(tensor, other.state_dict()[name]), name


def test_only_the_newest_state_is_kept_and_nothing_is_a_pickle(tmp_path: Path, sparse_target: Target) -> None:
    run(prepare(sparse_target, CONFIG), sparse_target, tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["step-000000020"]
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} == {".safetensors", ".json"}


def test_states_of_others_are_refused(tmp_path: Path, sparse_target: Target) -> None:
    path = save_state(prepare(sparse_target, CONFIG), tmp_path, "print")
    with pytest.raises(UserError, match="was saved for another target"):
        load_state(prepare(sparse_target, CONFIG), path, "another")
    with pytest.raises(UserError, match="was saved with seed 0, not 1"):
        load_state(prepare(sparse_target, CONFIG.model_copy(update={"seed": 1})), path, "print")
    with pytest.raises(UserError, match="was saved under other settings"):
        load_state(prepare(sparse_target, CONFIG.model_copy(update={"components": 6})), path, "print")


def test_damaged_state_is_an_error(tmp_path: Path, sparse_target: Target) -> None:
    assert latest_state(tmp_path / "none") is None
    path = save_state(prepare(sparse_target, CONFIG), tmp_path, "print")
    file = path / "tensors.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(UserError, match="is damaged"):
        latest_state(tmp_path)
