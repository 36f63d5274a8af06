"""Does `explain` find what was planted, and is its result read back as it was?"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import unbraid
from tests.models import decomposed
from unbraid.core.errors import UserError
from unbraid.decompose.model import Clean, DecomposedModel
from unbraid.decompose.site import Factors
from unbraid.decompose.subject import Subject, oracle
from unbraid.stability.explain.config import ExplainConfig
from unbraid.stability.explain.result import ExplainResult
from unbraid.stability.explain.sufficiency import KINDS, kept_sets
from unbraid.stability.explain.verb import explain, explain_subject, first_place
from unbraid.targets.target import Target

QUICK = {"points": 41, "draws": 2, "sampled": 6}


class Step(nn.Module):
    """`x + sharp(x_0)` on the first coordinate: a straight line, and a jump that a single unit makes."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.up, self.act, self.down = nn.Linear(6, 6, bias=False), nn.Tanh(), nn.Linear(6, 6, bias=False)
        with torch.no_grad():
            self.up.weight.copy_(torch.eye(6) * torch.tensor([20.0, 0.1, 0.1, 0.1, 0.1, 0.1])[:, None])
            self.down.weight.copy_(torch.eye(6) * torch.tensor([gain, 0.1, 0.1, 0.1, 0.1, 0.1])[:, None])

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(self.act(self.up(x)))


@cache
def planted(pairs: int = 8) -> ExplainResult:
    """Paths across the jump; component 0 of either matrix makes it, and is active where the unit is not saturated or is used at all."""
    target = Target(Step(4.0), sites=("up", "down"), data=[torch.randn(8, 6)])
    model = DecomposedModel(target, 6)
    for path, site in model.sites.items():
        assert isinstance(site.factors, Factors)
        with torch.no_grad():
            site.factors.V.copy_(torch.eye(6))
            site.factors.U.copy_(target.module.get_parameter(f"{path}.weight").T)

    def importance(clean: Clean) -> dict[str, Tensor]:
        x = clean.batch
        assert isinstance(x, Tensor)
        # Component 0 is always needed, component 1 on the right of the jump, component 2 on its left, the others never.
        g = torch.stack([torch.ones(len(x)), x[:, 0] > 0, x[:, 0] < 0, *[torch.zeros(len(x))] * 3], dim=1).float()
        return {"up": g, "down": g}

    noise = 0.1 * torch.randn(2 * pairs, 6, generator=torch.Generator().manual_seed(0))
    ends = noise + torch.tensor([[-1.0] + [0] * 5] * pairs + [[1.0] + [0] * 5] * pairs)
    config = ExplainConfig.parse(QUICK)
    return explain_subject(Subject(model, importance), target, config, list(zip(ends[:pairs], ends[pairs:], strict=True)))


def rows(result: ExplainResult) -> dict[str, tuple[float, bool | None]]:
    return {row.name: (row.share.value, row.beats_null) for row in result.shares.rows}


def test_the_component_that_makes_the_jump_has_the_whole_plateau_and_random_ones_nothing() -> None:
    result = planted()
    assert (result.shares.whole < 0.4).all()
    assert result.shares.bare == pytest.approx(0.8, abs=0.01)
    best = {result.parts[single.part]: single.share.value for single in result.shares.singles}
    assert list(best)[:2] == ["up 0", "down 0"]
    assert list(best.values())[:2] == pytest.approx([1, 1], abs=0.05)
    assert list(best.values())[2:] == pytest.approx([0] * 4, abs=0.02)
    found = {row.name: row for row in result.shares.rows}
    assert found["active"].beats_null is True
    assert found["active"].share.value == pytest.approx(1, abs=0.05)
    assert found["active"].size is not None
    assert found["active"].size.value == pytest.approx(0, abs=0.02)
    assert found["inactive"].share.value == pytest.approx(0, abs=0.02)


def test_two_matrices_in_a_row_are_told_by_the_residual_and_share_alike_over_all_orders() -> None:
    result = planted()
    assert result.shares.residuals["sites"].value == pytest.approx(-1, abs=0.05)
    assert result.shares.residuals["active, inactive, Δ"].value == pytest.approx(0, abs=0.05)
    assert [row.share.value for row in result.shares.fair] == pytest.approx([0.5, 0.5], abs=0.05)
    assert any("leave of 1" in note for note in result.notes())
    assert not any("left out" in note for note in result.notes())


def test_switches_lie_at_the_jump_and_cells_are_counted() -> None:
    lines = planted().facts.lines
    assert lines["peak_offset"].value.value < 0.03
    difference = lines["peak_offset"].difference
    assert difference is not None
    assert difference.high < -0.1
    # Every switch is at x_0 = 0, component 1 coming on and 2 going off, in both matrices.
    assert lines["switches"].value.value == pytest.approx(4)
    assert lines["jumps"].value.value == 1
    assert lines["cells"].value.value == 1
    gates = lines["switches"].null
    assert gates is not None
    assert gates.n == 8


