"""The verb of this room: take a target apart, in memory or in a run folder that can be stopped and resumed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from signal import Signals

from unbraid.core.config import read_yaml
from unbraid.core.devices import environment, peak_memory_mb, use_threads
from unbraid.core.errors import UserError
from unbraid.core.metrics import append_metrics, cut_metrics, read_metrics
from unbraid.core.ranks import join
from unbraid.core.signals import StopRequest
from unbraid.core.storage import MANIFEST, disk_errors, sweep, write_json, write_text
from unbraid.decompose.checkpoint import latest_state, load_state, save_state, saved_start
from unbraid.decompose.config import DecomposeConfig
from unbraid.decompose.distributed import check_agreement, cpu_seconds_of_all, told_what_is_saved
from unbraid.decompose.loop import Watch, train
from unbraid.decompose.result import CONFIG_FILE, Decomposition, save_target, target_of
from unbraid.decompose.starts import FOLDER as STARTS
from unbraid.decompose.starts import choose_start, forget_starts, keep_only
from unbraid.decompose.training import Training, prepare
from unbraid.targets.target import Target


class Stopped(Exception):
    """A run was asked to stop and has saved its state; `folder` and `step` say where, `signal` says by what."""

    def __init__(self, folder: Path | None, step: int, signal: Signals | None = None) -> None:
        super().__init__(f"stopped at step {step}")
        self.folder, self.step, self.signal = folder, step, signal

    def __reduce__(self) -> tuple[type[Stopped], tuple[Path | None, int, Signals | None]]:
        """Let it cross from a worker process to the one that started it."""
        return type(self), (self.folder, self.step, self.signal)


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

    Under torchrun the processes train one decomposition together; each returns it, and rank 0 writes the folder.

    Args:
        target: The model under study.
        config: The settings; `unbraid.preset(...)` gives the published ones. Default: the engine's defaults.
        folder: Where to keep the run, so that it can be stopped and resumed; None keeps it in memory.
        resume: Go on from the last saved state of `folder`.
        report: Called whenever metrics are logged, for a live display.

    Returns:
        The trained decomposition.

    Raises:
        UserError: A setting does not fit the target, the folder is taken or damaged, the disk is full, or a loss left the numbers; ranks disagree, or one was lost.
        Stopped: SIGTERM or Ctrl-C came; the state is saved.
    """
    config = config or DecomposeConfig()
    if target.source is not None:
        config = config.model_copy(update={"target": target.source})
    use_threads(config.threads)
    run = None if folder is None else Path(folder)
    ranks = join()
    with told_what_is_saved(run):
        training, chosen = prepare(target, config, ranks=ranks), config.starts is None
        if run is not None:
            training, chosen = _open(run, training, target, config, resume)
        check_agreement(ranks, training, config, target.fingerprint())
        return _train(training, chosen, target, config, run, report)


def _train(
    training: Training, chosen: bool, target: Target, config: DecomposeConfig, run: Path | None, report: Report | None
) -> Decomposition:
    """Choose a start, where there are several, and train it to the end."""
    display = _Display(config, report, training.ranks.first)
    with StopRequest() as stopped:
        if not chosen:
            training, finished = choose_start(
                training, target, config, run, lambda start, place: display.watch(place, target, stopped, start)
            )
            if not finished:
                raise Stopped(run, training.step, stopped.signal)
            if run is not None:
                _settle(run, training, target)
        watch = display.watch(run, target, stopped, training.start)
        if not train(training, target, config, watch):
            raise Stopped(run, training.step, stopped.signal)
    rows = display.rows[training.start] if run is None else read_metrics(run / "metrics.jsonl")
    training.model.eval()
    training.function.eval()
    result = Decomposition(target, config, training.model, training.function, training.step, tuple(rows))
    if run is not None:
        watch.save(training)
        _close(run, training, config)
        training.ranks.first_does(lambda: result.save_pretrained(run))
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


class _Display:
    """Where a run's metrics go: to its folder, to a live display, and to memory, for each of its starts."""

    def __init__(self, config: DecomposeConfig, report: Report | None, first: bool) -> None:
        self.config, self.report, self.first = config, report, first
        self.rows: dict[int, list[Mapping[str, float]]] = {}
        self._began = time.monotonic()
        self._before_choice = 0 if config.starts is None else round(config.starts.until * config.steps)
        self._count = 1 if config.starts is None else config.starts.count

    def watch(self, place: Path | None, target: Target, stopped: StopRequest, start: int) -> Watch:
        """Return the watch of a start that keeps its files in `place`."""
        rows = self.rows.setdefault(start, [])

        def log(step: int, metrics: dict[str, float]) -> None:
            rows.append({"step": step, **metrics})
            if not self.first:
                return
            if place is not None:
                with disk_errors(place / "metrics.jsonl", "The last saved state is whole."):
                    append_metrics(place / "metrics.jsonl", step, metrics)
            if self.report is not None:
                # Starts that were not chosen are work as well: a run's steps are those of all of them together.
                others = (start if step <= self._before_choice else self._count - 1) * self._before_choice
                total = self.config.steps + (self._count - 1) * self._before_choice
                self.report(Progress(others + step, total, metrics, time.monotonic() - self._began))

        def save(state: Training) -> None:
            if place is not None:
                save_state(state, place / "state", target.fingerprint())

        return Watch(log, save, stopped)


def _settle(run: Path, training: Training, target: Target) -> None:
    """Make the chosen start the run itself; interrupted anywhere, the choice is made again and comes out the same."""
    ranks = training.ranks
    if ranks.any((run / STARTS).exists()):
        with disk_errors(run, "The starts are saved."):
            ranks.first_does(lambda: keep_only(training.start, run))
        save_state(training, run / "state", target.fingerprint())
        ranks.first_does(lambda: forget_starts(run))


def _open(run: Path, training: Training, target: Target, config: DecomposeConfig, resume: bool) -> tuple[Training, bool]:
    """Start a run folder, or take up the one that is there; return the state to go on from, and whether its start is chosen."""
    ranks = training.ranks
    if resume:
        state = latest_state(run / "state")
        chosen = config.starts is None or state is not None
        if state is not None:
            training = prepare(target, config, saved_start(state), ranks)
            load_state(training, state, target.fingerprint())
        ranks.first_does(lambda: _tidy(run, training.step if chosen else None, state is not None))
        return training, chosen
    ranks.first_does(lambda: _begin(run, target, config))
    return training, config.starts is None


def _tidy(run: Path, step: int | None, state: bool) -> None:
    """Remove what a killed session left, and the metrics after the step that the run goes on from."""
    if state:
        forget_starts(run)
    for place in (run, run / "state", *(run / STARTS).glob("*"), *(run / STARTS).glob("*/state")):
        sweep(place)
    if step is not None:
        cut_metrics(run / "metrics.jsonl", step)


def _begin(run: Path, target: Target, config: DecomposeConfig) -> None:
    """Write what a run folder has from the start."""
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
    seconds, ranks = cpu_seconds_of_all(training), training.ranks
    if not ranks.first:
        return
    with disk_errors(run, "The trained state is saved."):
        cost = {
            "ranks": ranks.count,
            "cpu_seconds": seconds,
            "earlier_cpu_seconds": training.cpu_seconds,
            "peak_memory_mb": peak_memory_mb(),
            "steps": training.step,
        }
        write_json(run / "env.json", {**environment(config.device, config.threads), "cost": cost})
