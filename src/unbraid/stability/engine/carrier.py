"""What does a model answer when one activation is exchanged and everything before it stays as it was? The engine under every measure here.

    carrier = Carrier(model, tokens, place_named(model, 0))
    answers = carrier.read(points, ["logits"])["logits"]        # points [n, d] -> answers [n, k]

The activation of one site at one position is replaced by each point in turn. What comes before that position cannot depend on it in a causal
model, so it is run once and its keys and values are kept; each point then costs the tokens from the position on, usually one. Models
that keep no keys and values are run on the whole prompt, with the same result.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from unbraid.core.errors import UserError
from unbraid.stability.engine.places import INPUT, Place, blocks_of

Edit = Callable[[Tensor, Tensor | None], Tensor]
"""What replaces a module's output, given that output and what the module read."""


class Carrier:
    """One prompt, frozen, with one activation that can be exchanged.

    Args:
        module: A causal language model, or any module that maps vectors [batch, d] to vectors.
        prompt: Token ids [pos], or the input vector [d] of a model that reads vectors.
        place: Whose output is exchanged.
        position: At which token, negative ones from the end; ignored for vectors.
        at_once: How many points are run together.
        prefix: Whether what comes before the position is run once; False runs the whole prompt for every point, to compare with.

    Raises:
        UserError: The position is not in the prompt, or the place is never reached.
    """

    def __init__(
        self,
        module: nn.Module,
        prompt: Int[Tensor, " pos"] | Float[Tensor, " d"],
        place: Place,
        position: int = -1,
        at_once: int = 64,
        prefix: bool = True,
    ) -> None:
        self.module, self.prompt, self.place, self.at_once = module, prompt, place, at_once
        self.is_sequence = not prompt.is_floating_point()
        self.position = 0
        if self.is_sequence:
            if not -len(prompt) <= position < len(prompt):
                raise UserError(f"Position {position} was asked for in a prompt of {len(prompt)} tokens.", "Give one that is there.")
            self.position = position % len(prompt)
        self._edits: dict[str, Edit] = {}
        self._cache: Any = None
        self._prefix = prefix and self.is_sequence and self.position > 0 and _keeps_keys(module)
        self.anchor: Float[Tensor, " d"] = self._anchor()

    def at(self, place: Place) -> Carrier:
        """Return the same prompt with another site to exchange; what comes before the position is not run again."""
        other = copy.copy(self)
        other.place, other._edits = place, {}
        other.anchor = other._anchor()
        return other

    def read(self, points: Float[Tensor, "n d"], what: Sequence[str] = ("logits",)) -> dict[str, Float[Tensor, "n _"]]:
        """Return what is read when each point stands at the place.

        Args:
            points: [n, d]. Where they ask for a gradient, the answers have one.
            what: "logits" for the model's output at the last position, "final" for that of the last block, or modules' paths.
        """
        parts: dict[str, list[Tensor]] = {name: [] for name in what}
        with torch.set_grad_enabled(points.requires_grad and torch.is_grad_enabled()):
            for chunk in points.split(self.at_once):
                for name, value in self._run(chunk, what).items():
                    parts[name].append(self._at(value, -1))
        return {name: torch.cat(values) for name, values in parts.items()}

    @torch.no_grad()
    def own_answer(self) -> Float[Tensor, " k"]:
        """Return the model's own output at the last position, with nothing exchanged and nothing kept."""
        return self._at(_tensor_of(self.module(self.prompt[None])), -1)[0]

    @torch.no_grad()
    def record(self, points: Float[Tensor, "n d"], paths: Sequence[str]) -> dict[str, Float[Tensor, "n *pos _"]]:
        """Return what modules give at every position from the exchanged one on."""
        parts = [self._run(chunk, paths) for chunk in points.split(self.at_once)]
        after = self.position - self.first
        whole = {path: torch.cat([part[path] for part in parts]) for path in paths}
        return {path: value[:, after:] if self.is_sequence and value.dim() > 2 else value for path, value in whole.items()}

    @contextmanager
    def edited(self, edits: Mapping[str, Edit]) -> Generator[None]:
        """Let functions replace the outputs of modules (by path) while points are read; they see the positions that a point's run goes through."""
        before, self._edits = self._edits, {**self._edits, **edits}
        try:
            yield
        finally:
            self._edits = before

    @property
    def first(self) -> int:
        """The first position that a point's run goes through."""
        return self.position if self._prefix else 0

    def _anchor(self) -> Tensor:
        """Return the activation that is really there, and keep the keys and values of what comes before it."""
        if self.place.path == INPUT:
            if self.is_sequence:
                raise UserError("The input of this model is tokens, which cannot be moved a little.", "Give a block's number, such as 0.")
            return self.prompt
        begun = self._cache is not None or not self._prefix
        batch = self._tail(1) if begun else self.prompt[None]
        with torch.no_grad():
            seen = self._through(batch, {self.place.path}, {}, self._kept(1), keep=not begun)
        if self.place.path not in seen:
            raise UserError(f"{self.place.path!r} is not used in the forward pass.", "Choose another site.")
        value = seen[self.place.path]
        return (value[:, self.position] if not begun and value.dim() > 2 else self._at(value, self.position))[0].clone()

    def _run(self, points: Tensor, what: Sequence[str]) -> dict[str, Tensor]:
        n = len(points)
        edits = dict(self._edits)
        batch = self._tail(n)
        if self.place.path == INPUT:
            batch = points
        else:
            edits[self.place.path] = lambda output, _: self._put(output, points)
        final = self._final() if "final" in what else ""
        paths = {final if name == "final" else name for name in what if name != "logits"}
        seen = self._through(batch, paths, edits, self._kept(n))
        where = {name: "" if name == "logits" else final if name == "final" else name for name in what}
        return {name: seen[path] for name, path in where.items()}

    def _final(self) -> str:
        blocks = blocks_of(self.module)
        if not blocks:
            raise UserError("This model has no blocks, so that there is no last one to read.", "Read its output: logits.")
        return blocks[-1]

    def _tail(self, rows: int) -> Tensor:
        """Return the part of the prompt that is run for every point."""
        return self.prompt[self.first :].expand(rows, -1)

    def _at(self, output: Tensor, position: int) -> Tensor:
        """Return one position of what a module gave, [n, k]."""
        if output.dim() == 2 or not self.is_sequence:
            return output.flatten(1)
        return output[:, position if position < 0 else position - self.first]

    def _put(self, output: Tensor, points: Tensor) -> Tensor:
        """Put the points where the activation was."""
        if not self.is_sequence or output.dim() == 2:
            return points.to(output.dtype).view(len(points), *output.shape[1:])
        place = self.position - self.first
        return torch.cat([output[:, :place], points.to(output.dtype)[:, None], output[:, place + 1 :]], dim=1)

    def _kept(self, rows: int) -> Any:
        """Return keys and values of what comes before, for so many rows; None where they are not kept."""
        if not self._prefix or self._cache is None:
            return None
        # A pass puts its own tokens behind them in tensors of its own, so that views of the kept ones will do.
        kept = copy.copy(self._cache)
        kept.layers = [copy.copy(layer) for layer in self._cache.layers]
        for layer in kept.layers:
            layer.keys, layer.values = (tensor.expand(rows, -1, -1, -1) for tensor in (layer.keys, layer.values))
        return kept

    def _keep(self, cache: Any) -> None:
        """Keep the keys and values of what comes before the position, of a run of the whole prompt."""
        if any(getattr(layer, "is_sliding", False) for layer in cache.layers):
            # Such a layer has forgotten what was far back, so that it cannot be cut: what comes before is run by itself.
            cache = self.module(input_ids=self.prompt[None, : self.position], use_cache=True).past_key_values
        else:
            cache.crop(self.position - len(self.prompt))
        self._cache = cache

    def _through(self, batch: Tensor, paths: set[str], edits: Mapping[str, Edit], kept: Any, keep: bool = False) -> dict[str, Tensor]:
        """Run the model and return what the named modules gave, and its own output under ""; keep keys and values where that is asked."""
        seen: dict[str, Tensor] = {}
        with ExitStack() as stack:
            for path in paths | set(edits):
                hook = _hook(path, edits.get(path), seen if path in paths else None)
                stack.callback(self.module.get_submodule(path).register_forward_hook(hook).remove)
            if kept is not None or keep:
                output = self.module(input_ids=batch, past_key_values=kept, use_cache=True, **_last_only(self.module))
            else:
                output = self.module(batch)
        if keep:
            self._keep(output.past_key_values)
        seen[""] = _tensor_of(output)
        return seen


