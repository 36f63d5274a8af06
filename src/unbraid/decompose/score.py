"""How is the scorecard measured? The same questions are put to the decomposition, to the planted truth and to the nulls."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor

from unbraid.core.seeds import Streams
from unbraid.core.statistics import Estimate, bootstrap_mean
from unbraid.decompose.bars import CROSS_ENTROPY, bars_for
from unbraid.decompose.compare import compare
from unbraid.decompose.config import DecomposeConfig
from unbraid.decompose.evaluate import adversarial_ladder, everything_lost, reconstruction
from unbraid.decompose.next_token import compute_recovered
from unbraid.decompose.result import ALIVE_RATE, ALIVE_THRESHOLD, Decomposition
from unbraid.decompose.scorecard import Line, Scorecard
from unbraid.decompose.subject import Subject, learned, oracle, shuffled, untrained, zeroed
from unbraid.targets.data import draw
from unbraid.targets.target import Target


@dataclass
class Measured:
    """What was measured on one subject: metric → values over batches (one value for what is exact), and the spectrum."""

    values: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    spectrum: dict[str, Tensor] = field(default_factory=dict[str, Tensor])

    def mean(self, key: str) -> float | None:
        """Return a metric's mean, or None where it was not measured."""
        values = self.values.get(key)
        return sum(values) / len(values) if values else None


def score(decomposition: Decomposition) -> Scorecard:
    """Measure the decomposition, the planted truth and the nulls on the same fresh batches, and set the bars."""
    target, config = decomposition.target, decomposition.config
    subject = learned(decomposition.model, decomposition.function)
    result = measure(subject, target, config, full=True)
    start = measure(untrained(target, config), target, config, full=False)
    nulls = {
        "untrained": start,
        "shuffled": measure(shuffled(subject, config.seed), target, config, full=False),
        "zero": measure(zeroed(subject), target, config, full=False),
    }
    truth = None if target.truth is None else measure(oracle(target, target.truth), target, config, full=True)
    bars = bars_for(target, {key: truth.mean(key) for key in truth.values} if truth else {}, result)
    lines = tuple(
        Line(
            key=bar.key,
            title=bar.title,
            group=bar.group,
            value=_estimate(result.values[bar.key]),
            bar=bar.bar,
            nulls={name: value for name, null in nulls.items() if (value := null.mean(bar.key)) is not None},
            # The oracle's importances go by features, these lines by what the model answers, so they have no oracle.
            oracle=truth.mean(bar.key) if truth and bar.key not in ("co_active_error", "needed_error") else None,
            note=bar.note,
        )
        for bar in bars
        if bar.key in result.values
    )
    spectrum = {path: values.sort(descending=True).values.tolist() for path, values in result.spectrum.items()}
    return Scorecard(target.name, config.seed, decomposition.step, lines, spectrum, target.truth is not None)


def _estimate(values: list[float]) -> Estimate:
    return bootstrap_mean(values)


def measure(subject: Subject, target: Target, config: DecomposeConfig, full: bool) -> Measured:
    """Measure one subject on fresh batches and, where the truth is known, on the probes.

    Nulls are measured on fewer batches and only at the adversary's first budget (`full` False): they are far from every bar.
    """
    settings, device = config.evaluation, torch.device(config.device)
    streams = Streams(config.seed, device)
    measured = Measured()
    firing: dict[str, Tensor] = {}
    batches = settings.batches if full else min(settings.batches, settings.ladder_batches)
    for index in range(batches):
        batch, weights, _ = draw(target.fresh, index, settings.batch_size, streams["evaluation"])
        clean = subject.model.clean(batch)
        for name, value in reconstruction(subject, clean, target.behaviour, streams["evaluation-masks"], weights).items():
            measured.values[name].append(value)
        budgets = settings.adversary_steps if full and index < settings.ladder_batches else settings.adversary_steps[:1]
        size = settings.adversary_step_size
        lost = adversarial_ladder(subject, clean, target.behaviour, streams["evaluation-adversary"], budgets, size, weights)
        scale = float(everything_lost(subject, clean, target.behaviour, weights))
        for steps, value in lost.items():
            measured.values[f"pgd_{steps}"].append(value / scale)
            if "ce_target" in measured.values:
                measured.values[f"kl_pgd_{steps}"].append(value)
        with torch.no_grad():
            _count(measured, subject.importance(clean), weights, firing, batches)
    if len(target.training) > 1:
        for name in CROSS_ENTROPY:
            measured.values[f"recovered_{name}"] = [compute_recovered(target.training, above) for above in measured.values[f"ce_{name}"]]
    first = f"pgd_{settings.adversary_steps[0]}"
    measured.values["pgd_ratio"] = [p / max(s, 1e-12) for p, s in zip(measured.values[first], measured.values["stoch_masked"], strict=True)]
    alive = {path: rate >= ALIVE_RATE for path, rate in firing.items()}
    for path, mask in alive.items():
        measured.values[f"alive/{path}"] = [float(mask.sum())]
    with torch.no_grad():
        shares = [float(site.delta().square().sum() / site.weight.square().sum()) for site in subject.model.sites.values()]
        measured.values["faithfulness"] = [sum(shares) / len(shares)]
        if target.truth is not None:
            fresh = target.fresh.batch(0, settings.batch_size, streams["evaluation-truth"])
            for key, value in compare(subject, target.truth, alive, cast(Tensor, fresh), device).items():
                measured.values[key] = [value]
    return measured


def _count(measured: Measured, importance: Mapping[str, Tensor], weights: Tensor | None, firing: dict[str, Tensor], batches: int) -> None:
    """Add one batch to L0, the firing rates and the spectrum."""
    total = 0.0
    for path, g in importance.items():
        flat = g.flatten(0, -2)
        shares = flat.new_full((len(flat),), 1 / len(flat)) if weights is None else weights.flatten()
        rate, mean = shares @ (flat > ALIVE_THRESHOLD).to(flat.dtype), shares @ flat
        measured.values[f"l0/{path}"].append(float(rate.sum()))
        total += float(rate.sum())
        firing[path] = firing.get(path, torch.zeros_like(rate)) + rate / batches
        measured.spectrum[path] = measured.spectrum.get(path, torch.zeros_like(mean)) + mean / batches
    measured.values["l0_total"].append(total)
