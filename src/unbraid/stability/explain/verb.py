"""Which parts of a decomposition build a plateau? Paths between activations, run in the decomposed model with parts removed.

result = explain(unbraid.load("carroll"), ExplainConfig(pairs=20))
result.summary()
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from unbraid.core.errors import UserError
from unbraid.core.seeds import Streams
from unbraid.decompose.result import Decomposition
from unbraid.decompose.subject import Subject, learned
from unbraid.stability.engine.distances import read_named
from unbraid.stability.engine.paths import path_between
from unbraid.stability.engine.places import INPUT, Place, blocks_of, default_place, place_named
from unbraid.stability.engine.prompts import draw_prompts
from unbraid.stability.explain.config import ExplainConfig
from unbraid.stability.explain.exchanged import DecomposedCarrier
from unbraid.stability.explain.pair import RAGGED, measure_pair
from unbraid.stability.explain.removals import Path, removed_sets
from unbraid.stability.explain.result import ExplainResult
from unbraid.targets.target import Target

Pairs = Sequence[tuple[Tensor, Tensor]]


def explain(decomposition: Decomposition, config: ExplainConfig | None = None) -> ExplainResult:
    """Ask which parts build the plateaus between pairs of activations.

    Args:
        decomposition: What was taken apart.
        config: The settings; see `ExplainConfig`.

    Raises:
        UserError: There is no such place or position, no decomposed site comes after it, or the two texts' activations are the same.
    """
    config = config or ExplainConfig()
    return explain_subject(
        learned(decomposition.model, decomposition.function), decomposition.target, config, _texts(decomposition, config)
    )


def explain_subject(subject: Subject, target: Target, config: ExplainConfig, pairs: Pairs | None = None) -> ExplainResult:
    """Ask the same of a decomposed model with any importances, such as the planted ones of a toy at its own input.

    Args:
        subject: The decomposed model and the importance of its parts.
        target: The model that it was made from.
        config: The settings.
        pairs: Two prompts each; None draws them from the target's held-out inputs, and leaves out those whose activations are the same.
    """
    drawn = pairs is None
    if pairs is None:
        prompts = draw_prompts(target, 2 * config.pairs, config.context, config.seed)
        pairs = list(zip(prompts[: config.pairs], prompts[config.pairs :], strict=True))
    config = config.model_copy(update={"pairs": len(pairs)})
    place = first_place(target.module) if config.site is None else place_named(target.module, config.site)
    generator = Streams(config.seed)["parts"]
    read = read_named(config.read)
    t = torch.linspace(0, 1, config.points)
    blocks = blocks_of(target.module)
    found: list[dict[str, np.ndarray]] = []
    parts = None
    for start, end in pairs:
        carrier = DecomposedCarrier(subject, start, place, config.position)
        parts = carrier.parts
        other = DecomposedCarrier(subject, end, place, config.position).anchor
        if torch.equal(carrier.anchor, other):
            if drawn:
                continue  # two prompts that end in the same token have one embedding: no path, and one pair fewer
            raise UserError(
                f"The two activations at {str(place)!r} are the same, so that there is no way between them.",
                "Give texts that end in different tokens, or a later place." if carrier.is_sequence else "Give two different inputs.",
            )
        kind = config.path or ("geodesic" if carrier.is_sequence else "linear")
        points = path_between(kind, carrier.anchor, other)(t.to(other.device))
        found.append(measure_pair(Path(carrier, points, t.to(other.device), read), blocks, config, generator))
    if parts is None or not found:
        raise UserError(f"No pair has two different activations at {str(place)!r}.", "Choose a later place, or more pairs.")
    stacked = {key: np.stack([pair[key] for pair in found]) for key in found[0] if key not in RAGGED}
    ragged = {f"{key}.{index}": pair[key] for index, pair in enumerate(found) for key in RAGGED}
    return ExplainResult(
        target.name,
        config,
        str(place),
        tuple(removed_sets(parts, torch.zeros(parts.count, dtype=torch.bool), blocks)),
        tuple(parts.name(index) for index in range(parts.count)),
        {"t": t.numpy(), **stacked, **ragged},
    )


def first_place(module: nn.Module) -> Place:
    """Return the place that every site of the blocks comes after: the token embedding, or the model's own input.

    Where a model has blocks but does not tell its embedding, the first block's output.
    """
    embedding = getattr(module, "get_input_embeddings", None)
    found = embedding() if callable(embedding) else None
    if isinstance(found, nn.Module):
        return Place(next(path for path, child in module.named_modules() if child is found))
    return default_place(module) if blocks_of(module) else Place(INPUT)


def _texts(decomposition: Decomposition, config: ExplainConfig) -> Pairs | None:
    """Return the two prompts that the settings give as texts."""
    if config.pair is None:
        return None
    from unbraid.targets.models.language_model import KIND
    from unbraid.targets.models.load import load_tokenizer

    settings = decomposition.config.target or {}
    if settings.get("kind") != KIND:
        raise UserError(f"{decomposition.target.name!r} reads no text.", "Leave the pair out: pairs are drawn from its inputs.")
    tokenizer = load_tokenizer(str(settings["model"]))
    prompts = [torch.tensor(tokenizer.encode(text), dtype=torch.long) for text in config.pair]
    for text, prompt in zip(config.pair, prompts, strict=True):
        if not len(prompt):
            raise UserError(f"The text {text!r} has no tokens.", "Give some text.")
    return [(prompts[0], prompts[1])]
