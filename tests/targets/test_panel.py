"""Does the sceptic's panel measure what it says, on models whose answers are known?"""

from __future__ import annotations

import json
import math
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from unbraid.core.errors import UserError
from unbraid.drawing.plot_style import THEMES
from unbraid.targets.data import Data, Drawn, SparseFeatures
from unbraid.targets.panel import Panel, losses_by_count
from unbraid.targets.plot_panel import plot_panel
from unbraid.targets.toy import Toy, find_toy
from unbraid.targets.toy_kit.class_panel import class_panel
from unbraid.targets.toy_kit.feature_panel import feature_panel
from unbraid.targets.toy_kit.tms import TMS

VALUES = torch.linspace(-1, 1, 9)


class Copies(Toy):
    """Answer the inputs; the naive answer is 0, the oracle is off by 0.1."""

    kind: Literal["copies"] = "copies"
    n: int = 4

    def data(self) -> Data:
        return SparseFeatures(self.n, 0.3, low=-1, high=1)

    def wanted(self, inputs: Tensor) -> Tensor:
        return inputs

    def oracle_answer(self, inputs: Tensor) -> Tensor:
        return inputs + 0.1


class Scaled(nn.Module):
    """Each feature times its factor, and a term where neighbours meet."""

    def __init__(self, factors: list[float], meeting: float = 0.0) -> None:
        super().__init__()
        self.factors, self.meeting = torch.tensor(factors), meeting

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factors + self.meeting * x * x.roll(1, -1)


def test_losses_are_those_of_one_feature_alone() -> None:
    panel = feature_panel(Copies(), Scaled([1.0, 0.5, 0.0, 1.0]), VALUES)
    mean_square = float(VALUES.square().mean())
    torch.testing.assert_close(panel.loss_per_feature, mean_square * torch.tensor([0.0, 0.25, 1.0, 0.0]))
    torch.testing.assert_close(panel.naive_per_feature, torch.full((4,), mean_square))
    torch.testing.assert_close(panel.oracle_per_feature, torch.full((4,), 4 * 0.01))


def test_the_loss_to_the_fourth_power() -> None:
    panel = feature_panel(Copies(), Scaled([0.0] * 4), VALUES, power=4)
    torch.testing.assert_close(panel.loss_per_feature, VALUES.pow(4).mean().expand(4))
    assert "power 4" in panel.unit


def test_a_model_that_does_nothing_has_the_naive_loss_at_every_count() -> None:
    panel = feature_panel(Copies(), Scaled([0.0] * 4), VALUES)
    assert [row.count for row in panel.loss_by_active] == [0, 1, 2, 3, 4]
    for row in (*panel.loss_by_active, panel.on_data):
        assert row.loss == pytest.approx(row.naive)
    assert panel.loss_by_active[1].loss == pytest.approx(1 / 3, abs=0.01)  # per active feature, whatever their number
    assert panel.loss_by_active[4].loss == pytest.approx(1 / 3, abs=0.05)
    assert panel.on_data.loss == pytest.approx(1 / 3, abs=0.01)
    assert sum(row.n for row in panel.loss_by_active) == panel.on_data.n


def test_cross_terms_are_where_features_meet() -> None:
    panel = feature_panel(Copies(n=5), Scaled([1.0] * 5, meeting=0.5), VALUES)
    assert panel.cross_terms is not None and panel.wanted_cross_terms is not None
    assert bool(panel.cross_terms.diagonal().isnan().all())
    near = (torch.arange(5)[:, None] - torch.arange(5)).abs() % 3 == 1  # neighbours around a ring of five
    torch.testing.assert_close(panel.cross_terms[near], torch.full((10,), 0.25))  # seen in one of the two outputs
    torch.testing.assert_close(panel.cross_terms.nan_to_num()[~near], torch.zeros(15))
    torch.testing.assert_close(panel.wanted_cross_terms.nan_to_num(), torch.zeros(5, 5))


def test_the_response_alone_and_in_company() -> None:
    panel = feature_panel(Copies(), Scaled([0.9, 0.5, 0.8, 1.0], meeting=1.0), VALUES)
    typical, worst = panel.responses
    assert (typical.label, worst.label, worst.feature, worst.output) == ("typical", "worst", 1, 1)
    torch.testing.assert_close(worst.wanted, VALUES)
    torch.testing.assert_close(worst.alone, 0.5 * VALUES)
    assert worst.others_n > 100
    assert worst.others_low is not None and worst.others_high is not None and worst.others_wanted is not None
    torch.testing.assert_close(worst.others_wanted, VALUES)
    assert float(worst.others_high[-1] - worst.others_low[-1]) > 0.3  # its neighbour changes the answer
    assert float(worst.others_high[4] - worst.others_low[4]) == 0  # but not where the feature is 0


def test_features_that_need_something_else_on() -> None:
    """The last input is a switch without which nothing is answered; it is no feature."""

    class Switched(Scaled):
        def forward(self, x: Tensor) -> Tensor:
            return x * x[:, -1:]

    background = torch.zeros(3, 4)
    background[:, 3] = 1
    dark = feature_panel(Copies(), Switched([1.0]), VALUES, features=range(3))
    lit = feature_panel(Copies(), Switched([1.0]), VALUES, features=range(3), background=background)
    assert bool((dark.loss_per_feature > 0.1).all()) and lit.loss_per_feature.tolist() == [0, 0, 0]
    assert len(lit.features) == 3
    assert lit.cross_terms is not None and float(lit.cross_terms.nan_to_num().abs().max()) == 0


