"""How much memory would a run take? The training loop itself, run on tensors without contents, with every byte counted.

The loop, the losses and the importance function are the engine's own; only the tensors are torch's "meta" tensors, which have a shape and no memory. So what is
counted is what the engine keeps, whatever its settings, and nothing has to be rewritten when it keeps something else.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.fx.experimental._config as meta_config
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from unbraid.core.ranks import ALONE, Ranks
from unbraid.core.seeds import Streams
from unbraid.decompose.config import DecomposeConfig, WarmupConfig
from unbraid.decompose.kernels import counts_as_cpu
from unbraid.decompose.loop import Watch, train
from unbraid.decompose.losses.faithfulness import model_faithfulness
from unbraid.decompose.sharded import Shards
from unbraid.decompose.training import Training, build
from unbraid.targets.behaviour import Behaviour
from unbraid.targets.data import Data
from unbraid.targets.sites import Site
from unbraid.targets.target import Target


class LiveBytes(TorchDispatchMode):
    """Counts the memory of the tensors that are made inside it and are still alive, and the most that it was."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.peak = 0
        self._known: dict[int, weakref.ref[object]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        # A view of what was there before, such as a transposed weight of the target, is nothing new.
        given = {_block(tensor)[0] for tensor in tree_leaves((args, kwargs)) if isinstance(tensor, Tensor)}
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor) and _block(tensor)[0] not in given:
                self._count(tensor.untyped_storage())
        return out

    def _count(self, storage: Any) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return

        def gone(_: object) -> None:
            self.now -= size
            self._known.pop(key, None)

        self._known[key] = weakref.ref(storage, gone)
        self.now += size
        self.peak = max(self.peak, self.now)


class Answers(TorchDispatchMode):
    """Answers 1, or yes, where a number is read from a tensor without contents, as it would be in an ordinary run; also within a backward pass."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default and args[0].device.type == "meta":
            return True if args[0].dtype == torch.bool else 1.0 if args[0].is_floating_point() else 1
        return func(*args, **(kwargs or {}))


class WithoutContents(TorchFunctionMode):
    """Makes every new tensor one without contents."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = {**(kwargs or {})}
        kwargs.pop("generator", None)
        if "device" in kwargs:
            kwargs["device"] = "meta"
        return func(*(torch.device("meta") if isinstance(value, torch.device) else value for value in args), **kwargs)


@dataclass(frozen=True)
class Memory:
    """What a run keeps on one rank, in bytes; `step`, `warmup` and `saving` are the most at one time, everything included.

    Attributes:
        target: The frozen model.
        factors: V and U of every site.
        importance: The importance function.
        moments: AdamW's two averages of both, or where they are divided this rank's share.
        adversary: What losses remember, such as a persistent adversary's sources and their two averages.
        gradients: Of factors and importance function, when a step has them all.
        passes: What one step adds to the five above when it is highest: activations of the clean and masked passes, masks, outputs, and what it then has
            of the gradients.
        step: The most during a training step.
        warmup: The most while the factors are trained on faithfulness alone.
        saving: The most while a state is saved, which on a GPU is memory of the host.
    """

    target: int
    factors: int
    importance: int
    moments: int
    adversary: int
    gradients: int
    passes: int
    step: int
    warmup: int
    saving: int

    @property
    def peak(self) -> int:
        """The most at any time, where all of it is memory of one device."""
        return max(self.step, self.warmup, self.saving)


class PaperTarget(Target):
    """A target whose module has no contents, so that nothing about them can be checked."""

    def __init__(self, module: nn.Module, sites: tuple[Site, ...], data: Data, behaviour: Behaviour, elsewhere: bool) -> None:
        self.module = module
        self.sites = sites
        self.data = data
        self.fresh = data
        self.elsewhere = data if elsewhere else None
        self.training = ()
        self.behaviour = behaviour
        self.name, self.truth, self.source, self.keeps_weights = "on paper", None, None, False


class PaperRanks(Ranks):
    """As many ranks as are thought of, of which none sends anything."""

    def _sum(self, tensor: Tensor) -> None:
        """Add nothing."""

    def highest(self, tensor: Tensor) -> Tensor:
        """Return what was given."""
        return tensor

    def concat(self, rows: Tensor) -> Tensor:
        """Return as many rows as all ranks have."""
        return torch.cat([rows] * self.count)

    def any(self, flag: bool) -> bool:
        """Whether this rank says yes."""
        return flag


