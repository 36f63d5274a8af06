"""What does a training step on a language model cost, beside the same maths written plainly, and where does the time go?

The engine in both its precisions and the plain step are timed in turns, in CPU time, on the model of small_language_model.py; how far the losses of the two
precisions drift apart is told too. Where a GPU is asked for there is no plain step: what is told there is the share of the card's matrix throughput, as a
large product of the same precision reaches it. Writes language-step.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks.runs import ROOT, provenance, write_between
from unbraid.core.devices import keep_freed_memory, peak_memory_mb, set_waiting_policy, use_threads

PARTS = ("target forward", "importance function", "adversary", "reconstruction", "optimiser", "other")
STEPS = 3  # per round
DRIFT_STEPS = 30
ENGINES = {"engine": "fp32", "engine_high": "high"}
IMPORTANCE = {"kind": "shared-transformer", "d_model": 128, "layers": 2, "heads": 4}


def main() -> None:
    """Measure both in processes of their own for memory, and together for time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--importance", type=json.loads, default=IMPORTANCE, help="settings of the importance function, as JSON")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "language-step.json")
    parser.add_argument(
        "--memory-of", choices=(*ENGINES, "plain"), help="take a few steps, print the peak memory (used by the command itself)"
    )
    arguments = parser.parse_args()
    set_waiting_policy()
    keep_freed_memory()
    use_threads(1)
    if arguments.memory_of:
        steps = runners(arguments.importance, arguments.device)[arguments.memory_of]
        steps(STEPS)
        print(json.dumps({f"{arguments.memory_of}_peak_memory_mb": round(peak_memory_mb(), 1)}))
        return
    # Memory first: a child's largest memory starts from its parent's.
    memory: dict[str, float] = {}
    for which in (*ENGINES, "plain") if arguments.device == "cpu" else ():
        command = [sys.executable, "-m", "benchmarks.language_step", "--memory-of", which, "--importance", json.dumps(arguments.importance)]
        memory |= json.loads(subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout)
    result = {**measure(arguments.importance, arguments.device, arguments.rounds), **memory}
    tree = {**provenance(), "threads": 1, "importance": arguments.importance, "results": result}
    arguments.out.write_text(json.dumps(tree, indent=2) + "\n", encoding="utf-8")
    if arguments.device == "cpu" and arguments.out.parent == ROOT / "benchmarks":
        write_between(ROOT / "README.md", "language-step", table(tree))
    print(json.dumps(result, indent=2))


def table(tree: Mapping[str, Any]) -> str:
    """Write the step's cost beside the plain one's."""
    found, environment = tree["results"], tree["environment"]
    rows = ["| | tokens per CPU-second | ms per step | peak MB |", "|---|---:|---:|---:|"]
    for name, title in {"engine": "engine, `precision: fp32`", "engine_high": "engine, `precision: high`", "plain": "plain, fp32"}.items():
        facts = (found[f"{name}_tokens_per_cpu_second"], found[f"{name}_ms_per_step"], found[f"{name}_peak_memory_mb"])
        rows.append(f"| {title} | {facts[0]:,} | {facts[1]:.0f} | {facts[2]:.0f} |")
    return "\n".join(
        [
            *rows,
            "",
            f"Ratio to plain {found['engine_over_plain']:.2f} in fp32 and {found['engine_high_over_plain']:.2f} in high, medians over {found['rounds']} rounds in turns. "
            f"The losses of the first {DRIFT_STEPS} steps differ between the two by at most {found['largest_difference_of_losses']:.0e} of their value. "
            f"Measured {tree['time']} at commit "
            f"{tree['commit'][:10]}, torch {environment['versions']['torch']}, one thread, {environment['system']}.",
        ]
    )


