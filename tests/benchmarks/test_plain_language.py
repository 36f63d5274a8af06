"""The plain language-model step and the engine's are the same maths: from the same state and draws, the same losses, gradients and sources."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks import plain_language
from benchmarks.plain_language import PlainLanguageTraining
from benchmarks.small_language_model import BATCH, WINDOW, small_config, small_target
from tests.benchmarks.test_plain import Draws
from unbraid.decompose import masks as masks_module
from unbraid.decompose import step as step_module
from unbraid.decompose.loop import Watch, train
from unbraid.decompose.losses import persistent_adversarial as adversary_module
from unbraid.decompose.masks import Source
from unbraid.decompose.training import prepare
from unbraid.targets.data import as_data

IMPORTANCE = [{"kind": "global-mlp", "hidden": 16}, {"kind": "shared-transformer", "d_model": 16, "layers": 1, "heads": 2}]


@pytest.mark.parametrize("importance", IMPORTANCE, ids=lambda settings: settings["kind"])
def test_losses_gradients_and_sources_are_equal(importance: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    target = small_target(d=16, n_layers=1, n_heads=2, d_mlp=24, vocabulary=80)
    target.data = as_data([torch.randint(80, (BATCH, WINDOW))])
    config = small_config(importance, log_every_steps=1)
    engine, plainly = prepare(target, config), PlainLanguageTraining(target, config)
    engine.step = index = 2000
    lead, paths = (BATCH, WINDOW), list(engine.model.C)
    routing = [torch.randint(1, len(paths) + 1, lead), torch.rand(len(paths), *lead)]
    sources = {path: Source(torch.rand(*lead, 128), torch.rand(lead)) for path in paths}
    adversary = {path: torch.rand(*lead, 129) for path in paths}
    logged: dict[int, dict[str, float]] = {}

    def copies(*_: object) -> dict[str, Tensor]:
        return {path: values.clone() for path, values in adversary.items()}

    with monkeypatch.context() as patch:
        patch.setattr(step_module, "draw_sources", lambda *_: sources)
        patch.setattr(masks_module, "torch", Draws(list(routing)))
        patch.setattr(adversary_module, "random_sources", copies)
        train(engine, target, config, Watch(logged.__setitem__, lambda state: None, lambda: True))
    plainly.sources = copies()
    plainly.moments = {path: (torch.zeros(*lead, 129), torch.zeros(*lead, 129)) for path in paths}
    drawn = [draw for source in sources.values() for draw in (source.component, source.delta)]
    with monkeypatch.context() as patch:
        patch.setattr(plain_language, "torch", Draws([*routing, *drawn]))
        losses = plainly.step(index)

    for name, value in losses.items():
        assert value == pytest.approx(logged[index + 1][f"train/{name}"], rel=1e-5), name
    for module, other in ((engine.model, plainly.model), (engine.function, plainly.function)):
        for key, parameter in module.named_parameters():
            expected = other.get_parameter(key).grad
            assert parameter.grad is not None, key
            assert expected is not None, key
            torch.testing.assert_close(parameter.grad, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()), msg=key)
    for index, path in enumerate(paths):
        moved = engine.losses["persistent-adversarial"].get_buffer(f"sources_{index}")
        torch.testing.assert_close(moved, plainly.sources[path], rtol=0, atol=1e-4)
        assert float((moved - adversary[path]).abs().max()) > 0.02  # three steps of 0.01 each
