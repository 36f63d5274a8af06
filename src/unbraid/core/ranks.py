"""Which processes train one run together, and what do they tell each other? Sums, rows and short texts; alone, nothing is sent.

torchrun starts the processes ("ranks") and says in the environment who is who. Here they meet in torch's own process group: gloo for tensors on the CPU, nccl
for those on a GPU. Only tensors travel, texts as their bytes: torch's `*_object` collectives would unpickle what comes over the network.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from unbraid.core.errors import UserError
from unbraid.core.heartbeat import Heartbeat, connect

TIMEOUT_VARIABLE = "UNBRAID_RANK_TIMEOUT"
"""Name of the environment variable with the seconds that a rank waits for the others in a step."""
_TIMEOUT, _PATIENCE = 45, timedelta(hours=6)
_BUCKET = 1 << 25  # numbers that are summed at once, so that the copy which is sent stays small
_NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


class LostRank(Exception):
    """Another rank died, or did not answer in time; whoever knows the run says what is saved."""


@dataclass(frozen=True)
class Share:
    """Which rows of the batch of all ranks this rank has: `rows` of `total`, from `first`."""

    first: int
    rows: int
    total: int

    def draw(self, draw: Callable[[tuple[int, ...]], Tensor], shape: tuple[int, ...], axis: int = 0) -> Tensor:
        """Draw for the rows of all ranks, so that what a row gets does not depend on how many ranks there are, and keep this rank's.

        Args:
            draw: Draws a tensor of a shape.
            shape: The shape that this rank needs.
            axis: Where its rows are; several entries may belong to one row, as where positions are flattened into it.

        Raises:
            UserError: The axis does not hold this rank's rows.
        """
        if shape[axis] % self.rows:
            raise UserError(
                f"A site reads {shape[axis]} inputs where the batch has {self.rows}, so ranks cannot share it out.",
                "Leave that site out, or run in one process.",
            )
        each = shape[axis] // self.rows
        everybody = draw((*shape[:axis], self.total * each, *shape[axis + 1 :]))
        return everybody.narrow(axis, self.first * each, shape[axis]).clone()


@dataclass(frozen=True)
class Ranks:
    """The processes that train one run together, and which of them this is.

    Attributes:
        rank: This one's number, from 0.
        count: How many there are.
    """

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and prints."""
        return self.rank == 0

    def share(self, total: int) -> Share | None:
        """Return which of `total` rows are this rank's, in nearly equal parts; None where it is alone and has all.

        Raises:
            UserError: There are fewer rows than ranks.
        """
        if self.count == 1:
            return None
        if total < self.count:
            raise UserError(f"A batch of {total} rows cannot be shared by {self.count} ranks.", f"Set batch_size to at least {self.count}.")
        begin, end = (total * index // self.count for index in (self.rank, self.rank + 1))
        return Share(begin, end - begin, total)

    def device(self, name: str) -> str:
        """Return the device of this rank: of several GPUs in a machine, each of its ranks has its own."""
        return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if name == "cuda" and self.count > 1 else name

    def mean(self, tensor: Tensor) -> Tensor:
        """Return the mean over ranks; the gradient passes as it is, because gradients are averaged over ranks once more, after backward."""
        return tensor if self.count == 1 else _Mean.apply(tensor, self)

    def highest(self, tensor: Tensor) -> Tensor:
        """Return the elementwise maximum over ranks, without gradient."""
        if self.count == 1:
            return tensor
        result = tensor.detach().clone()
        with _heard():
            dist.all_reduce(result, op=dist.ReduceOp.MAX)
        return result

    @torch.no_grad()
    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their means over ranks, in place, many in one message, in at least float32."""
        if self.count == 1:
            return
        for bucket in buckets(tensors):
            flat = torch.cat([tensor.reshape(-1).to(torch.promote_types(tensor.dtype, torch.float32)) for tensor in bucket])
            self._sum(flat)
            flat /= self.count
            for tensor, part in zip(bucket, flat.split([tensor.numel() for tensor in bucket]), strict=True):
                tensor.copy_(part.view_as(tensor))

    @torch.no_grad()
    def own_mean(self, rows: Tensor) -> Tensor:
        """Return the mean over ranks of the row with this rank's number; `rows` has one for each rank and is overwritten.

        On a GPU nccl sends each rank its row alone; gloo's own reduce-scatter is an all-reduce of each row, so on the CPU all rows are summed in one.
        """
        if not rows.is_cuda:
            self._sum(rows)
            return rows[self.rank] / self.count
        mine = torch.empty_like(rows[0])
        with _heard():
            dist.reduce_scatter(mine, list(rows))
        return mine / self.count

    def _sum(self, tensor: Tensor) -> None:
        with _heard():
            dist.all_reduce(tensor)

    def concat(self, rows: Tensor) -> Tensor:
        """Return the rows of all ranks, in their order; every rank must have as many."""
        if self.count == 1:
            return rows
        everybody = rows.new_empty((self.count, *rows.shape))
        with _heard():
            dist.all_gather(list(everybody), rows.contiguous())
        return everybody.flatten(0, 1)

    def any(self, flag: bool) -> bool:
        """Whether any rank says yes."""
        return flag if self.count == 1 else bool(self.highest(torch.tensor(int(flag))))

    def texts(self, text: str, patient: bool = False) -> list[str]:
        """Return what each rank says, in their order; `patient` waits for hours, where one of them has long work to do first."""
        if self.count == 1:
            return [text]
        gather = _gather_patiently if patient else dist.all_gather
        data = torch.frombuffer(bytearray(text.encode()) or bytearray(1), dtype=torch.uint8)
        mine = torch.tensor([len(text.encode())])
        sizes = [torch.zeros_like(mine) for _ in range(self.count)]
        with _heard():
            gather(sizes, mine)
            padded = torch.zeros(max(1, *(int(size) for size in sizes)), dtype=torch.uint8)
            padded[: int(mine)] = data[: int(mine)]
            parts = [torch.empty_like(padded) for _ in range(self.count)]
            gather(parts, padded)
        return [bytes(part[: int(size)].tolist()).decode() for part, size in zip(parts, sizes, strict=True)]

    def agreed(self, text: str) -> str:
        """Return what rank 0 says."""
        return self.texts(text, patient=True)[0]

    @contextmanager
    def in_turn(self) -> Generator[None]:
        """Let rank 0 do a block first and the others after it, so that they find what it has written."""
        if not self.first:
            self.agreed("")
        try:
            yield
        finally:
            if self.first:
                self.agreed("")

    def first_does(self, action: Callable[[], object]) -> None:
        """Let rank 0 alone do something; a mistake that it finds is raised on every rank.

        Raises:
            UserError: Rank 0 raised it.
        """
        if self.count == 1:
            action()
            return
        error: UserError | None = None
        if self.first:
            try:
                action()
            except UserError as raised:
                error = raised
        what, _, fix = self.agreed("" if error is None else f"{error.what}\n{error.fix}").partition("\n")
        if error is not None:
            raise error
        if what:
            raise UserError(f"Rank 0 stopped: {what}", fix)


ALONE = Ranks()


def join() -> Ranks:
    """Meet the other processes that torchrun has started; without torchrun there are none, and a second call changes nothing.

    Raises:
        UserError: The environment names others, and they do not come.
    """
    if not dist.is_available():
        return ALONE
    if not dist.is_initialized():
        if any(name not in os.environ for name in _NEEDED) or int(os.environ["WORLD_SIZE"]) == 1:
            return ALONE
        gpu = torch.cuda.is_available() and dist.is_nccl_available()
        if gpu:
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        try:
            dist.init_process_group("cpu:gloo,cuda:nccl" if gpu else "gloo", timeout=timedelta(seconds=_timeout()))
        except (RuntimeError, ValueError) as error:
            raise UserError(
                f"Rank {os.environ['RANK']} of {os.environ['WORLD_SIZE']} could not meet the others at "
                f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}: {_brief(error)}",
                "Start all of them with one torchrun command.",
            ) from None
    if dist.get_world_size() == 1:
        return ALONE
    _patient_group()
    _heartbeat()
    return Ranks(dist.get_rank(), dist.get_world_size())


def current() -> Ranks:
    """Return the ranks that have met, without meeting anybody."""
    together = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
    return Ranks(dist.get_rank(), dist.get_world_size()) if together else ALONE


def _timeout() -> float:
    given = os.environ.get(TIMEOUT_VARIABLE)
    try:
        return _TIMEOUT if given is None else float(given)
    except ValueError:
        raise UserError(f"{TIMEOUT_VARIABLE} is {given!r}.", "Give a number of seconds, such as 45.") from None


@cache
def _patient_group() -> Any:
    """Return a second group of the same ranks, for waiting while one of them works alone."""
    return dist.new_group(backend="gloo", timeout=_PATIENCE)


@cache
def _heartbeat() -> Heartbeat:
    return connect(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), dist.get_rank(), dist.get_world_size(), _timeout())


def _gather_patiently(parts: list[Tensor], mine: Tensor) -> None:
    """Gather what every rank sends, for as long as they live; one that dies is noticed at once, and one that hangs after the timeout."""
    work = dist.all_gather(parts, mine, group=_patient_group(), async_op=True)
    if work is None:  # a rank outside the group, of which there are none
        return
    if (silent := _heartbeat().wait(work.is_completed)) is not None:
        raise LostRank(f"rank {silent} gave no sign of life for {_timeout():g} seconds")
    work.wait()


@contextmanager
def _heard() -> Generator[None]:
    """Turn what torch says when a rank is gone into `LostRank`."""
    try:
        yield
    except RuntimeError as error:  # torch.distributed's errors are RuntimeErrors, and gloo's are nothing more
        raise LostRank(_brief(error)) from error


def _brief(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text.rpartition("] ")[2][:160].rstrip(". ") if text.startswith("[/") else text[:160].rstrip(". ")


def buckets(tensors: Sequence[Tensor]) -> list[list[Tensor]]:
    """Group tensors of one device and precision, in order, so that no group is much larger than the bucket."""
    buckets: list[list[Tensor]] = []
    size, kind = 0, None
    for tensor in tensors:
        if (tensor.device, tensor.dtype) != kind or size + tensor.numel() > _BUCKET:
            buckets.append([])
            size, kind = 0, (tensor.device, tensor.dtype)
        buckets[-1].append(tensor)
        size += tensor.numel()
    return buckets


class _Mean(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, ranks: Ranks) -> Tensor:
        result = tensor.detach().clone()
        ranks.average([result])
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None