def test_a_model_without_a_plateau_is_told_so() -> None:
    target = Target(Step(0.0), sites=("up", "down"), data=[torch.randn(8, 6)])
    model = DecomposedModel(target, 2)
    with torch.no_grad():
        for factors in model.factors.values():
            assert isinstance(factors, Factors)
            factors.V.normal_()
            factors.U.zero_()
    subject = Subject(model, lambda clean: {path: torch.ones(*site.x.shape[:-1], 2) for path, site in clean.sites.items()})
    result = explain_subject(subject, target, ExplainConfig.parse({**QUICK, "pairs": 3}))
    assert any("no plateau to share out" in note for note in result.notes())


def test_an_answer_that_stops_varying_has_the_width_of_a_straight_line_in_its_place() -> None:
    target = unbraid.load_target("denoiser")
    assert target.truth is not None
    result = explain_subject(oracle(target, target.truth), target, ExplainConfig.parse({**QUICK, "pairs": 3}))
    assert result.place == "input"
    assert result.shares.silent.all()
    assert result.shares.bare == pytest.approx(0.8)
    assert any("0.8 stands for that width" in note for note in result.notes())
    # Two features go out and two come on; the noise makes no other piece active.
    assert [result.arrays[f"parts.{pair}"].size for pair in range(3)] == [4, 4, 4]


def test_drawn_pairs_without_a_way_between_them_are_left_out_and_given_ones_told() -> None:
    target = Target(Step(4.0), sites=("up", "down"), data=[torch.randn(8, 6)])
    model, _ = decomposed(target, 2)
    subject = Subject(model, lambda clean: {path: torch.ones(*site.x.shape[:-1], 2) for path, site in clean.sites.items()})
    first, second = torch.ones(6), -torch.ones(6)
    config = ExplainConfig.parse({**QUICK, "points": 11, "pairs": 2})
    with pytest.raises(UserError, match="are the same"):
        explain_subject(subject, target, config, [(first, second), (first, first)])
    alike = Target(Step(4.0), sites=("up", "down"), data=[torch.tensor([[1.0] * 6, [2.0] + [1.0] * 5] * 2)])
    # Inside, the second block of ones is all that the exchanged activation sees.
    with torch.no_grad():
        alike.module.get_parameter("up.weight").mul_(torch.tensor([0.0] + [1.0] * 5))
    with pytest.raises(UserError, match="No pair has two different activations"):
        explain_subject(Subject(decomposed(alike, 2)[0], subject.importance), alike, config.model_copy(update={"site": "up", "pairs": 1}))


def test_kept_sets_are_those_of_the_ends() -> None:
    active = torch.tensor([[1, 1, 0], [1, 0, 0], [1, 0, 1]], dtype=torch.bool)
    t = torch.tensor([0.0, 0.5, 1.0])
    kept = kept_sets(active, t, 0.4, (active[1], active[2]))
    assert set(kept) == set(KINDS)
    assert kept["switched"].tolist() == [[1, 1, 0], [1, 0, 1], [1, 0, 1]]
    assert kept["left"].tolist() == [[1, 1, 0]] * 3
    assert kept["own"].tolist() == active.float().tolist()
    assert kept["random"].tolist() == [[1, 0, 0], [1, 0, 1], [1, 0, 1]]


def test_a_result_is_read_back_as_it_was(tmp_path: Path) -> None:
    result = planted()
    again = ExplainResult.from_pretrained(result.save_pretrained(tmp_path / "out"))
    assert again.tree() == result.tree()
    assert again.config == result.config
    assert all(np.array_equal(again.arrays[name], values, equal_nan=True) for name, values in result.arrays.items())
    html = result._repr_html_()  # pyright: ignore[reportPrivateUsage]
    assert "component" in html


def test_figures_show_the_numbers_in_both_themes() -> None:
    result = planted()
    plot = result.plot_shares("dark")
    names = [row["name"] for row in plot.data["rows"]]
    assert "active" in names and "site up" in names
    path = result.plot_importance_path(1)
    assert set(path.data["names"]) == {"up 0", "up 1", "up 2", "down 0", "down 1", "down 2"}
    for drawn in (plot, path):
        assert drawn.svg().startswith("<svg")
    with pytest.raises(UserError, match="Pair 8"):
        result.plot_importance_path(8)


def test_a_language_model_is_asked_from_its_embedding_with_two_texts() -> None:
    decomposition = unbraid.load("carroll")
    assert first_place(decomposition.target.module).path == "model.embed_tokens"
    config = ExplainConfig.parse(
        {**QUICK, "points": 11, "draws": 1, "sampled": 2, "components": 2, "pair": ("said the Mock", "said the King")}
    )
    result = explain(decomposition, config)
    assert result.shares.pairs == 1
    assert "module model.layers.0.mlp" in result.sets
    assert rows(result)["active"][1] is None  # one pair says nothing about a null
    with pytest.raises(UserError, match="are the same"):
        explain(decomposition, ExplainConfig(pair=("the", "the")))
    with pytest.raises(UserError, match="no tokens"):
        explain(decomposition, ExplainConfig(pair=("the", "")))
