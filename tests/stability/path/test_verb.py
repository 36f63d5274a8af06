"""Does the whole question hold together: controls that fail where they must, curves that come back from disk, mistakes that are told?"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.targets.models.tiny import some_ids, tiny_model
from unbraid.core.errors import UserError
from unbraid.stability.engine.prompts import draw_prompts
from unbraid.stability.engine.untrained import untrained
from unbraid.stability.path.config import PathConfig
from unbraid.stability.path.frozen import frozen_edits
from unbraid.stability.path.result import PathResult
from unbraid.stability.path.verb import path
from unbraid.targets.target import Target

QUICK = PathConfig(pairs=4, control_pairs=3, points=11, extra=4, bank=8, context=5)


def language_target(family: str = "llama") -> Target:
    module = tiny_model(family)
    return Target(module, sites="*mlp*", data=[some_ids(24, 6)], behaviour="kl", name=family)


class Gate(nn.Module):
    """Reads one direction of 4 and answers with a steep step: a planted boundary."""

    def __init__(self, steepness: float) -> None:
        super().__init__()
        self.read, self.write, self.steepness = nn.Linear(4, 1, bias=False), nn.Linear(1, 3, bias=False), steepness

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.write(torch.tanh(self.steepness * self.read(x)))


def gate_target(steepness: float) -> Target:
    module = Gate(steepness)
    with torch.no_grad():
        module.read.weight.copy_(torch.tensor([[1.0, 0.0, 0.0, 0.0]]))
    return Target(module, sites=("read",), data=[torch.randn(400, 4)])


def test_a_step_has_plateaus_and_a_line_has_none() -> None:
    config = PathConfig(pairs=60, control_pairs=20, bank=120)

    step, line = path(gate_target(60.0), config), path(gate_target(1e-3), config)

    width = line.width()
    assert width is not None
    assert width.value == pytest.approx(0.8, abs=0.01)
    assert "no plateau" in line.verdict()
    crossing = [one for one in step.measures["model"] if one.separation > 0.5 and math.isfinite(one.width)]
    assert len(crossing) > 10
    assert np.median([one.width for one in crossing]) < 0.1


def test_every_control_is_there_and_says_what_it_must() -> None:
    result = path(language_target(), QUICK)

    assert not result.provisional
    assert set(result.populations) == {
        "model", "swapped", "untrained", "covariance", "shuffled", "other path",
        "frozen mlp", "frozen attention", "frozen norm", "block 1",
    }  # fmt: skip
    assert result.fidelity is not None
    assert result.fidelity.passed
    for own, swapped in zip(result.measures["model"], result.measures["swapped"], strict=False):
        assert own.width == pytest.approx(swapped.width, abs=0.02, nan_ok=True)
    final = result.populations["block 1"].measures("final")
    assert [one.width for one in final] == pytest.approx([0.8] * len(final), abs=1e-3)  # nothing comes after the last block


def test_without_controls_a_result_is_provisional() -> None:
    result = path(gate_target(60.0), PathConfig(pairs=20, controls=False, bank=40))

    assert result.provisional
    assert list(result.populations) == ["model"]
    assert result.verdict().startswith("PROVISIONAL")
    assert "PROVISIONAL" not in path(language_target(), QUICK).verdict()


def test_curves_come_back_from_disk_and_summaries_are_made_from_them(tmp_path: Path) -> None:
    result = path(language_target(), QUICK)
    again = PathResult.from_pretrained(result.save_pretrained(tmp_path / "r"))

    assert again.tree() == result.tree()
    assert again.summary().row_count == len(result.populations)
    assert "<table>" in again._repr_html_()
    for theme in ("light", "dark"):
        assert again.plot_curves(theme).svg().startswith("<svg")


def test_another_kind_of_measurement_is_refused(tmp_path: Path) -> None:
    from unbraid.stability.engine.stored import save_measurement

    with pytest.raises(UserError, match="kind 'radius', not 'path'"):
        PathResult.from_pretrained(save_measurement(tmp_path, {"kind": "radius"}, {}))


@pytest.mark.parametrize("part", ["mlp", "attention", "norm"])
@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox"])
def test_freezing_a_part_changes_the_answer_and_nothing_else(family: str, part: str) -> None:
    from unbraid.stability.engine.carrier import Carrier
    from unbraid.stability.engine.places import default_place

    module = tiny_model(family)
    carrier = Carrier(module, some_ids(1, 6)[0], default_place(module))
    points = torch.stack([carrier.anchor, carrier.anchor + torch.randn_like(carrier.anchor), torch.randn_like(carrier.anchor)])
    before = carrier.read(points)["logits"]

    edits = frozen_edits(carrier, points, part)  # type: ignore[arg-type]
    with carrier.edited(edits):
        frozen = carrier.read(points)["logits"]

    assert edits
    assert not torch.allclose(before, frozen, atol=1e-4)
    assert torch.equal(carrier.read(points)["logits"], before)


def test_with_every_nonlinear_part_frozen_a_path_is_straight() -> None:
    """Attention at the exchanged position sees the position itself, so that its output is held, too."""
    from unbraid.stability.engine.carrier import Carrier
    from unbraid.stability.engine.distances import READS
    from unbraid.stability.engine.paths import path_between
    from unbraid.stability.engine.places import default_place
    from unbraid.stability.path.sampled import sample

    module = tiny_model("llama")
    prompts, place = some_ids(2, 6), default_place(module)
    carrier = Carrier(module, prompts[0], place)
    along = path_between("linear", carrier.anchor, Carrier(module, prompts[1], place).anchor)
    rows = along(torch.linspace(0, 1, 11, dtype=torch.float64))
    edits = {**frozen_edits(carrier, rows, "mlp"), **frozen_edits(carrier, rows, "attention"), **frozen_edits(carrier, rows, "norm")}

    with carrier.edited(edits):
        measures = sample(carrier, along, [READS["logits"]], 21, 0).measures("logits")

    assert measures.width == pytest.approx(0.8, abs=2e-3)


def test_untrained_models_share_shapes_and_no_weights() -> None:
    module = tiny_model("llama")
    fresh = untrained(module, 3)

    assert torch.equal(fresh.lm_head.weight, untrained(module, 3).lm_head.weight)  # type: ignore[union-attr, arg-type]
    assert not torch.equal(fresh.lm_head.weight, module.lm_head.weight)  # type: ignore[union-attr, arg-type]

    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.free = nn.Parameter(torch.ones(2))

    with pytest.raises(UserError, match="'free'"):
        untrained(Odd(), 0)


def test_prompts_are_distinct_and_too_few_are_told() -> None:
    target = language_target()

    prompts = draw_prompts(target, 20, 5, 0)

    assert len(torch.unique(prompts, dim=0)) == 20
    assert torch.equal(prompts, draw_prompts(target, 20, 5, 0))
    with pytest.raises(UserError, match="these inputs have 24"):
        draw_prompts(target, 25, 5, 0)
    with pytest.raises(UserError, match="windows have 6"):
        draw_prompts(target, 4, 7, 0)
