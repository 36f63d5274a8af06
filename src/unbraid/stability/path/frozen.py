"""What stays a plateau when a part of the model cannot answer? Its outputs along a path are held at their mean, or its norms at one scale.

A plateau that goes when the MLPs are frozen was made by them (Shinkle and Heimersheim 2025, freeze test).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unbraid.core.errors import UserError
from unbraid.stability.engine.carrier import Carrier, Edit
from unbraid.stability.engine.places import Part, parts_of

PARTS: tuple[Part, ...] = ("mlp", "attention", "norm")


def frozen_edits(carrier: Carrier, points: Float[Tensor, "n d"], part: Part) -> dict[str, Edit]:
    """Return the edits that hold one kind of part, in every block after the exchanged site, at its mean over a path.

    Of an MLP or of attention the output is held; of a norm only the scale by which it divides, so that it stays a linear map.

    Returns:
        Nothing where no such part comes after the site.
    """
    paths = parts_of(carrier.module, part, carrier.place)
    if not paths:
        return {}
    if part != "norm":
        return {path: _held(value.mean(0), carrier) for path, value in carrier.record(points, paths).items()}
    scales = _scales(carrier, points, paths)
    return {path: _rescaled(carrier.module.get_submodule(path), scales[path]) for path in paths}


def _held(mean: Tensor, carrier: Carrier) -> Edit:
    start = carrier.position - carrier.first

    def edit(output: Tensor, _given: Tensor | None) -> Tensor:
        if output.dim() == 2 or not carrier.is_sequence:
            return mean.expand_as(output)
        return torch.cat([output[:, :start], mean.expand_as(output[:, start:])], dim=1)

    return edit


def _scales(carrier: Carrier, points: Tensor, paths: list[str]) -> dict[str, Tensor]:
    """Return the mean scale of what each norm reads at the last position."""
    seen: dict[str, list[Tensor]] = {path: [] for path in paths}

    def watching(path: str) -> Edit:
        scale = _scale_of(carrier.module.get_submodule(path))

        def edit(output: Tensor, given: Tensor | None) -> Tensor:
            seen[path].append(scale(_read_by(path, given)))
            return output

        return edit

    with carrier.edited({path: watching(path) for path in paths}):
        carrier.read(points)
    return {path: torch.cat(values)[:, -1:].mean(0, keepdim=True) for path, values in seen.items()}


def _rescaled(norm: nn.Module, held: Tensor) -> Edit:
    scale, bias = _scale_of(norm), cast("Mapping[str, Tensor | None]", dict(norm.named_parameters())).get("bias")

    def edit(output: Tensor, given: Tensor | None) -> Tensor:
        ratio = scale(_read_by(type(norm).__name__, given)) / held
        return output * ratio if bias is None else (output - bias) * ratio + bias

    return edit


def _read_by(name: str, given: Tensor | None) -> Tensor:
    if given is None:
        raise UserError(f"{name} is not called with its input first, so that its scale is not known.", "Leave the frozen norms out.")
    return given


def _scale_of(norm: nn.Module) -> Callable[[Tensor], Tensor]:
    """Return what a norm divides by: the deviation from the mean where adding a constant changes nothing, else the root mean square."""
    width = next(norm.parameters()).shape[-1] if any(True for _ in norm.parameters()) else 8
    probe = torch.linspace(-1.0, 2.0, width).sin()[None]
    with torch.no_grad():
        centres = bool(torch.allclose(norm(probe + 3.0), norm(probe), atol=1e-3))

    def scale(x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True) if centres else x
        return centred.square().mean(-1, keepdim=True).sqrt()

    return scale