def _hook(path: str, edit: Edit | None, seen: dict[str, Tensor] | None) -> Callable[..., object]:
    """Return a hook that replaces a module's output, writes down what it is then, or both; other elements of a tuple stay."""

    def hook(_module: nn.Module, given: tuple[object, ...], output: object) -> object:
        value = _tensor_of(output)
        if edit is not None:
            value = edit(value, given[0] if given and isinstance(given[0], Tensor) else None)
            output = (value, *output[1:]) if isinstance(output, tuple) else value
        if seen is not None:
            seen[path] = value
        return output

    return hook


def _tensor_of(output: object) -> Tensor:
    if isinstance(output, Tensor):
        return output
    logits = getattr(output, "logits", None)
    if isinstance(logits, Tensor):
        return logits
    if isinstance(output, tuple) and output and isinstance(output[0], Tensor):
        return output[0]
    raise UserError(f"A module returned {type(output).__name__}.", "Choose one that returns a tensor, or a tuple that begins with one.")


def _keeps_keys(module: nn.Module) -> bool:
    """Whether a model can keep keys and values between calls, as transformers' causal models do."""
    return hasattr(module, "config") and hasattr(module, "generate") and bool(getattr(module, "_supports_cache_class", True))


def _last_only(module: nn.Module) -> dict[str, int]:
    """Ask for the last position's logits alone, where a model can be asked: over a vocabulary they are much of the work."""
    known = inspect.signature(module.forward).parameters
    return {"logits_to_keep": 1} if "logits_to_keep" in known else {}
