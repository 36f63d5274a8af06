from __future__ import annotations

import torch

from tests.models import decomposed, step_for
from unbraid.decompose.losses.faithfulness import faithfulness, relative_faithfulness
from unbraid.decompose.step import losses
from unbraid.targets.target import Target


def test_formulas() -> None:
    deltas, weights = [torch.randn(3, 4), torch.randn(2, 5)], [torch.randn(3, 4), torch.randn(2, 5)]
    squares = [float((delta**2).sum()) for delta in deltas]
    norms = [float((weight**2).sum()) for weight in weights]
    torch.testing.assert_close(faithfulness(deltas), torch.tensor(sum(squares) / 22))
    expected = (squares[0] / norms[0] + squares[1] / norms[1]) / 2
    torch.testing.assert_close(relative_faithfulness(deltas, weights), torch.tensor(expected))


def test_relative_faithfulness_does_not_depend_on_the_scale() -> None:
    deltas, weights = [torch.randn(3, 4)], [torch.randn(3, 4)]
    torch.testing.assert_close(relative_faithfulness(deltas, weights), relative_faithfulness([7 * deltas[0]], [7 * weights[0]]))


def test_loss_is_about_what_the_factors_leave(target: Target) -> None:
    model, _ = decomposed(target)
    deltas = [site.weight - site.factors.views()[0] @ site.factors.views()[1] for site in model.sites.values()]
    step = step_for(target, model)
    torch.testing.assert_close(losses.parse("faithfulness").build(model)(step), faithfulness(deltas))
    relative = losses.parse({"kind": "faithfulness", "relative": True}).build(model)
    torch.testing.assert_close(relative(step), relative_faithfulness(deltas, [site.weight for site in model.sites.values()]))
