"""The verb of this room: take a target apart, in memory or in a run folder that can be stopped and resumed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from signal import Signals

from unbraid.core.config import read_yaml
from unbraid.core.devices import cpu_seconds, environment, peak_memory_mb, use_threads
from unbraid.core.errors import UserError
from unbraid.core.metrics import append_metrics, cut_metrics, read_metrics
from unbraid.core.signals import StopRequest
from unbraid.core.storage import MANIFEST, disk_errors, sweep, write_json, write_text
from unbraid.decompose.checkpoint import latest_state, load_state, save_state
from unbraid.decompose.config import DecomposeConfig
from unbraid.decompose.loop import Watch, train
from unbraid.decompose.result import CONFIG_FILE, Decomposition, save_target, target_of
from unbraid.decompose.training import Training, prepare
from unbraid.targets.target import Target


class Stopped(Exception):
    """A run was asked to stop and has saved its state; `folder` and `step` say where, `signal` says by what."""

    def __init__(self, folder: Path | None, step: int, signal: Signals | None = None) -> None:
        super().__init__(f"stopped at step {step}")
        self.folder, self.step, self.signal = folder, step, signal


@dataclass(frozen=True)
class Progress:
    """What a live display is told about a run.

    Attributes:
        step: Steps done.
        steps: Steps in all.
        metrics: The step's metrics.
        seconds: Wall time since the loop began in this session.
    """

    step: int
    steps: int
    metrics: dict[str, float]
    seconds: float


Report = Callable[[Progress], None]


def decompose(
    target: Target,
    config: DecomposeConfig | None = None,
    folder: str | Path | None = None,
    resume: bool = False,
    report: Report | None = None,
) -> Decomposition:
    """Write a target's weight matrices as sums of rank-one subcomponents, and learn which of them each input needs.

    Args:
        target: The model under study.
        config: The settings; `unbraid.preset(...)` gives the published ones. Default: the engine's defaults.
        folder: Where to keep the run, so that it can be stopped and resumed; None keeps it in memory.
        resume: Go on from the last saved state of `folder`.
        report: Called whenever metrics are logged, for a live display.

    Returns:
        The trained decomposition.

    Raises:
        UserError: A setting does not fit the target, the folder is taken or damaged, the disk is full, or a loss left the numbers.
        Stopped: SIGTERM or Ctrl-C came; the state is saved.
    """
    config = config or DecomposeConfig()
    if target.source is not None:
        config = config.model_copy(update={"target": target.source})
    use_threads(config.threads)
    training = prepare(target, config)
    run = None if folder is None else Path(folder)
    if run is not None:
        _open(run, training, target, config, resume)
    rows = [] if run is None else read_metrics(run / "metrics.jsonl")
    started = time.monotonic()

    def log(step: int, metrics: dict[str, float]) -> None:
        rows.append({"step": step, **metrics})
        if run is not None:
            with disk_errors(run / "metrics.jsonl", "The last saved state is whole."):
                append_metrics(run / "metrics.jsonl", step, metrics)
        if report is not None:
            report(Progress(step, config.steps, metrics, time.monotonic() - started))

    def save(state: Training) -> None:
        if run is not None:
            save_state(state, run / "state", target.fingerprint())

    with StopRequest() as stopped:
        finished = train(training, target, config, Watch(log, save, stopped))
    if not finished:
        raise Stopped(run, training.step, stopped.signal)
    training.model.eval()
    training.function.eval()
    result = Decomposition(target, config, training.model, training.function, training.step, tuple(rows))
    if run is not None:
        save(training)
        _close(run, training, config)
        result.save_pretrained(run)
    return result


def resume_run(folder: Path, target: Target | None = None, report: Report | None = None) -> Decomposition:
    """Go on with a stopped run, by the settings in its folder; a finished one is read back as it is.

    Raises:
        UserError: The folder is no run, is damaged, or belongs to another target. See also `decompose`.
    """
    if not (folder / CONFIG_FILE).exists():
        raise UserError(f"{str(folder)!r} is not a run folder: it has no {CONFIG_FILE}.", "Give the folder that unbraid decompose wrote.")
    if is_finished(folder):
        return Decomposition.from_pretrained(folder, target)
    config = DecomposeConfig.parse(read_yaml(folder / CONFIG_FILE), str(folder / CONFIG_FILE))
    return decompose(target or target_of(config, folder), config, folder, resume=True, report=report)


def is_finished(folder: Path) -> bool:
    """Whether a run folder holds its product, which is marked as whole last of all."""
    return (folder / CONFIG_FILE).exists() and (folder / MANIFEST).exists()


def _open(run: Path, training: Training, target: Target, config: DecomposeConfig, resume: bool) -> None:
    """Start a run folder, or take up the one that is there."""
    state = latest_state(run / "state")
    if resume:
        if state is not None:
            load_state(training, state, target.fingerprint())
        for place in (run, run / "state"):
            sweep(place)
        cut_metrics(run / "metrics.jsonl", training.step)
        return
    if (run / CONFIG_FILE).exists():
        raise UserError(
            f"The folder {str(run)!r} already holds a run.", f"Go on with it: unbraid decompose --resume {run}, or choose another folder."
        )
    with disk_errors(run, "Nothing was started."):
        save_target(target, run)
        write_text(run / CONFIG_FILE, config.to_yaml())
        write_json(run / "env.json", environment(config.device, config.threads))


def _close(run: Path, training: Training, config: DecomposeConfig) -> None:
    """Write down what the run cost."""
    with disk_errors(run, "The trained state is saved."):
        cost = {
            "cpu_seconds": training.cpu_seconds + cpu_seconds(),
            "earlier_cpu_seconds": training.cpu_seconds,
            "peak_memory_mb": peak_memory_mb(),
            "steps": training.step,
        }
        write_json(run / "env.json", {**environment(config.device, config.threads), "cost": cost})
