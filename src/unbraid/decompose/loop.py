"""How is a decomposition learned? The training loop, written out once: sample, forward, losses, step, log, save."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from unbraid.decompose.config import DecomposeConfig
from unbraid.decompose.distributed import average_gradients, mean_metrics, share_out
from unbraid.decompose.finite import check_step
from unbraid.decompose.precision import tensor_float_32
from unbraid.decompose.prune import prune
from unbraid.decompose.step import Step, importances_of
from unbraid.decompose.training import Training, clip_gradients, each_loss, sample, set_learning_rates, warm_up
from unbraid.targets.data import Batch
from unbraid.targets.target import Target


@dataclass(frozen=True)
class Watch:
    """What the loop reports to, and what may stop it.

    Attributes:
        log: Called every `log_every_steps` and after the last step with the step and its metrics.
        save: Called every `save_every_steps` and when the loop stops early.
        stopped: Asked after each step; True ends the loop there.
    """

    log: Callable[[int, dict[str, float]], None]
    save: Callable[[Training], None]
    stopped: Callable[[], bool]


def train(training: Training, target: Target, config: DecomposeConfig, watch: Watch, until: int | None = None) -> bool:
    """Train from where `training` stands to step `until`, or to the last; return False when `watch` stopped it before.

    Raises:
        UserError: The model's output, the importances or a loss are no longer finite.
    """
    with tensor_float_32(config.precision):
        if training.step == 0:
            warm_up(training, config.warmup)
        return _train_until(config.steps if until is None else until, training, target, config, watch)


def _train_until(last: int, training: Training, target: Target, config: DecomposeConfig, watch: Watch) -> bool:
    for step in range(training.step, last):
        progress = step / config.steps
        if config.prune is not None and step == round(config.prune.at * config.steps):
            prune(training, config.prune)
        logs = (step + 1) % config.log_every_steps == 0 or step + 1 == config.steps
        training.optimizer.zero_grad()
        metrics = [_part(training, target, config, progress, part, logs) for part in range(config.accumulate)]
        average_gradients(training)
        clip_gradients(training, config)
        set_learning_rates(training, config, progress)
        training.optimizer.step()
        training.shards.put_together()
        training.step = step + 1

        if logs:
            means = {name: sum(part[name] for part in metrics) / len(metrics) for name in metrics[0]}
            watch.log(training.step, mean_metrics(training.ranks, means))
        if training.ranks.any(watch.stopped()) and training.step < last:
            watch.save(training)
            return False
        if training.step % config.save_every_steps == 0 and training.step < last:
            watch.save(training)
    return True


def _part(training: Training, target: Target, config: DecomposeConfig, progress: float, part: int, logs: bool) -> dict[str, float]:
    """Add the gradients of one part of the batch, which is all of it unless the settings divide it; return its metrics if they are wanted."""
    elsewhere = None
    if target.elsewhere is not None:
        elsewhere = _step(training, target, config, progress, part, sample(training, target, config, part, elsewhere=True))
        elsewhere.keeps_delta = True
    now = _step(training, target, config, progress, part, sample(training, target, config, part))
    now.elsewhere = elsewhere
    values = {name: loss(now) for name, loss in each_loss(training)}
    total = torch.stack([config.losses[name].weight(progress) * value for name, value in values.items()]).sum()
    check_step(now, total, values)
    (total if config.accumulate == 1 else total / config.accumulate).backward()
    for _, loss in each_loss(training):
        loss.after_backward(now)
    return _metrics(now, total, values) if logs else {}


def _step(
    training: Training, target: Target, config: DecomposeConfig, progress: float, part: int, drawn: tuple[Batch, Tensor | None, int | None]
) -> Step:
    """Run the target's own pass on this rank's rows of a batch, and ask what they need."""
    batch, weights, size, share = share_out(training.ranks, *drawn)
    clean = training.model.clean(batch)
    importances = importances_of(training.model, training.function, clean, config.precision)
    step = Step(training.model, clean, importances, target.behaviour, progress, training.streams, weights, size, share, training.ranks)
    step.part, step.parts, step.precision, step.recompute = part, config.accumulate, config.precision, config.recompute
    return step


@torch.no_grad()
def _metrics(step: Step, total: Tensor, values: dict[str, Tensor]) -> dict[str, float]:
    """Read a step's losses and L0 off the device."""
    result = {"train/loss": float(total)} | {f"train/{name}": float(value) for name, value in values.items()}
    for path, g in step.importances.lower.items():
        count = (g > 0.1).float().sum(-1)
        result[f"train/l0/{path}"] = float(count.mean() if step.weights is None else (count * step.weights).sum())
    result["train/l0"] = sum(value for name, value in result.items() if name.startswith("train/l0/"))
    return result