def runners(importance: Mapping[str, Any], device: str) -> dict[str, Callable[[int], None]]:
    """Return how to take some steps of the engine in each precision, and on the CPU of the plain run."""
    from benchmarks.plain_language import PlainLanguageTraining
    from benchmarks.small_language_model import small_config, small_target

    target, config = small_target(device), small_config(importance, device=device)
    found = {name: engine(target, config.model_copy(update={"precision": precision})) for name, precision in ENGINES.items()}
    if device != "cpu":
        return found
    plain = PlainLanguageTraining(target, config)

    def plainly(steps: int) -> None:
        for _ in range(steps):
            plain.step(plain.updates // 3)

    return {**found, "plain": plainly}


def engine(target: Any, config: Any, log: Callable[[int, dict[str, float]], None] = lambda step, metrics: None) -> Callable[[int], None]:
    """Return how to take some steps of a run."""
    from unbraid.decompose.loop import Watch, train
    from unbraid.decompose.training import prepare

    training = prepare(target, config)
    watch = Watch(log, lambda state: None, lambda: False)

    def steps(count: int) -> None:
        train(training, target, config, watch, until=training.step + count)

    return steps


def largest_difference(importance: Mapping[str, Any]) -> float:
    """Return by what share of its value a loss of the first steps differs at most between the precisions."""
    from benchmarks.small_language_model import small_config, small_target

    target, config = small_target(), small_config(importance).model_copy(update={"log_every_steps": 1})
    curves: dict[str, list[dict[str, float]]] = {}
    for name, precision in ENGINES.items():
        rows = curves[name] = list[dict[str, float]]()
        engine(target, config.model_copy(update={"precision": precision}), lambda step, metrics, rows=rows: rows.append(metrics))(
            DRIFT_STEPS
        )
    losses = [f"train/{loss}" for loss in ("loss", *config.losses)]
    pairs = [(one[loss], other[loss]) for one, other in zip(*curves.values(), strict=True) for loss in losses]
    return max(abs(one - other) / abs(one) for one, other in pairs)


def measure(importance: Mapping[str, Any], device: str, rounds: int) -> dict[str, Any]:
    """Time the steps in turns; return medians, tokens per second, the ratio, and where the engine's time goes."""
    import torch

    from benchmarks.small_language_model import BATCH, WINDOW

    tokens, runs = BATCH * WINDOW, runners(importance, device)
    own: dict[str, list[float]] = {name: [] for name in runs}
    wall: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds + 1):
        for name, run in runs.items():
            start, began = _now(device), time.perf_counter()
            run(STEPS)
            own[name].append((_now(device) - start) / STEPS)
            wall[name].append((time.perf_counter() - began) / STEPS)
    result: dict[str, Any] = {"tokens_per_step": tokens, "rounds": rounds, "steps_per_round": STEPS}
    seconds = {name: statistics.median(values[1:]) for name, values in own.items()}
    for name in runs:
        result[f"{name}_ms_per_step"] = round(seconds[name] * 1e3, 1)
        if device == "cpu":
            result[f"{name}_tokens_per_cpu_second"] = round(tokens / seconds[name])
        result[f"{name}_tokens_per_second"] = round(tokens / statistics.median(wall[name][1:]))
    for name in ENGINES if "plain" in runs else ():
        ratios = [plain / mine for mine, plain in zip(own[name][1:], own["plain"][1:], strict=True)]
        result[f"{name}_over_plain"] = round(statistics.median(ratios), 2)
    if "plain" in runs:
        result["largest_difference_of_losses"] = largest_difference(importance)
    else:
        result["peak_device_memory_mb"] = round(torch.cuda.max_memory_allocated() / 1e6, 1)
    with patch("unbraid.decompose.site.fits", lambda *_: False):  # torch counts what torch multiplies, which the kernels do not show it
        work = operations(lambda: runs["engine"](1))
    result["gflop_per_step"] = round(work / 1e9, 2)
    result["share_of_matrix_throughput"] = round(work / seconds["engine"] / matrix_throughput(device), 3)
    result["shares_of_time"] = shares(lambda: runs["engine"](rounds * STEPS), device)
    return result


def shares(run: Callable[[], None], device: str) -> dict[str, float]:
    """Return the share of each part of the engine's step, by timing the functions that it is made of.

    The backward pass belongs to reconstruction until the gradients of all importances are there, and then to the importance function; the
    adversary is its ascents, while the pass under the sources that they end with is reconstruction.
    """
    import torch

    from unbraid.decompose import loop
    from unbraid.decompose.losses import persistent_adversarial as adversary
    from unbraid.decompose.model import DecomposedModel
    from unbraid.decompose.step import Step

    spent, running = dict.fromkeys(PARTS, 0.0), ["other"]
    last = _now(device)

    def switch(part: str | None) -> None:
        nonlocal last
        now = _now(device)
        spent[running[-1]] += now - last
        last = now
        running.append(part) if part else running.pop()

    def timed(part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def inner(*args: Any, **kwargs: Any) -> Any:
            switch("adversary" if running[-1] == "adversary" else part)
            try:
                return call(*args, **kwargs)
            finally:
                switch(None)

        return inner

    def importances(*args: Any) -> Any:
        result = loop_importances(*args)
        waiting = len(result.lower)

        def arrived(_: Any) -> None:
            nonlocal waiting
            waiting -= 1
            if waiting == 0:
                switch(None)
                switch("importance function")

        for g in result.lower.values():
            g.register_hook(arrived)
        return result

    loop_importances = loop.importances_of
    places: list[tuple[Any, str, Callable[..., Any]]] = [
        (DecomposedModel, "clean", timed("target forward", DecomposedModel.clean)),
        (loop, "importances_of", timed("importance function", importances)),
        (adversary, "gradients", timed("adversary", adversary.gradients)),
        (adversary, "adam_ascent", timed("adversary", adversary.adam_ascent)),
        (Step, "distance", timed("reconstruction", Step.distance)),
        (torch.Tensor, "backward", timed("reconstruction", torch.Tensor.backward)),
        (loop, "clip_gradients", timed("optimiser", loop.clip_gradients)),
        (torch.optim.AdamW, "step", timed("optimiser", torch.optim.AdamW.step)),
    ]
    with ExitStack() as stack:
        for owner, name, replacement in places:
            stack.enter_context(patch.object(owner, name, replacement))
        run()
        switch("other")
    return {part: round(seconds / sum(spent.values()), 3) for part, seconds in spent.items()}


def operations(run: Callable[[], None]) -> int:
    """Return the floating-point operations of the matrix products and attention of what `run` does."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def matrix_throughput(device: str) -> float:
    """Return the operations per second that a large matrix product reaches here, in fp32 on the CPU and bf16 elsewhere."""
    import torch

    n, repeats = (1024, 10) if device == "cpu" else (8192, 50)
    x = torch.randn(n, n, device=device, dtype=torch.float32 if device == "cpu" else torch.bfloat16)
    best = 0.0
    for _ in range(5):
        start = _now(device)
        for _ in range(repeats):
            x @ x
        best = max(best, 2 * n**3 * repeats / (_now(device) - start))
    return best


def _now(device: str) -> float:
    """Return the CPU time of this process; for a GPU the time on the clock, once the card is done."""
    import torch

    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


if __name__ == "__main__":
    main()
