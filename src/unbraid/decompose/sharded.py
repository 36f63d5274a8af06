"""Which part of the optimiser's step is this rank's? A slice of every parameter: it alone keeps Adam's averages of it, and moves it.

What is needed in the step alone is divided (ZeRO stages 1 and 2; Rajbhandari et al. 2020, arXiv:1910.02054): averaged gradients reach only the rank
that owns them, AdamW runs on the slices, which are views of the parameters, and then the parameters are put together again. During the passes parameters and
gradients are whole on every rank. Every parameter is cut into equal slices, so no large matrix decides the balance.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unbraid.core.errors import UserError
from unbraid.core.ranks import ALONE, Ranks, buckets


class Shards:
    """The slices of parameters that this rank's optimiser moves; one rank has all of each, and then nothing is cut, copied or sent.

    Args:
        parameters: Those of the whole run, in the order in which its optimiser knows them.
        ranks: Among whom they are divided.

    Raises:
        UserError: A parameter is no contiguous block of memory, so that its slices would be copies.
    """

    def __init__(self, parameters: Iterable[Tensor] = (), ranks: Ranks = ALONE) -> None:
        self.ranks = ranks
        self._own = {parameter: self.part(_flat(parameter)) for parameter in parameters} if self.divided else {}

    @property
    def divided(self) -> bool:
        """Whether there are others who have slices too."""
        return self.ranks.count > 1

    def own(self, parameter: Tensor) -> Tensor:
        """Return what the optimiser knows in a parameter's place: this rank's slice of it, which shares its memory."""
        return self._own[parameter] if self.divided else parameter

    def part(self, whole: Tensor) -> Tensor:
        """Return this rank's slice of a tensor as large as a parameter, flat; the last ranks' may be shorter, or empty."""
        if not self.divided:
            return whole
        size = self._size(whole)
        begin = min(self.ranks.rank * size, whole.numel())
        return whole.reshape(-1)[begin : begin + size]

    def take_gradients(self, average: bool = True) -> None:
        """Give every slice its part of the mean gradient over ranks, and forget the whole gradients, bucket by bucket.

        Args:
            average: False where the gradients are equal on all ranks, which then send nothing.
        """
        for bucket in buckets([parameter for parameter in self._own if parameter.grad is not None]):
            rows = self._rows([parameter.grad for parameter in bucket if parameter.grad is not None])
            mine = self.ranks.own_mean(rows) if average else rows[self.ranks.rank].clone()
            del rows
            for parameter, part in zip(bucket, mine.split([self._size(parameter) for parameter in bucket]), strict=True):
                own = self._own[parameter]
                parameter.grad, own.grad = None, part[: own.numel()].to(own.dtype)

    def clip(self, parameters: Sequence[Tensor], largest: float) -> None:
        """Clip the gradient norm of a group, of which `parameters` are what the optimiser knows; the norm is that of all slices of all ranks."""
        if not self.divided:
            nn.utils.clip_grad_norm_(parameters, largest)
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if gradients:
            norm = self.ranks.concat(nn.utils.get_total_norm(gradients)[None]).norm()
            nn.utils.clip_grads_with_norm_(parameters, largest, norm)

    @torch.no_grad()
    def put_together(self) -> None:
        """Make the parameters whole on every rank, after each has moved its slices."""
        for bucket in buckets(list(self._own)):
            sizes = [self._size(parameter) for parameter in bucket]
            mine = torch.cat([_padded(self._own[parameter], size) for parameter, size in zip(bucket, sizes, strict=True)])
            everybody = self.ranks.concat(mine).view(self.ranks.count, -1)
            for parameter, part in zip(bucket, everybody.split(sizes, dim=1), strict=True):
                parameter.copy_(part.flatten()[: parameter.numel()].view_as(parameter))

    def whole_state(self, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
        """Return a copy, in the host's memory, of the state that one process's optimiser would have: `INDEX.NAME` → tensor.

        Where it is divided all ranks must ask, and rank 0 alone is given it, one parameter after the other.
        """
        state: dict[int, dict[str, Tensor]] = optimizer.state_dict()["state"]
        wholes, result = list(self._own), dict[str, Tensor]()
        for index, entry in state.items():
            for name, value in entry.items():
                joined = self._joined(value, wholes[index]) if self.divided and name != "step" else value
                if self.ranks.first:
                    result[f"{index}.{name}"] = joined.detach().to(device=torch.device("cpu"), copy=joined is value)
        return result

    def own_state(self, whole: dict[int, dict[str, Tensor]]) -> dict[int, dict[str, Tensor]]:
        """Return this rank's part of a state of one process, in memory of its own, so that the whole can be forgotten."""
        return {
            index: {name: value if name == "step" or not self.divided else self.part(value).clone() for name, value in entry.items()}
            for index, entry in whole.items()
        }

    def _joined(self, part: Tensor, like: Tensor) -> Tensor:
        return self.ranks.concat(_padded(part, self._size(like)))[: like.numel()].view_as(like)

    def _size(self, whole: Tensor) -> int:
        """Return how long a slice of a tensor is, rounded up."""
        return -(-whole.numel() // self.ranks.count)

    def _rows(self, wholes: Sequence[Tensor]) -> Float[Tensor, "ranks all_slices"]:
        """Lay tensors out with a row for each rank, its slices one after the other, in at least float32."""
        parts = [_padded(whole.reshape(-1), self._size(whole) * self.ranks.count).view(self.ranks.count, -1) for whole in wholes]
        return torch.cat([part.to(torch.promote_types(part.dtype, torch.float32)) for part in parts], dim=1)


def _flat(parameter: Tensor) -> Tensor:
    if not parameter.is_contiguous():
        raise UserError(
            f"A parameter of shape {list(parameter.shape)} is no contiguous block of memory, so ranks cannot have slices of it.",
            "Make it contiguous where it is created, or set optimizer.sharded to false.",
        )
    return parameter.detach().view(-1)


def _padded(flat: Tensor, size: int) -> Tensor:
    return flat if len(flat) == size else nn.functional.pad(flat, (0, size - len(flat)))
