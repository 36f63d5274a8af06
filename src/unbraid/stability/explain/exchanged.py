"""What does a decomposed model answer, and which parts does it need, when one activation is exchanged? The bridge between paths and parts.

    carrier = DecomposedCarrier(subject, tokens, place_named(module, 0))
    path = carrier.along(points)              # points [n, d], each in the place of the activation
    path.importance                           # [n, parts]
    path.answers(kept)                        # [n, k] under a set of kept parts

The exchange is made in the twin, in the clean pass and in every masked one, so that the importances are those of the exchanged activation and no
masked pass sees another one. The importance function may look at all positions, so whole prompts are run. Parts are removed at the
positions from the exchanged one on, and at the sites that run after it: nothing else can depend on the point.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from unbraid.core.errors import UserError
from unbraid.decompose.masks import Mask
from unbraid.decompose.model import Clean
from unbraid.decompose.subject import Subject
from unbraid.stability.engine.places import INPUT, Place, blocks_of
from unbraid.stability.explain.parts import Parts


class DecomposedCarrier:
    """One prompt in a decomposed model, with one activation that can be exchanged.

    Args:
        subject: The decomposed model and the importance of its parts.
        prompt: Token ids [pos], or the input vector [d] of a model that reads vectors.
        place: Whose output is exchanged.
        position: At which token, negative ones from the end; ignored for vectors.
        at_once: How many points are run together.

    Raises:
        UserError: The position is not in the prompt, the place is never reached, or no site runs after it.
    """

    def __init__(self, subject: Subject, prompt: Shaped[Tensor, " _"], place: Place, position: int = -1, at_once: int = 128) -> None:
        self.subject, self.place, self.at_once = subject, place, at_once
        self.prompt = prompt.to(next(subject.model.parameters()).device)
        self.twin: nn.Module = subject.model.twin
        self.is_sequence = not prompt.is_floating_point()
        self.position = 0
        if self.is_sequence:
            if not -len(prompt) <= position < len(prompt):
                raise UserError(f"Position {position} was asked for in a prompt of {len(prompt)} tokens.", "Give one that is there.")
            self.position = position % len(prompt)
        if self.is_sequence and place.path == INPUT:
            raise UserError("The input of this model is tokens, which cannot be moved a little.", "Give a block's number, such as 0.")
        self.anchor: Float[Tensor, " d"]
        self.anchor, sites = self._look()
        if not sites:
            raise UserError(f"No decomposed site runs after {str(place)!r}.", "Choose an earlier place.")
        self.parts = Parts.of(subject.model, sites)

    def along(self, points: Float[Tensor, "n d"]) -> Exchanged:
        """Return what the model does when each point stands at the place."""
        return Exchanged(self, points.detach().to(self.prompt.device))

    def batch(self, points: Float[Tensor, "n d"]) -> Tensor:
        """Return the inputs that are run for these points."""
        return points if self.place.path == INPUT else self.prompt.expand(len(points), *self.prompt.shape)

    @contextmanager
    def exchanged(self, points: Float[Tensor, "n d"]) -> Generator[None]:
        """Let each point stand at the place in every pass of the model, masked or not."""
        if self.place.path == INPUT:
            yield
            return

        def put(output: Tensor) -> Tensor:
            new = points.to(output.dtype)
            if output.dim() == 2:
                return new
            # A new tensor every time: what the sites remember of another exchange is never taken for this one.
            return torch.cat([output[:, : self.position], new[:, None], output[:, self.position + 1 :]], dim=1)

        with _hooked(self.twin, self.place.path, put):
            yield

    def _look(self) -> tuple[Tensor, tuple[str, ...]]:
        """Return the activation that is really at the place, and the sites that run after it."""
        seen: list[Tensor] = []
        order: list[str] = []

        def note(path: str) -> Callable[..., None]:
            return lambda *_: order.append(path)

        def watch(output: Tensor) -> Tensor:
            seen.append(output)
            order.clear()
            return output

        with ExitStack() as stack:
            for path, site in self.subject.model.sites.items():
                stack.callback(site.register_forward_hook(note(path)).remove)
            if self.place.path != INPUT:
                stack.enter_context(_hooked(self.twin, self.place.path, watch))
            self.subject.model.clean(self.prompt[None])
        if self.place.path == INPUT:
            return self.prompt, tuple(dict.fromkeys(order))
        if not seen:
            raise UserError(f"{self.place.path!r} is not used in the forward pass.", "Choose another place.")
        value = seen[-1]
        return (value[0] if value.dim() == 2 else value[0, self.position]).clone(), tuple(dict.fromkeys(order))


class Exchanged:
    """The passes of a decomposed model with each of some points at a place; made by `DecomposedCarrier.along`."""

    def __init__(self, carrier: DecomposedCarrier, points: Float[Tensor, "n d"]) -> None:
        self._carrier, self._chunks = carrier, points.split(carrier.at_once)
        self._cleans: list[Clean] = []
        found: list[Tensor] = []
        with torch.no_grad():
            for chunk in self._chunks:
                with carrier.exchanged(chunk):
                    clean = carrier.subject.model.clean(carrier.batch(chunk))
                    importance = carrier.subject.importance(clean)
                self._cleans.append(clean)
                found.append(carrier.parts.joined({path: self._from_position(importance[path]) for path in carrier.parts.sites}))
        self.importance: Float[Tensor, "n parts"] = torch.cat(found)
        """How much each part is needed: the most over the positions from the exchanged one on. Δ has 0."""

    def answers(self, kept: Float[Tensor, "*#n parts"] | None = None, what: str = "logits") -> Float[Tensor, "n k"]:
        """Return what is read, under masks.

        Args:
            kept: How much of each part is kept, for all points [parts] or for each [n, parts]; None runs the model without masks.
            what: "logits" for the model's output at the last position, "final" for that of the last block, or a module's path.
        """
        rows = [None] * len(self._chunks) if kept is None else self._rows(kept)
        found: list[Tensor] = []
        with torch.no_grad():
            for chunk, clean, row in zip(self._chunks, self._cleans, rows, strict=True):
                found.append(self._answer(chunk, clean, {} if row is None else self._masks(clean, row), what))
        return torch.cat(found)

    def _rows(self, kept: Tensor) -> list[Tensor]:
        sizes = [len(chunk) for chunk in self._chunks]
        return list(kept.to(self._chunks[0].device, torch.float32).expand(sum(sizes), -1).split(sizes))

    def _answer(self, chunk: Tensor, clean: Clean, masks: dict[str, Mask], what: str) -> Tensor:
        model, twin = self._carrier.subject.model, self._carrier.twin
        seen: list[Tensor] = []

        def watch(output: Tensor) -> Tensor:
            seen.append(output)
            return output

        path = _final(twin) if what == "final" else what
        with ExitStack() as stack:
            stack.enter_context(self._carrier.exchanged(chunk))
            if what != "logits":
                stack.enter_context(_hooked(twin, path, watch))
            output = model.masked(clean, masks, fixed=True)
        answer = output if what == "logits" else seen[-1]
        return answer[:, -1] if self._carrier.is_sequence and answer.dim() > 2 else answer.flatten(1)

    def _masks(self, clean: Clean, kept: Float[Tensor, "n parts"]) -> dict[str, Mask]:
        """Return masks that keep everything before the exchanged position and what was asked for from there on."""
        masks: dict[str, Mask] = {}
        for path, (component, delta) in self._carrier.parts.split(kept).items():
            lead = self._checked(path, clean.sites[path].x.shape[:-1], len(kept))
            if len(lead) == 1:
                masks[path] = Mask(component, delta)
                continue
            after = torch.arange(lead[1], device=kept.device)[None, :] >= self._carrier.position
            masks[path] = Mask(
                torch.where(after[..., None], component[:, None], 1.0).contiguous(), torch.where(after, delta[:, None], 1.0).contiguous()
            )
        return masks

    def _from_position(self, importance: Tensor) -> Tensor:
        """Return the most of an importance over the positions from the exchanged one on, [n, C]."""
        return importance if importance.dim() == 2 else importance[:, self._carrier.position :].amax(1)

    def _checked(self, path: str, lead: torch.Size, rows: int) -> torch.Size:
        wanted = (rows, len(self._carrier.prompt)) if self._carrier.is_sequence else (rows,)
        if tuple(lead) != wanted:
            raise UserError(
                f"The site {path!r} sees inputs of shape {list(lead)}, not one for each position.",
                "Choose a place after which no such site is.",
            )
        return lead


@contextmanager
def _hooked(twin: nn.Module, path: str, change: Callable[[Tensor], Tensor]) -> Generator[None]:
    """Let a function change what a module gives; other elements of a tuple stay."""

    def hook(_module: nn.Module, _args: object, output: object) -> object:
        if isinstance(output, tuple):
            return (change(output[0]), *output[1:])
        if not isinstance(output, Tensor):
            raise UserError(f"{path!r} returned {type(output).__name__}.", "Choose a module that returns a tensor.")
        return change(output)

    handle = twin.get_submodule(path).register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def _final(twin: nn.Module) -> str:
    blocks = blocks_of(twin)
    if not blocks:
        raise UserError("This model has no blocks, so that there is no last one to read.", "Read its output: logits.")
    return blocks[-1]
