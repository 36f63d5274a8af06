"""What saves memory changes nothing else: parts of a batch, passes run again, and bf16 up to its rounding."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.small_language_model import WINDOW, small_config, small_target
from unbraid.core.errors import UserError
from unbraid.decompose.config import DecomposeConfig
from unbraid.decompose.loop import Watch, train
from unbraid.decompose.training import Training, prepare
from unbraid.targets.data import as_data
from unbraid.targets.target import Target

VOCABULARY, BATCH = 50, 8
WINDOWS = torch.randint(VOCABULARY, (BATCH, WINDOW), generator=torch.Generator().manual_seed(4))
IMPORTANCE = {"kind": "global-mlp", "hidden": 8}
WITHOUT_DRAWS: dict[str, Any] = {
    "faithfulness": {},
    "importance-masked": {},
    "persistent-adversarial": {"scope": "bsc", "ascent_steps": 2},
    "minimality": {"coefficient": 0.1, "frequency": None},
}


def target_in(parts: int) -> Target:
    target = small_target(d=8, n_layers=1, n_heads=2, d_mlp=12, vocabulary=VOCABULARY)
    target.data = as_data(list(WINDOWS.chunk(parts)))
    return target


def config(C: int, **changes: Any) -> DecomposeConfig:
    return small_config(IMPORTANCE, batch_size=BATCH, components=C, log_every_steps=1, **changes)


def trained(target: Target, settings: DecomposeConfig, steps: int = 2) -> tuple[Training, dict[str, float]]:
    training, logged = prepare(target, settings), dict[int, dict[str, float]]()
    train(training, target, settings, Watch(logged.__setitem__, lambda state: None, lambda: False), until=steps)
    return training, logged[steps]


def gradients(training: Training) -> dict[str, Tensor]:
    found = {name: parameter.grad for module in (training.model, training.function) for name, parameter in module.named_parameters()}
    return {name: grad for name, grad in found.items() if grad is not None}


def assert_close(one: Training, other: Training, share: float) -> None:
    mine, theirs = gradients(one), gradients(other)
    assert mine.keys() == theirs.keys() != set()
    for name, grad in mine.items():
        torch.testing.assert_close(grad, theirs[name], rtol=0, atol=share * float(theirs[name].abs().max()), msg=name)


@pytest.mark.parametrize("C", [4, 160], ids=["small", "large"])
def test_parts_of_a_batch_add_up_to_the_step(C: int) -> None:
    whole, _ = trained(target_in(1), config(C, losses=WITHOUT_DRAWS), steps=1)
    divided, _ = trained(target_in(4), config(C, losses=WITHOUT_DRAWS, accumulate=4), steps=1)
    assert_close(divided, whole, 1e-5)
    for name, value in whole.losses.state_dict().items():
        torch.testing.assert_close(divided.losses.state_dict()[name], value, rtol=1e-3, atol=2e-5, msg=name)
    assert int(whole.losses.state_dict()["persistent-adversarial.updates"]) == 3


def test_parts_must_divide_the_batch() -> None:
    with pytest.raises(UserError, match="accumulate 3 does not divide batch_size 8"):
        config(4, accumulate=3)


def test_a_frequency_sees_one_part_at_a_time() -> None:
    losses = {"minimality": {"coefficient": 1.0, "frequency": {"weight": 1.0, "reference_count": 1e4}}}
    whole, _ = trained(target_in(1), config(4, losses=losses), steps=1)
    divided, _ = trained(target_in(4), config(4, losses=losses, accumulate=4), steps=1)
    with pytest.raises(AssertionError):
        assert_close(divided, whole, 1e-5)


@pytest.mark.parametrize("C", [4, 160], ids=["small", "large"])
def test_running_passes_again_changes_no_bit(C: int) -> None:
    kept, logged = trained(target_in(1), config(C))
    again, logged_again = trained(target_in(1), config(C, recompute=True))
    assert logged["train/loss"] == logged_again["train/loss"]
    for name, value in kept.losses.state_dict().items():
        assert torch.equal(again.losses.state_dict()[name], value), name
    # What several passes share is added up in another order, where each has its own.
    assert_close(again, kept, 1e-5)


@pytest.mark.parametrize("C", [4, 160], ids=["small", "large"])
def test_bf16_is_close_and_keeps_fp32_where_it_counts(C: int) -> None:
    precise, logged = trained(target_in(1), config(C), steps=1)
    rough, logged_rough = trained(target_in(1), config(C, precision="bf16"), steps=1)
    assert logged_rough["train/faithfulness"] == logged["train/faithfulness"]
    for name in ("stochastic", "persistent-adversarial", "minimality"):
        assert logged_rough[f"train/{name}"] == pytest.approx(logged[f"train/{name}"], rel=0.05), name
        assert logged_rough[f"train/{name}"] != logged[f"train/{name}"], name
    assert_close(rough, precise, 0.1)
    assert all(grad.dtype == torch.float32 for grad in gradients(rough).values())
    assert {value.dtype for name, value in rough.losses.state_dict().items() if "sources" in name} == {torch.float32}


@pytest.mark.parametrize("more", [{"scope": "bsc"}, {"scope": "bc", "pool": 3}], ids=["one", "pool"])
def test_sources_stored_in_bf16_climb_alike(more: dict[str, Any]) -> None:
    losses = {"persistent-adversarial": {"ascent_steps": 2, "learning_rate": 0.05, "warmup_share": 0.0, **more}}
    precise, logged = trained(target_in(1), config(4, losses=losses), steps=3)
    losses["persistent-adversarial"]["stored"] = "bf16"
    halved, logged_halved = trained(target_in(1), config(4, losses=losses), steps=3)
    assert logged_halved["train/persistent-adversarial"] == pytest.approx(logged["train/persistent-adversarial"], rel=0.02)
    kept, fine = halved.losses.state_dict(), precise.losses.state_dict()
    for name, value in kept.items():
        if "_" in name:
            assert (value.dtype, fine[name].dtype) == (torch.bfloat16, torch.float32), name
        if "sources" in name:
            assert float((value.float() - fine[name]).abs().mean()) < 0.02
            assert 0 <= float(value.min()) <= float(value.max()) <= 1
