"""How do several processes train one decomposition as if they were one? Each takes its rows of the same batch, and gradients are averaged.

Everything that is drawn is drawn for the whole batch on every rank, which then keeps its rows; what every loss returns is a mean over
rows, so the mean over ranks is the value of one process; and the factors start equal and are moved by equal gradients, so they stay equal.
Nothing here depends on the number of ranks, which is why a run may go on with another one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unbraid.core.devices import cpu_seconds
from unbraid.core.errors import Abandoned, UserError
from unbraid.core.ranks import LostRank, Ranks, Share
from unbraid.core.storage import MANIFEST
from unbraid.decompose.config import DecomposeConfig
from unbraid.decompose.training import Training, each_loss
from unbraid.targets.data import Batch


def share_out(
    ranks: Ranks, batch: Batch, weights: Tensor | None, size: int | None
) -> tuple[Batch, Tensor | None, int | None, Share | None]:
    """Return this rank's rows of a batch that every rank has drawn, their weights, and which they are.

    Weights are multiplied by the number of ranks, so that the mean over ranks of a weighted sum is the sum over the whole batch.

    Raises:
        UserError: The rows are equal in weight and cannot be shared equally, or are fewer than the ranks.
    """
    rows = _rows(batch)
    share = ranks.share(rows)
    if share is None:
        return batch, weights, size, None
    if weights is None and rows % ranks.count:
        raise UserError(
            f"A batch of {rows} inputs cannot be shared by {ranks.count} ranks.",
            f"Make batch_size a multiple of {ranks.count}; where accumulate divides it into parts, of {ranks.count} times their number.",
        )
    mine = slice(share.first, share.first + share.rows)

    def own(tensor: Tensor) -> Tensor:
        return tensor[mine] if tensor.dim() and len(tensor) == rows else tensor  # what is not one per input belongs to all

    if isinstance(batch, Tensor):
        part: Batch = own(batch)
    elif isinstance(batch, Mapping):
        part = {name: own(tensor) for name, tensor in batch.items()}
    else:
        part = tuple(own(tensor) for tensor in batch)
    return part, None if weights is None else weights[mine] * ranks.count, size, share


def _rows(batch: Batch) -> int:
    first = batch if isinstance(batch, Tensor) else next(iter(batch.values() if isinstance(batch, Mapping) else batch))
    return len(first)


def average_gradients(training: Training) -> None:
    """Replace every parameter's gradient by its mean over ranks; where the optimiser's step is divided, in this rank's slices alone."""
    if training.ranks.count == 1:
        return
    if training.shards.divided:
        training.shards.take_gradients()
        return
    parameters = [parameter for group in training.optimizer.param_groups for parameter in group["params"]]
    training.ranks.average([parameter.grad for parameter in parameters if parameter.grad is not None])


def mean_metrics(ranks: Ranks, metrics: dict[str, float]) -> dict[str, float]:
    """Return metrics averaged over ranks."""
    if ranks.count == 1:
        return metrics
    values = torch.tensor(list(metrics.values()), dtype=torch.float64)
    ranks.average([values])
    return dict(zip(metrics, (float(value) for value in values), strict=True))


def cpu_seconds_of_all(training: Training) -> float:
    """Return the CPU time of a run so far, earlier sessions and all ranks included."""
    here = torch.tensor([cpu_seconds()], dtype=torch.float64)
    training.ranks.average([here])
    return training.cpu_seconds + float(here) * training.ranks.count


def check_agreement(ranks: Ranks, training: Training, config: DecomposeConfig, fingerprint: str) -> None:
    """Check that all ranks are about to train the same thing.

    Raises:
        UserError: One has other settings, another target, other code, or stands at another step; or the settings are not for several ranks.
    """
    if ranks.count == 1:
        return
    _check_choice(training, config)
    facts = {
        "the code of unbraid (a hash)": _code_hash(),
        "torch's version": torch.__version__,
        "the target (its weights' fingerprint)": fingerprint,
        "the seed": training.streams.seed,
        "the step to go on from": training.step,
        **{f"the setting {name}": value for name, value in _leaves(config.tree()).items()},
    }
    told: list[dict[str, Any]] = [json.loads(text) for text in ranks.texts(json.dumps(facts, default=str))]
    for rank, other in enumerate(told):
        for name in {**told[0], **other}:
            ours, theirs = (facts.get(name, "absent") for facts in (told[0], other))
            if ours != theirs:
                raise UserError(
                    f"The ranks do not agree on {name}: rank 0 has {ours}, rank {rank} has {theirs}.",
                    "Start all of them with the same command, the same version of unbraid and the same files.",
                )


def _check_choice(training: Training, config: DecomposeConfig) -> None:
    """Refuse to compare starts where ranks hold an adversary's sources part by part, but the comparison takes the batch whole."""
    own = next((name for name, loss in each_loss(training) if loss.rows()), None)
    if config.starts is not None and config.accumulate > 1 and own is not None:
        raise UserError(
            f"Several ranks cannot choose between starts with accumulate={config.accumulate} and the loss {own!r}, which keeps sources per example.",
            "Set accumulate=1 or starts=null, or run in one process.",
        )


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Name every setting of a tree by its path."""
    leaves: dict[str, Any] = {}
    for name, value in tree.items():
        leaves |= _leaves(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return leaves


def _code_hash() -> str:
    """Return a hash of the package's source files."""
    root, digest = Path(__file__).parents[1], hashlib.blake2b(digest_size=8)
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root)}\n".encode() + path.read_bytes())
    return digest.hexdigest()


@contextmanager
def told_what_is_saved(folder: Path | None) -> Generator[None]:
    """Turn a lost rank into a message that names the last saved state and how to go on.

    Raises:
        Abandoned: A rank was lost.
    """
    try:
        yield
    except LostRank as lost:
        if folder is None:
            raise Abandoned(f"A rank was lost ({lost}), and nothing was saved.", "Start again.") from lost
        states = sorted(path for path in (folder / "state").glob("step-*") if (path / MANIFEST).exists())
        what = f"The last saved state is {states[-1]}" if states else "No state was saved yet"
        raise Abandoned(
            f"A rank was lost ({lost}). {what}.",
            f"Go on with any number of ranks: torchrun --nproc-per-node N -m unbraid decompose --resume {folder}",
        ) from lost
