"""Does the scorecard fail what should fail? A run that is stopped early must miss its bars."""

from __future__ import annotations

from unbraid.decompose.loop import Watch, train
from unbraid.decompose.preset import resolve
from unbraid.decompose.result import Decomposition
from unbraid.decompose.training import prepare
from unbraid.targets.toy import load_target


def stopped_early(name: str, share: float, seed: int = 0) -> list[str]:
    """Decompose a toy by its recipe, stop at a share of its steps, and return the scorecard lines that fail."""
    target, config = load_target(name), resolve(name, overrides=[f"seed={seed}"])
    training = prepare(target, config)
    last = max(1, round(share * config.steps))
    watch = Watch(log=lambda step, metrics: None, save=lambda state: None, stopped=lambda: training.step >= last)
    train(training, target, config, watch)
    training.function.eval()
    card = Decomposition(target, config, training.model, training.function, training.step).scorecard()
    return [line.key for line in card.failures]
