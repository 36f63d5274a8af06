"""How does a toy whose inputs are features answer the sceptic? One feature at a time, pairs, and inputs as the data has them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unbraid.core.errors import UserError
from unbraid.targets.data import Data
from unbraid.targets.panel import Panel, Response, chunked, losses_by_count, mean_losses

if TYPE_CHECKING:
    from unbraid.targets.toy import Toy

BATCHES, BATCH = 16, 2048  # inputs drawn from the data
MOST_CROSSED = 40
MOST_OTHERS, FEWEST_OTHERS = 256, 30


@dataclass(frozen=True)
class _Asked:
    """A toy and its model, with the inputs on which one feature is put."""

    toy: Toy
    module: nn.Module
    columns: Tensor  # [features]: where each feature stands in the input
    background: Tensor  # [features, n_inputs]: what is on besides when it is "alone"
    power: float

    def put(self, feature: int, values: Tensor) -> Float[Tensor, "grid n_inputs"]:
        """Return inputs with only this feature on, at each value."""
        x = self.background[feature].repeat(len(values), 1)
        x[:, self.columns[feature]] = values
        return x

    def model(self, x: Tensor) -> Tensor:
        return chunked(self.module, x).flatten(1)

    def wanted(self, x: Tensor) -> Tensor:
        return chunked(self.toy.wanted, x).flatten(1)

    def losses(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the model's, the naive and the oracle's loss on each input, summed over outputs."""
        wanted = self.wanted(x)
        answers = (self.model(x), chunked(self.toy.naive, x).flatten(1), chunked(self.toy.oracle_answer, x).flatten(1))
        first, second, third = ((answer - wanted).abs().pow(self.power).sum(1) for answer in answers)
        return first, second, third


def feature_panel(
    toy: Toy,
    module: nn.Module,
    values: Float[Tensor, " grid"],
    *,
    features: Sequence[int] | None = None,
    background: Float[Tensor, "features n_inputs"] | None = None,
    active: Callable[[Tensor], Tensor] | None = None,
    active_word: str = "active features",
    power: int = 2,
) -> Panel:
    """Measure what a sceptic asks of a toy whose inputs are features, by its own `wanted`, `naive`, `oracle_answer` and `data`.

    Args:
        toy: The toy.
        module: Its model.
        values: The values that a feature goes through.
        features: Which inputs are features; all of them without.
        background: What else is on when a feature is asked alone, for instance its module's switch; nothing without.
        active: `inputs -> [batch, units]`, 1 for each unit that is on; the features that are not 0 without.
        active_word: What those units are called.
        power: The loss is the error to this power.

    Raises:
        UserError: The data gives something else than tensors of shape [batch, n_inputs].
    """
    batches = _drawn(toy.data())
    columns = torch.arange(batches.shape[1]) if features is None else torch.tensor(list(features))
    asked = _Asked(toy, module, columns, batches.new_zeros(len(columns), batches.shape[1]) if background is None else background, power)
    count = batches[:, columns].ne(0).sum(1) if active is None else chunked(active, batches).ne(0).sum(1)
    per_feature = [torch.stack([loss.mean() for loss in asked.losses(asked.put(i, values))]) for i in range(len(columns))]
    loss, naive, oracle = torch.stack(per_feature, dim=1)
    per_input = torch.stack(asked.losses(batches))
    per_unit = per_input / count.clamp(min=1)
    total = per_input / count.float().mean()  # its mean is all the loss over all the units that are on
    chosen, cross, wanted_cross = _cross_terms(asked, values)
    notes = [
        f"Losses by {active_word} are per unit that is on, on {len(batches):,} inputs from the data; those with nothing on are undivided."
    ]
    if len(chosen) < len(columns):
        notes.append(f"Cross-terms of a random sample of {len(chosen)} of the {len(columns)} features.")
    return Panel(
        target=toy.kind,
        unit="squared error, summed over outputs" if power == 2 else f"error to the power {power}, summed over outputs",
        word="feature",
        features=tuple(str(i) for i in range(len(columns))),
        loss_per_feature=loss,
        naive_per_feature=naive,
        oracle_per_feature=oracle,
        on_data=mean_losses(total[0], total[1], total[2]),
        responses=tuple(_response(asked, i, label, values, batches, count) for i, label in _shown(loss).items()),
        count_word=active_word,
        loss_by_active=losses_by_count(per_unit[0], per_unit[1], per_unit[2], count.float()),
        cross_features=tuple(chosen),
        cross_terms=cross,
        wanted_cross_terms=wanted_cross,
        notes=tuple(notes),
    )


