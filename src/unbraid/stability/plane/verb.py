"""The question of the picture: what does a model answer over the plane through three activations, each in its own words?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from unbraid.core.config import Config
from unbraid.core.errors import UserError
from unbraid.stability.engine.anchors import anchors_of, relative_error
from unbraid.stability.engine.carrier import Carrier
from unbraid.stability.engine.distances import Read, read_named
from unbraid.stability.engine.places import Place, default_place, place_named
from unbraid.stability.engine.prompts import draw_prompts
from unbraid.stability.engine.untrained import untrained
from unbraid.stability.engine.words import words_of
from unbraid.stability.plane.result import Pictures, PlaneResult
from unbraid.stability.plane.square import Answers, axes_of, plane_through, spans, sweep
from unbraid.targets.target import Target

Prompt = str | Tensor


class PlaneConfig(Config):
    """How planes through three activations are read."""

    site: int | str | None = None
    """Whose output is moved: a block's number or a module's path; null for the first block, or the input of a model without blocks."""
    read: str = "logits"
    """What is read: "logits", "final", "distribution", or a module's path."""
    planes: PositiveInt = 8
    """How many planes are drawn where no prompts are given."""
    context: Annotated[int, Field(ge=1)] = 16
    """Tokens of a prompt that is drawn."""
    resolution: Annotated[int, Field(ge=5, le=1001)] = 41
    """Points along each axis."""
    margin: Annotated[float, Field(ge=0)] = 0.25
    """How far the picture goes beyond the anchors, as a share of their distance."""
    untrained: bool = True
    """Whether the same is read of the model with fresh weights, to compare with."""
    seed: int = 0
    """Decides the prompts and the fresh weights."""


def plane(target: Target, config: PlaneConfig | None = None, through: Sequence[Prompt] | None = None) -> PlaneResult:
    """Read a model over planes through three activations.

    Args:
        target: The model and its text.
        config: The settings; see `PlaneConfig`.
        through: Three prompts, as text, token ids [pos] or input vectors [d]; None draws them from the held-out inputs.

    Returns:
        The pictures, with those of the untrained model.

    Raises:
        UserError: There are not three prompts, they lie on one line, or there is no such place or read-out.
    """
    config = config or PlaneConfig()
    words = words_of(target)
    if through is not None and len(through) != 3:
        raise UserError(f"{len(through)} prompts were given.", "A plane goes through three.")
    place = default_place(target.module) if config.site is None else place_named(target.module, config.site)
    read = read_named(config.read)
    if through is None:
        triples = _drawn(target, place, config)
    else:
        triples = [[words.tokens(prompt) if isinstance(prompt, str) else prompt for prompt in through]]
    pictures = {"model": _pictures(target.module, triples, place, read, config)}
    if config.untrained:
        pictures["untrained"] = _pictures(untrained(target.module, config.seed), triples, place, read, config)
    is_text = not triples[0][0].is_floating_point()
    names = tuple(tuple(words.text(prompt.tolist()) if is_text else "input" for prompt in triple) for triple in triples)
    labels = sorted({int(label) for found in pictures.values() for label in np.unique(found.label)})
    return PlaneResult(target.name, config, str(place), read.title, names, words.each(labels), pictures, is_text)


def _drawn(target: Target, place: Place, config: PlaneConfig) -> list[list[Tensor]]:
    """Draw three prompts per plane, and leave out those whose activations lie on one line, as sparse inputs and like last tokens can."""
    prompts = draw_prompts(target, 3 * config.planes, config.context, config.seed)
    triples: list[list[Tensor]] = []
    tried = 0
    while len(triples) < config.planes:
        if tried == len(prompts):
            prompts = draw_prompts(target, 2 * len(prompts), config.context, config.seed)
            triples, tried = [], 0
        for triple in prompts[tried:].split(3):
            tried += len(triple)
            if len(triples) < config.planes and len(triple) == 3 and spans(*anchors_of(target.module, triple, place)[0]):
                triples.append(list(triple))
    return triples


def _pictures(module: nn.Module, triples: Sequence[Sequence[Tensor]], place: Place, read: Read, config: PlaneConfig) -> Pictures:
    """Read every plane, in each anchor's own context."""
    found: dict[str, list[object]] = {name: [] for name in Pictures.NAMES}
    for triple in triples:
        carriers = [Carrier(module, prompt, place, at_once=max(config.resolution, 3)) for prompt in triple]
        anchors = torch.stack([carrier.anchor for carrier in carriers])
        own = torch.cat([anchors_of(module, prompt[None], place)[1] for prompt in triple])
        flat = plane_through(anchors[0], anchors[1], anchors[2])
        a, b = axes_of(flat, config.resolution, config.margin)
        norms = [flat.points(a.to(anchors.dtype), height.to(anchors.dtype).expand(len(a))).norm(dim=1) for height in b]
        found["foot"].append(flat.foot)
        found["a"].append(a.double().numpy())
        found["norm"].append(torch.stack(norms).double().numpy())
        found["anchor_norm"].append(anchors.norm(dim=1).double().numpy())
        again = torch.cat([_answers(carrier, read)(anchors[index : index + 1])[1] for index, carrier in enumerate(carriers)])
        found["fidelity"].append(relative_error(again, own))
        sweeps = [
            sweep(_answers(carrier, read), read.distance, flat, (a, b), anchors.roll(-index, 0)) for index, carrier in enumerate(carriers)
        ]
        for name in ("distance", "others", "label", "steps_a", "steps_b"):
            found[name].append(np.stack([getattr(one, name) for one in sweeps]))
    return Pictures(**{name: np.stack([np.asarray(value) for value in values]) for name, values in found.items()})


def _answers(carrier: Carrier, read: Read) -> Answers:
    """Return one context as a function of points."""

    def answers(points: Tensor) -> tuple[Tensor, Tensor]:
        found = carrier.read(points, sorted({read.what, "logits"}))
        return found[read.what], found["logits"]

    return answers
