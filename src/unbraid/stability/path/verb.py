"""The verb `path`: join pairs of real activations and ask how the answer changes on the way, with every control beside it.

1. Prompts are drawn, two per pair, no prompt twice. 2. The activation of the one at the site becomes that of the other, in the context of the first.
3. Distances of the answers are kept raw. 4. On some of the pairs the same is done with each control's change, and nothing else, different.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from unbraid.core.errors import UserError
from unbraid.core.seeds import Streams
from unbraid.stability.engine.anchors import anchors_of
from unbraid.stability.engine.carrier import Carrier
from unbraid.stability.engine.distances import READS, Read, read_named
from unbraid.stability.engine.paths import path_between
from unbraid.stability.engine.places import INPUT, Place, blocks_of, default_place, place_named
from unbraid.stability.engine.prompts import draw_prompts
from unbraid.stability.engine.untrained import untrained
from unbraid.stability.path.config import PathConfig
from unbraid.stability.path.drawn_alike import drawn_alike
from unbraid.stability.path.frozen import frozen_edits
from unbraid.stability.path.result import Fidelity, PathResult, Population
from unbraid.stability.path.sampled import Along, Sampled, sample
from unbraid.targets.target import Target

Report = Callable[[int, int], None]
"""Called with how many paths are done, and of how many."""


def path(target: Target, config: PathConfig | None = None, report: Report | None = None) -> PathResult:
    """Measure how sharply a model's answer changes between pairs of its own activations.

    Args:
        target: The model and its inputs; decomposed sites play no part.
        config: The settings; see `PathConfig`.
        report: Told of progress.

    Raises:
        UserError: There are too few prompts, no such site or read-out, or an answer is not finite.
    """
    config = config or PathConfig()
    module = target.module
    place = default_place(module) if config.site is None else place_named(module, config.site)
    prompts = draw_prompts(target, max(2 * config.pairs, config.bank), config.context, config.seed)
    study = _Study(module, prompts, place, config, _reads(module, config))
    checked = min(config.control_pairs, config.pairs) if config.controls else 0
    names = study.conditions if config.controls else ()
    total, done = config.pairs + checked * len(names), 0

    def counted(found: Iterator[Sampled]) -> Population:
        nonlocal done
        kept: list[Sampled] = []
        for one in found:
            kept.append(one)
            done += 1
            if report is not None:
                report(done, total)
        return Population.of(kept)

    populations = {"model": counted(study.run("model", range(config.pairs)))}
    for name in names:
        populations[name] = counted(study.run(name, range(checked)))
    fidelity = study.fidelity(range(min(checked, 8))) if config.controls else None
    return PathResult(target.name, config, str(place), study.reads[0].name, populations, fidelity)


def _reads(module: nn.Module, config: PathConfig) -> tuple[Read, ...]:
    """Return what is read, the one that counts first."""
    first = read_named(config.read)
    usual = [read for read in READS.values() if read.what != "final" or blocks_of(module)]
    return (first, *(read for read in usual if read.name != first.name))


class _Study:
    """The pairs, and what each condition changes of them."""

    def __init__(self, module: nn.Module, prompts: Tensor, place: Place, config: PathConfig, reads: tuple[Read, ...]) -> None:
        self.module, self.prompts, self.place, self.config, self.reads = module, prompts, place, config, reads
        self.real = anchors_of(module, prompts, place, config.position)[0]
        self.generator = Streams(config.seed, torch.device("cpu"))["ends"]
        if not prompts.is_floating_point():  # vectors have no vocabulary to be a distribution over
            return
        self.reads = tuple(read for read in reads if read.name != "distribution" or read is reads[0])

    @property
    def conditions(self) -> tuple[str, ...]:
        """The controls that this model allows."""
        blocks = blocks_of(self.module)
        parts: tuple[str, ...] = ("frozen mlp", "frozen attention", "frozen norm") if blocks else ()
        first = -1 if self.place.block is None else self.place.block
        places = sorted({round(first + (len(blocks) - 1 - first) * share) for share in (0.25, 0.5, 0.75, 1.0)} - {first}) if blocks else []
        # Coordinates of an input are alike: shuffled, they are another input, and no control.
        shuffled = () if self.place.path == INPUT else ("shuffled",)
        return ("swapped", "untrained", "covariance", *shuffled, "other path", *parts, *(f"block {block}" for block in places))

    def run(self, condition: str, pairs: range) -> Iterator[Sampled]:
        """Yield the distances of each pair under a condition."""
        study = self
        if condition == "untrained":
            fresh = untrained(self.module, self.config.untrained_seed)
            study = _Study(fresh, self.prompts, self.place, self.config, self.reads)
        elif condition.startswith("block "):
            study = _Study(self.module, self.prompts, place_named(self.module, int(condition.split()[1])), self.config, self.reads)
        alike = drawn_alike(self.real, 2 * len(pairs), self.generator) if condition == "covariance" else None
        for pair in pairs:
            carrier = Carrier(study.module, self.prompts[2 * pair], study.place, self.config.position)
            start, end = carrier.anchor, study.real[2 * pair + 1]
            if condition == "swapped":
                start, end = end, start
            elif alike is not None:
                start, end = alike[2 * pair], alike[2 * pair + 1]
            elif condition == "shuffled":
                order = torch.randperm(len(start), generator=self.generator)
                start, end = start[order], end[order]
            yield study._sampled(carrier, start, end, condition)

    def _sampled(self, carrier: Carrier, start: Tensor, end: Tensor, condition: str) -> Sampled:
        kind = self.config.path
        if condition == "other path":
            kind = "geodesic" if kind == "linear" else "linear"
        along: Along = path_between(kind, start, end, self.real.mean(0))
        part = condition.removeprefix("frozen ")
        edits = {}
        if part in ("mlp", "attention", "norm"):
            even = torch.linspace(0.0, 1.0, self.config.points, dtype=torch.float64)
            edits = frozen_edits(carrier, along(even), part)
        with carrier.edited(edits):
            found = sample(carrier, along, self.reads, self.config.points, self.config.extra)
        # A control may blow up, as a model with frozen norms can: its curve then says nothing, and is counted as undefined.
        if condition == "model" and not all(np.isfinite(values).all() for values in found.to_start.values()):
            raise UserError("An answer on a path is not finite.", "Load the model in float32.")
        if condition == "swapped":  # told in the direction of the others
            return replace(found, t=1 - found.t[::-1], norms=found.norms[::-1], **_reversed(found))
        return found

    def fidelity(self, pairs: range) -> Fidelity:
        """Return how exactly a path's beginning is the model's own answer, and a run from kept keys and values that of the whole prompt."""
        ends: list[float] = []
        wholes: list[float] = []
        for pair in pairs:
            prompt = self.prompts[2 * pair]
            carrier = Carrier(self.module, prompt, self.place, self.config.position)
            with torch.no_grad():
                own = carrier.own_answer()
            there = carrier.read(carrier.anchor[None])["logits"][0]
            ends.append(float((there - own).norm() / own.norm()))
            along = path_between("linear", carrier.anchor, self.real[2 * pair + 1])(torch.linspace(0, 1, 3))
            whole = Carrier(self.module, prompt, self.place, self.config.position, prefix=False).read(along)["logits"]
            wholes.append(float((carrier.read(along)["logits"] - whole).norm() / whole.norm()))
        return Fidelity(max(ends), max(wholes), len(pairs))


def _reversed(found: Sampled) -> dict[str, dict[str, np.ndarray]]:
    """Return a curve read from its other end."""
    return {
        "to_start": {name: values[::-1] for name, values in found.to_end.items()},
        "to_end": {name: values[::-1] for name, values in found.to_start.items()},
        "steps": {name: values[::-1] for name, values in found.steps.items()},
    }
