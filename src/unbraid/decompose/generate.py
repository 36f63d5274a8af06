"""What does a language model say when parts of it are ablated? The same prompt goes on under each kind of mask, side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from unbraid.core.errors import UserError, unknown
from unbraid.core.seeds import Streams
from unbraid.decompose.adversary import as_sources, gradients, random_sources, sign_step
from unbraid.decompose.evaluate import rounded
from unbraid.decompose.masks import Importance, Mask, Masks, Source, constant_masks, draw_sources, masks_from
from unbraid.decompose.model import Clean
from unbraid.decompose.result import Decomposition
from unbraid.decompose.subject import learned
from unbraid.targets.behaviour import kl

MASKS = ("target", "unmasked", "stochastic", "importance", "rounded", "adversarial", "random", "zero")
DEFAULT_MASKS = ("target", "unmasked", "stochastic", "rounded", "adversarial")

MasksOf = Callable[[Importance], Masks]


@dataclass(frozen=True)
class Continuation:
    """What one kind of mask made of a prompt.

    Attributes:
        masks: The kind.
        tokens: The new tokens.
        kl: KL from the model's own next-token distribution to the masked one, mean over the new tokens, in nats: each is asked about the
            same text, the one that this kind has written.
    """

    masks: str
    tokens: tuple[int, ...]
    kl: float


def generate(
    decomposition: Decomposition,
    prompt: Int[Tensor, " pos"],
    masks: Sequence[str] = DEFAULT_MASKS,
    tokens: int = 32,
    temperature: float = 0.0,
    stop_at: int | None = None,
    adversary_steps: int = 20,
    adversary_step_size: float = 0.1,
    seed: int = 0,
) -> tuple[Continuation, ...]:
    """Go on with a prompt under each kind of mask.

    "target" is the model itself, "unmasked" all subcomponents without Δ, "stochastic" masks at random between importance and 1, "importance" the
    importances themselves, "rounded" what is above 0.1 whole, "random" masks that ignore importance, "zero" nothing. "adversarial" is one choice
    of masks for all positions that moves the model's answers on the prompt furthest, found there and then held.

    Args:
        decomposition: A decomposed language model.
        prompt: Token ids.
        masks: Kinds, from `MASKS`.
        tokens: How many to write.
        temperature: 0 takes the likeliest token.
        stop_at: A token that ends the text.
        adversary_steps: Sign steps of the adversary.
        adversary_step_size: Size of each.
        seed: Decides random masks and drawn tokens; every kind draws tokens from the same stream.

    Raises:
        UserError: A kind is unknown, the prompt is empty or too long, or the target's behaviour is not KL.
    """
    for name in masks:
        if name not in MASKS:
            raise unknown("kind of mask", name, MASKS)
    if decomposition.target.behaviour.name != "kl":
        raise UserError(
            f"{decomposition.target.name!r} writes no text: its behaviour is {decomposition.target.behaviour.name!r}.",
            "Give a language model.",
        )
    if not len(prompt):
        raise UserError("The prompt has no tokens.", "Give some text: --prompt TEXT")
    longest = getattr(getattr(decomposition.target.module, "config", None), "max_position_embeddings", None)
    if isinstance(longest, int) and len(prompt) + tokens > longest:
        raise UserError(
            f"A prompt of {len(prompt)} tokens and {tokens} more is longer than the {longest} that the model reads.",
            f"Write fewer: --tokens {max(longest - len(prompt), 0)}",
        )
    found: list[Continuation] = []
    for name in masks:
        streams = Streams(seed, decomposition.device)
        chosen = _masks_of(name, decomposition, prompt, streams["masks"], adversary_steps, adversary_step_size)
        found.append(_go_on(decomposition, prompt, name, chosen, tokens, temperature, stop_at, streams["tokens"]))
    return tuple(found)


@torch.no_grad()
def _go_on(
    decomposition: Decomposition,
    prompt: Tensor,
    name: str,
    masks_of: MasksOf,
    tokens: int,
    temperature: float,
    stop_at: int | None,
    generator: torch.Generator,
) -> Continuation:
    """Write token after token; the whole text is read again for each, since masks depend on all of it."""
    text = prompt.to(decomposition.device)[None]
    subject = learned(decomposition.model, decomposition.function)
    lost = 0.0
    for _ in range(tokens):
        clean = decomposition.clean(text)
        logits = decomposition.model.masked(clean, masks_of(subject.importance(clean)))[0, -1]
        lost += float(kl(clean.output[0, -1], logits))
        token = _choose(logits, temperature, generator)
        text = torch.cat([text, token.view(1, 1)], dim=1)
        if int(token) == stop_at:
            break
    new = text[0, len(prompt) :].tolist()
    return Continuation(name, tuple(new), lost / max(len(new), 1))


def _choose(logits: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    if temperature <= 0:
        return logits.argmax()
    return torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator)[0]


def _masks_of(name: str, decomposition: Decomposition, prompt: Tensor, generator: torch.Generator, steps: int, step_size: float) -> MasksOf:
    """Return how masks follow from importances, for one kind."""
    if name == "adversarial":
        values = _worst_sources(decomposition, prompt, generator, steps, step_size)
        return lambda g: masks_from(g, as_sources(values, g))

    def ignoring(g: Importance) -> Masks:
        nothing = {path: torch.zeros_like(values) for path, values in g.items()}
        return masks_from(nothing, draw_sources(g, generator))

    kinds: dict[str, MasksOf] = {
        "target": lambda g: {},
        "unmasked": lambda g: constant_masks(g, 1.0, delta=None),
        "stochastic": lambda g: masks_from(g, draw_sources(g, generator)),
        "importance": lambda g: {path: Mask(values) for path, values in g.items()},
        "rounded": rounded,
        "random": ignoring,
        "zero": lambda g: constant_masks(g, 0.0, delta=None),
    }
    return kinds[name]


def _worst_sources(
    decomposition: Decomposition, prompt: Tensor, generator: torch.Generator, steps: int, step_size: float
) -> dict[str, Tensor]:
    """Return the sources, one choice for all positions, that move the answers on the prompt furthest."""
    clean: Clean = decomposition.clean(prompt[None])
    subject = learned(decomposition.model, decomposition.function)
    with torch.no_grad():
        importance = {path: g.detach() for path, g in subject.importance(clean).items()}

    def objective(values: dict[str, Tensor]) -> Tensor:
        sources: Mapping[str, Source] = as_sources(values, importance)
        return decomposition.target.behaviour.between(clean.output, decomposition.model.masked(clean, masks_from(importance, sources)))

    values = random_sources(importance, "c", generator)
    for _ in range(steps):
        values = sign_step(values, gradients(objective, values), step_size)
    return values