def test_modules_may_be_counted_instead_of_features() -> None:
    def halves(x: Tensor) -> Tensor:
        return x.unflatten(-1, (2, 2)).ne(0).any(-1)

    panel = feature_panel(Copies(), Scaled([0.0] * 4), VALUES, active=halves, active_word="active modules")
    assert [row.count for row in panel.loss_by_active] == [0, 1, 2]
    assert panel.count_word == "active modules"


def test_large_toys_cross_a_sample_and_say_so() -> None:
    panel = feature_panel(Copies(n=60), Scaled([1.0] * 60), VALUES)
    assert panel.cross_terms is not None and panel.cross_terms.shape == (40, 40)
    assert any("random sample of 40 of the 60" in note for note in panel.notes)


def test_the_panel_is_the_same_twice_and_json() -> None:
    first, second = (feature_panel(Copies(), Scaled([0.5] * 4), VALUES).tree() for _ in range(2))
    assert json.loads(json.dumps(first, allow_nan=False)) == second
    assert first["cross_terms"][0][0] is None


def test_few_inputs_make_no_row() -> None:
    loss = torch.arange(6.0)
    rows = losses_by_count(loss, loss, loss, torch.tensor([0.0, 0, 0, 1, 1, 2]), least=2)
    assert [(row.count, row.n, row.loss) for row in rows] == [(0, 3, 1.0), (1, 2, 3.5)]


@pytest.mark.parametrize("name", ["tms-5-2", "tms-40-10"])
def test_superposition_beats_a_dimension_per_feature(name: str) -> None:
    toy = find_toy(name)
    assert isinstance(toy, TMS)
    module = toy.load()
    panel = toy.panel(module)
    assert toy.is_real(module)
    assert panel.on_data.loss < 0.5 * panel.on_data.naive
    assert bool((panel.naive_per_feature[: toy.d_hidden] == 0).all())
    crowded = [row.loss for row in panel.loss_by_active if row.n > 200]
    assert crowded == sorted(crowded)  # interference grows with crowding


def test_an_untrained_model_is_not_real() -> None:
    toy = find_toy("tms-5-2")
    assert not toy.is_real(toy.build())


class Tokens(Toy):
    """Three operations on two digits, named by the first token."""

    kind: Literal["tokens"] = "tokens"

    def data(self) -> Data:
        return Drawn(lambda size, generator: torch.randint(0, 6, (size, 3), generator=generator))

    def wanted(self, inputs: Tensor) -> Tensor:
        return torch.where(inputs[:, 0] < 2, inputs[:, 1], torch.maximum(inputs[:, 1], inputs[:, 2]))


class Copier(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 50 * nn.functional.one_hot(x[:, 1], 6).float()


def tokens() -> Panel:
    return class_panel(
        Tokens(),
        Copier(),
        lambda x: x[:, 0] // 2,
        ["copy", "max", "max again"],
        word="operation",
        distractors=lambda x: (x[:, 2] > 3).long(),
    )


def test_classes_have_the_loss_of_their_inputs() -> None:
    panel = tokens()
    assert panel.word == "operation" and panel.cross_terms is None
    assert float(panel.loss_per_feature[0]) == pytest.approx(0, abs=1e-6)
    assert bool((panel.loss_per_feature[1:] > 10).all())
    torch.testing.assert_close(panel.naive_per_feature, torch.full((3,), math.log(6)))
    assert panel.oracle_per_feature.tolist() == [0, 0, 0]
    assert [row.count for row in panel.loss_by_active] == [0, 1]


def test_a_class_that_never_occurs() -> None:
    with pytest.raises(UserError, match="never has class 'none'"):
        class_panel(Tokens(), Copier(), lambda x: x[:, 0] * 0, ["all", "none"])


def test_tokens_have_no_panel_of_features() -> None:
    with pytest.raises(UserError, match="class_panel"):
        feature_panel(Tokens(), Copier(), VALUES)


@pytest.mark.parametrize("theme", list(THEMES))
def test_the_figure_shows_the_numbers(theme: str) -> None:
    panel = feature_panel(Copies(), Scaled([0.9, 0.5, 0.8, 1.0], meeting=0.3), VALUES)
    plot = plot_panel(panel, theme)  # type: ignore[arg-type]
    assert plot.data == panel.tree()
    assert plot.svg() == plot_panel(panel, theme).svg()  # type: ignore[arg-type]
    found = {artist.get_label(): artist for axes in plot.figure.axes for artist in axes.get_children()}
    assert list(found["alone"].get_ydata()) == plot.data["responses"][-1]["alone"]  # type: ignore[attr-defined]
    drawn = [list(line.get_ydata()) for line in plot.figure.axes[0].lines if line.get_label() == "loss"]  # type: ignore[arg-type]
    assert drawn == [plot.data["loss_per_feature"]]
    assert plot.png().startswith(b"\x89PNG")


def test_the_figure_of_classes() -> None:
    svg = plot_panel(tokens()).svg()
    assert "Loss by operation" in svg and "max again" in svg and "Cross-terms" not in svg
    alone = plot_panel(class_panel(Tokens(), Copier(), lambda x: x[:, 0] // 2, ["a", "b", "c"]))
    assert "Loss by class" in alone.svg() and len(alone.figure.axes) == 1
