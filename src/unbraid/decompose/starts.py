"""Which of several starts goes on? Each is trained for part of the run, and the one with the lowest objective is kept.

The commonest wrong optimum, two mechanisms in one subcomponent, is decided early and never left, but it costs a few per cent of
the objective. Comparing starts by the run's own objective, on the same inputs and masks, needs no knowledge of the truth.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path

import torch

from unbraid.core.metrics import cut_metrics
from unbraid.core.seeds import Streams
from unbraid.decompose.checkpoint import latest_state, load_state
from unbraid.decompose.config import DecomposeConfig, StartsConfig
from unbraid.decompose.distributed import mean_metrics, share_out
from unbraid.decompose.loop import Watch, train
from unbraid.decompose.step import Step, importances_of
from unbraid.decompose.training import Training, each_loss, needs_every_input, prepare
from unbraid.targets.data import draw
from unbraid.targets.target import Target

FOLDER = "starts"


def choose_start(
    first: Training, target: Target, config: DecomposeConfig, run: Path | None, watch_of: Callable[[int, Path | None], Watch]
) -> tuple[Training, bool]:
    """Train every start up to the point of choice and return the best there, with True; a start that was stopped, with False.

    Args:
        first: The first start, prepared.
        target: The model under study.
        config: The settings; `config.starts` says how many and how far.
        run: The run folder, in which each start keeps its own state and metrics until the choice; None keeps nothing.
        watch_of: Gives the watch of a start that keeps its files in a folder.
    """
    starts = config.starts or StartsConfig(count=1)
    until = round(starts.until * config.steps)
    best, lowest, earlier = first, math.inf, 0.0
    for start in range(starts.count):
        training = first if start == 0 else prepare(target, config, start, first.ranks)
        folder = None if run is None else run / FOLDER / str(start)
        if folder is not None:
            _take_up(training, folder, target)
        earlier = max(earlier, training.cpu_seconds)
        watch = watch_of(start, folder)
        if training.step < until:
            if not train(training, target, config, watch, until):
                return training, False
            watch.save(training)
        value = objective(training, target, config)
        if value < lowest:
            best, lowest = training, value
    best.cpu_seconds = earlier  # what other starts cost in earlier sessions belongs to the run
    return best, True


def _take_up(training: Training, folder: Path, target: Target) -> None:
    """Go on where this start was saved, if it was."""
    training.ranks.first_does(lambda: folder.mkdir(parents=True, exist_ok=True))
    state = latest_state(folder / "state")
    if state is not None:
        load_state(training, state, target.fingerprint())
    training.ranks.first_does(lambda: cut_metrics(folder / "metrics.jsonl", training.step))


def keep_only(start: int, run: Path) -> None:
    """Make a start's metrics those of the run; a choice before the first logged step has none."""
    metrics = run / FOLDER / str(start) / "metrics.jsonl"
    if metrics.exists():
        shutil.copyfile(metrics, run / "metrics.jsonl")


def forget_starts(run: Path) -> None:
    """Remove what the starts kept, once the run's own state is saved."""
    shutil.rmtree(run / FOLDER, ignore_errors=True)


@torch.no_grad()
def objective(training: Training, target: Target, config: DecomposeConfig) -> float:
    """Return the run's whole objective where it stands, averaged over batches and masks that are the same for every start."""
    streams = Streams(config.seed, training.streams.device)
    progress = training.step / config.steps
    total, ranks = 0.0, training.ranks
    batches = 2 * config.evaluation.batches
    for index in range(batches):
        drawn = draw(target.data, index, config.batch_size, streams["choice"], needs_every_input(training))
        batch, weights, size, share = share_out(ranks, *drawn)
        clean = training.model.clean(batch)
        importances = importances_of(training.model, training.function, clean)
        step = Step(training.model, clean, importances, target.behaviour, progress, streams, weights, size, share, ranks)
        total += sum(config.losses[name].weight(progress) * float(loss(step)) for name, loss in each_loss(training)) / batches
    return mean_metrics(ranks, {"objective": total})["objective"]