class PaperAdamW(torch.optim.AdamW):
    """Keeps what AdamW keeps, and moves nothing."""

    def step(self, closure: object = None) -> None:
        """Make the two averages of every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None and not self.state[parameter]:
                    self.state[parameter] = {name: torch.zeros_like(parameter) for name in ("exp_avg", "exp_avg_sq")}


def memory_on_paper(
    module: nn.Module, sites: tuple[Site, ...], data: Data, behaviour: Behaviour, config: DecomposeConfig, ranks: int = 1
) -> Memory:
    """Return what a run would keep on each of so many ranks.

    Args:
        module: The model, on the meta device.
        sites: Its decomposed matrices.
        data: Gives batches of the right shape; their contents play no part.
        behaviour: How outputs are compared.
        config: The settings of the run.
        ranks: How many share the batch.
    """
    # Two steps see everything: in the second, the first one's gradients and averages are there while the passes run.
    short = config.model_copy(
        update={"steps": 2, "warmup": WarmupConfig(steps=0), "starts": None, "prune": None, "log_every_steps": 1, "save_every_steps": 9}
    )
    elsewhere = any(loss.kind == "elsewhere" for loss in config.losses.values())
    target = PaperTarget(module, sites, data, behaviour, elsewhere)
    live = LiveBytes()
    place = counts_as_cpu() if config.device == "cpu" else nullcontext()
    # Of a batch of which some examples meet an adversary, as in `merged`, all do: the most that there can be.
    everybody = cast(Any, meta_config).patch(meta_nonzero_assume_all_nonzero=True)
    with place, everybody, torch.device("meta"), WithoutContents(), live, Answers():
        model, function = build(target, short)
        losses = nn.ModuleDict({name: loss.build(model) for name, loss in short.losses.items()})
        groups = [list(model.parameters()), list(function.parameters())]
        parameters, paper = [parameter for group in groups for parameter in group], PaperRanks(0, ranks)
        shards = Shards(parameters, paper if config.optimizer.sharded else ALONE)
        training = Training(
            model,
            function,
            losses,
            PaperAdamW([{"params": [shards.own(parameter) for parameter in group]} for group in groups]),
            Streams(0),
            ranks=paper,
            shards=shards,
            parts=config.accumulate,
        )
        frozen = _bytes([*module.parameters(), *module.buffers()])
        warmup = (
            _warmup(training, live) + sum(shards.own(each).nbytes for each in model.parameters()) * 2 + frozen if config.warmup.steps else 0
        )
        live.peak = live.now
        train(training, target, short, Watch(lambda step, metrics: None, lambda state: None, lambda: False))
        kept = {
            "target": frozen,
            "factors": _bytes(model.parameters()),
            "importance": _bytes([*function.parameters(), *function.buffers()]),
            "moments": _bytes(value for state in training.optimizer.state.values() for value in state.values()),
            "adversary": _bytes(losses.buffers()),
        }
        learned = [parameter for parameter in parameters if shards.own(parameter).grad is not None]
        everything = sum(kept.values()) + _bytes(own.grad for own in map(shards.own, learned) if own.grad is not None)
        step = frozen + live.peak
        parts = (training.model, training.function, training.losses)
        state = [tensor for part in parts for tensor in part.state_dict().values()]
        state += shards.whole_state(training.optimizer).values()
    saving = everything + _bytes(state)  # which is copied to be written
    return Memory(**kept, gradients=_bytes(learned), passes=step - sum(kept.values()), step=step, warmup=warmup, saving=saving)


def _warmup(training: Training, live: LiveBytes) -> int:
    """Return the most that is alive during a step on faithfulness alone; its optimiser's averages come on top."""
    live.peak = live.now
    model_faithfulness(training.model, relative=True).backward()
    training.shards.take_gradients(average=False)
    training.shards.put_together()
    for parameter in training.model.parameters():
        parameter.grad = training.shards.own(parameter).grad = None
    return live.peak


def _bytes(tensors: Iterable[Tensor]) -> int:
    """Return the memory of tensors, shared memory counted once."""
    return sum(dict(map(_block, tensors)).values())


def _block(tensor: Tensor) -> tuple[int, int]:
    """Return what names the block of memory that a tensor lies in, and its size."""
    storage: Any = tensor.untyped_storage()
    return storage._cdata, storage.nbytes()