def _shown(loss: Float[Tensor, " features"]) -> dict[int, str]:
    """Return the features whose responses are followed: the one of median loss and the worst."""
    order: list[int] = loss.argsort().tolist()
    return {order[(len(order) - 1) // 2]: "typical"} | ({order[-1]: "worst"} if len(order) > 1 else {})


def _drawn(data: Data) -> Float[Tensor, "inputs n_inputs"]:
    generator = torch.Generator().manual_seed(0)
    drawn: list[Tensor] = []
    for step in range(BATCHES):
        batch = data.batch(step, BATCH, generator)
        if not isinstance(batch, Tensor) or batch.dim() != 2 or not batch.is_floating_point():
            raise UserError("The panel of features needs inputs of shape [batch, n_inputs].", "Use class_panel for tokens.")
        drawn.append(batch)
    return torch.cat(drawn)


def _response(asked: _Asked, feature: int, label: str, values: Tensor, batches: Tensor, count: Tensor) -> Response:
    """Follow the output that should move most, with the feature alone and among others."""
    x = asked.put(feature, values)
    wanted = asked.wanted(x)
    column = asked.columns[feature]
    crowded = batches[(batches[:, column] != 0) & (count >= 2)]
    if len(crowded) < FEWEST_OTHERS:  # the feature is too rare to be met in company: it is put beside what the others do without it
        crowded = batches[count >= 1]
    crowded = crowded[:MOST_OTHERS]
    company = crowded.repeat(len(values), 1)
    company[:, column] = values.repeat_interleave(len(crowded))
    right = asked.wanted(company).unflatten(0, (len(values), len(crowded))) if len(crowded) else wanted[:, None]
    moves = wanted.amax(0) - wanted.amin(0)
    if not bool(moves.any()):  # the task answers only features in company
        moves = (right.amax(0) - right.amin(0)).mean(0)
    output = int(moves.argmax())
    alone = Response(feature, label, output, values, wanted[:, output], asked.model(x)[:, output])
    if len(crowded) < FEWEST_OTHERS:
        return alone
    answer = asked.model(company)[:, output].view(len(values), -1)
    low, high = torch.quantile(answer, torch.tensor([0.1, 0.9]), dim=1)
    others = {"others_wanted": right[..., output].mean(1), "others_mean": answer.mean(1), "others_low": low, "others_high": high}
    return Response(feature, label, output, values, alone.wanted, alone.alone, **others, others_n=len(crowded))


def _cross_terms(asked: _Asked, values: Tensor) -> tuple[list[int], Tensor, Tensor]:
    """Return which features were crossed and the mean absolute second differences of the model and of the right answer.

    A pair is looked at in its two features' outputs; where the right answer itself has a cross-term, in the output where that is largest.
    """
    n = len(asked.columns)
    chosen: list[int] = torch.randperm(n, generator=torch.Generator().manual_seed(0))[:MOST_CROSSED].sort().values.tolist()
    cross, wanted = (torch.full((len(chosen), len(chosen)), torch.nan) for _ in range(2))
    if n < 2:
        return chosen, cross, wanted
    low = float(values.min()) if float(values.min()) < 0 else float(values.max()) / 2
    corners = [low, float(values.max())]
    moved = [asked.wanted(asked.put(i, torch.tensor(corners))) - asked.wanted(asked.background[i : i + 1]) for i in chosen]
    outputs = torch.tensor([int(move.abs().amax(0).argmax()) for move in moved])
    first, second = torch.combinations(torch.arange(len(chosen)), 2).T
    pairs = torch.tensor(chosen)[first], torch.tensor(chosen)[second]
    right, answer = (_second_differences(asked, f, pairs, corners) for f in (asked.wanted, asked.model))
    planted, where = right.mean(0).max(1)
    seen = [torch.where(planted > 1e-6, where, outputs[place])[:, None] for place in (first, second)]
    for table, differences in ((cross, answer.mean(0)), (wanted, right.mean(0))):
        table[first, second] = table[second, first] = torch.stack([differences.gather(1, side)[:, 0] for side in seen]).mean(0)
    return chosen, cross, wanted


def _second_differences(
    asked: _Asked, answer: Callable[[Tensor], Tensor], pairs: tuple[Tensor, Tensor], corners: Sequence[float]
) -> Float[Tensor, "corners pairs outputs"]:
    """Return `|f(i, j) - f(i) - f(j) + f()|` in every output, for each pair of values."""
    i, j = pairs
    ground = torch.where(asked.background[i] != 0, asked.background[i], asked.background[j])
    rows = torch.arange(len(i))

    def at(v: float | None, w: float | None) -> Tensor:
        x = ground.clone()
        if v is not None:
            x[rows, asked.columns[i]] = v
        if w is not None:
            x[rows, asked.columns[j]] = w
        return answer(x)

    nothing = at(None, None)
    return torch.stack([(at(v, w) - at(v, None) - at(None, w) + nothing).abs() for v in corners for w in corners])
