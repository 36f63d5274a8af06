"""The question of the map: which activations does the model treat as one, and do tokens, predictions or components say the same?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from numpy import ndarray
from torch import Tensor, nn

from unbraid.core.errors import UserError
from unbraid.core.seeds import stream_seed
from unbraid.decompose.result import Decomposition
from unbraid.stability.engine.anchors import anchors_of, relative_error
from unbraid.stability.engine.carrier import Carrier
from unbraid.stability.engine.distances import Read, read_named
from unbraid.stability.engine.places import Place, default_place, place_named
from unbraid.stability.engine.prompts import draw_prompts
from unbraid.stability.engine.untrained import untrained
from unbraid.stability.engine.words import words_of
from unbraid.stability.regions.config import RegionsConfig
from unbraid.stability.regions.map import RegionMap, map_regions
from unbraid.stability.regions.partitions import density_clusters, pattern_clusters
from unbraid.stability.regions.patterns import gate_patterns, importance_patterns
from unbraid.stability.regions.result import RegionsResult
from unbraid.targets.target import Target


def regions(
    target: Target, config: RegionsConfig | None = None, components: Decomposition | None = None, carrier: str | Tensor | None = None
) -> RegionsResult:
    """Find the stable regions of one context's activations, and compare them with other ways of sorting the same anchors.

    Args:
        target: The model and its text.
        config: The settings; see `RegionsConfig`.
        components: A decomposition of the model, whose important subcomponents are one of those ways.
        carrier: The shared context, as text or tokens; its last token is replaced. None draws one from the held-out text.

    Returns:
        The map, those of the controls, and the other partitions.

    Raises:
        UserError: There are not so many anchors, their answers do not differ, or there is no such place or read-out.
    """
    config = config or RegionsConfig()
    words = words_of(target)
    place = default_place(target.module) if config.site is None else place_named(target.module, config.site)
    read = read_named(config.read)
    if isinstance(carrier, str):
        carrier = words.tokens(carrier)
    prompts = _prompts(target, config, carrier)
    own = _anchored(target.module, prompts, place, read, config)
    found = {"model": own.regions}
    if config.untrained:
        found["untrained"] = _anchored(untrained(target.module, config.seed), prompts, place, read, config).regions
    if config.matched:
        like = torch.from_numpy(covariance_matched(own.anchors.double().numpy(), config.seed)).to(own.anchors.dtype)
        found["matched"] = map_regions(own.response, read.distance, like, config)
    count = len(own.regions.sizes())
    others = _others(target, prompts, place, own, count, config, components)
    is_text = not prompts.is_floating_point()
    labels = prompts[:, -1].tolist() if is_text else list(range(len(prompts)))
    predicted = sorted({int(label) for label in others["prediction"]})
    return RegionsResult(
        target.name,
        config,
        str(place),
        read.title,
        words.text(prompts[0, :-1].tolist()) if is_text else "",
        tuple(words.text([label]) if is_text else str(label) for label in labels),
        words.each(predicted),
        found,
        others,
    )


@dataclass(frozen=True)
class _Anchored:
    """A model's anchors, how it answers points near them, and its regions."""

    anchors: Float[Tensor, "n d"]
    logits: Float[Tensor, "n v"]
    carrier: Carrier
    read: Read
    regions: RegionMap

    def response(self, points: Tensor) -> Tensor:
        return self.carrier.read(points, [self.read.what])[self.read.what]


def _anchored(module: nn.Module, prompts: Tensor, place: Place, read: Read, config: RegionsConfig) -> _Anchored:
    """Take the activations of all prompts, and map the regions of how one frozen context answers them."""
    anchors, logits = anchors_of(module, prompts, place)
    # The prompts differ in their last token alone, so that what the first one keeps of its context is what all of them keep.
    carrier = Carrier(module, prompts[0], place, at_once=config.at_once // config.grid * config.grid or config.grid)

    def response(points: Tensor) -> Tensor:
        return carrier.read(points, [read.what])[read.what]

    fidelity = relative_error(carrier.read(anchors, ["logits"])["logits"], logits)
    return _Anchored(anchors, logits, carrier, read, map_regions(response, read.distance, anchors, config, fidelity))


def _others(
    target: Target, prompts: Tensor, place: Place, own: _Anchored, count: int, config: RegionsConfig, components: Decomposition | None
) -> dict[str, Int[ndarray, " n"]]:
    """Return the other partitions; those that need a number of groups get that of the regions."""
    found = {"prediction": own.logits.argmax(1).numpy()}
    table = getattr(target.module, "get_input_embeddings", lambda: None)()
    if isinstance(table, nn.Embedding) and not prompts.is_floating_point():
        found["last token"] = density_clusters(table.weight.detach()[prompts[:, -1]].double().numpy(), count, config.seed)
    found["density"] = density_clusters(own.anchors.double().numpy(), count, config.seed)
    gates = gate_patterns(target.module, prompts, place)
    if gates is not None:
        found["gates"] = pattern_clusters(gates, count)
    if components is not None:
        found["importance"] = pattern_clusters(importance_patterns(components, target, prompts, place), count)
    return found


def _prompts(target: Target, config: RegionsConfig, carrier: Tensor | None) -> Shaped[Tensor, "n _"]:
    """Return one context with so many last tokens, or so many input vectors.

    Raises:
        UserError: There are not so many tokens.
    """
    drawn = draw_prompts(target, 1, config.context, config.seed)[0] if carrier is None else carrier
    if drawn.is_floating_point():
        return draw_prompts(target, config.anchors, config.context, config.seed)
    if len(drawn) < 2:
        raise UserError("The context has one token, which is replaced.", "Give at least two.")
    if config.tokens == "likely":
        _, logits = anchors_of(target.module, drawn[None, :-1], default_place(target.module))
        ranked = logits[0].argsort(descending=True)
    else:
        text = draw_prompts(target, max(config.anchors, 64), config.context, stream_seed(config.seed, "tokens"))
        tokens, times = text.unique(return_counts=True)
        ranked = tokens[times.argsort(descending=True, stable=True)]
    if len(ranked) < config.anchors:
        raise UserError(f"{config.anchors} last tokens were asked for, and there are {len(ranked)}.", "Ask for fewer anchors.")
    last = ranked[: config.anchors]
    return torch.cat([drawn[:-1].expand(len(last), -1), last[:, None]], dim=1)


def covariance_matched(anchors: Float[ndarray, "n d"], seed: int) -> Float[ndarray, "n d"]:
    """Return so many Gaussian vectors with the anchors' mean and covariance, also where there are fewer anchors than dimensions."""
    n = len(anchors)
    mean = anchors.mean(0)
    draws = np.random.default_rng(stream_seed(seed, "matched")).standard_normal((n, n))
    return mean + draws @ (anchors - mean) / np.sqrt(n - 1)
