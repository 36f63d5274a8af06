"""The verb of this room: verify toys, several cases at a time, and do only what is missing."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from pydantic import NonNegativeInt, PositiveInt

from unbraid.core.config import Config
from unbraid.core.devices import set_waiting_policy
from unbraid.core.errors import UserError
from unbraid.core.registry import load_plugins
from unbraid.core.signals import StopRequest
from unbraid.core.storage import write_json
from unbraid.decompose.verb import Stopped
from unbraid.verify.case import Case, cases
from unbraid.verify.provenance import provenance
from unbraid.verify.result import Verification
from unbraid.verify.run import known_record, run_case

RESULT = "verification.json"


class VerifyConfig(Config):
    """How much is verified, and where."""

    seeds: PositiveInt | None = None
    """How many seeds; null for each toy's own number."""
    first_seed: NonNegativeInt = 0
    """The first of them; recipes were tuned on seeds from 0, so fresh ones say more."""
    controls: bool = True
    """Whether the negative controls are run."""
    phases: bool = False
    """Whether the cells of the phase diagrams are run."""
    overrides: tuple[str, ...] = ()
    """Settings laid over every recipe, such as "steps=2000"."""
    jobs: PositiveInt = 1
    """How many cases are run at a time, one process and one thread each."""


Watch = Callable[[dict[str, Any], int, int], None]
"""Called with a record, how many cases are done, and how many there are."""


def verify(
    names: Sequence[str] = (),
    config: VerifyConfig | None = None,
    folder: str | Path = "runs/verify",
    report: Watch | None = None,
    plugins: Sequence[Path] = (),
) -> Verification:
    """Decompose and score toys at several seeds, with their variants and negative controls.

    Interrupt it and call it again: finished cases of the same code are taken over, and an unfinished run goes on.

    Args:
        names: Toys; empty for all.
        config: How much.
        folder: Where each case has its run folder, and where the result is written.
        report: Called after each case.
        plugins: Folders of plugins that the toys need.

    Returns:
        Every record, with the table over them; also written to `verification.json` in the folder.

    Raises:
        UserError: There is no toy of a name, or a run failed.
        Stopped: Ctrl-C or SIGTERM came; the runs under way save their states.
    """
    config, folder = config or VerifyConfig(), Path(folder)
    wanted = cases(names, config.seeds, config.first_seed, config.controls, config.phases, config.overrides)
    records: dict[str, dict[str, Any]] = {}
    for case, record in _each(wanted, folder, config.jobs, plugins):
        records[case.name] = record
        if report is not None:
            report(record, len(records), len(wanted))
    result = Verification(tuple(records[case.name] for case in wanted), provenance())
    write_json(folder / RESULT, result.tree())
    return result


def _each(wanted: Sequence[Case], folder: Path, jobs: int, plugins: Sequence[Path]) -> Iterator[tuple[Case, dict[str, Any]]]:
    """Give each case with its record: first those that are there, then the others as they finish."""
    missing: list[Case] = []
    for case in wanted:
        record = known_record(case, folder)
        if record is None:
            missing.append(case)
        else:
            yield case, record
    if missing:
        yield from _run(missing, folder, jobs, plugins)


def _run(missing: list[Case], folder: Path, jobs: int, plugins: Sequence[Path]) -> Iterator[tuple[Case, dict[str, Any]]]:
    """Run cases, so many at a time, and give each with its record as it finishes."""
    # A fresh process per case: its CPU time and its memory are the case's own.
    context = multiprocessing.get_context("spawn")
    with (
        StopRequest() as stopped,
        ProcessPoolExecutor(jobs, context, initializer=_prepare, initargs=(tuple(plugins),), max_tasks_per_child=1) as pool,
    ):
        running: dict[Future[dict[str, Any]], Case] = {}
        try:
            while missing or running:
                while missing and len(running) < jobs:
                    case = missing.pop(0)
                    running[pool.submit(run_case, case, folder)] = case
                done, _ = wait(running, timeout=0.2, return_when=FIRST_COMPLETED)
                if stopped():
                    raise Stopped(folder, 0, stopped.signal)
                for future in done:
                    yield running.pop(future), future.result()
        except BrokenProcessPool:
            raise UserError(
                "A process that verified a case was ended from outside, perhaps for want of memory.",
                "What was saved is kept: type the same command again, with fewer --jobs.",
            ) from None
        finally:
            if running:
                for process in multiprocessing.active_children():
                    process.terminate()  # a run under way answers by saving its state


def _prepare(plugins: Sequence[Path]) -> None:
    set_waiting_policy()
    for folder in plugins:
        load_plugins(folder)
