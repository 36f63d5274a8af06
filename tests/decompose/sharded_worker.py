"""Train with the optimiser's step divided, save, and go on from states that were saved by others."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.decompose.rank_worker import sequences
from unbraid.core.ranks import ALONE, Ranks, join
from unbraid.decompose.checkpoint import load_state, save_state
from unbraid.decompose.config import DecomposeConfig
from unbraid.decompose.loop import Watch, train
from unbraid.decompose.training import Training, prepare
from unbraid.decompose.verb import decompose

STEPS, HALF = 8, 4


def config(sharded: bool, **more: object) -> DecomposeConfig:
    return DecomposeConfig.parse(
        {
            "steps": STEPS,
            "batch_size": 12,
            "components": 7,
            "warmup": {"steps": 2},
            "log_every_steps": 1,
            "losses": {
                "stochastic": {},
                "persistent-adversarial": {"scope": "bsc", "warmup_share": 0.0},
                "minimality": {"coefficient": 1e-2},
            },
            "optimizer": {"sharded": sharded, "factors": {"clip": 1e-3}},
            **more,
        }
    )


def trained(sharded: bool, start: Path | None = None, until: int = STEPS, ranks: Ranks = ALONE) -> Training:
    """Train, from a state if one is given."""
    target, settings = sequences(), config(sharded)
    training = prepare(target, settings, ranks=ranks)
    if start is not None:
        load_state(training, start, "print")
    train(training, target, settings, Watch(lambda step, metrics: None, lambda state: None, lambda: False), until)
    return training


def tensors(training: Training) -> dict[str, Tensor]:
    """What a run ends with, and under `held` how many numbers of Adam's averages this rank has."""
    parts = {**training.model.state_dict(), **{f"importance.{key}": value for key, value in training.function.state_dict().items()}}
    held = sum(value.untyped_storage().nbytes() // 4 for entry in training.optimizer.state.values() for value in entry.values())
    return {**{key: value.detach().clone() for key, value in parts.items()}, "held": torch.tensor(held)}


def from_starts() -> dict[str, Tensor]:
    settings = config(True, starts={"count": 2, "until": 0.5})
    return {key: value.detach().clone() for key, value in decompose(sequences(), settings).model.state_dict().items()}


def main() -> None:
    torch.set_num_threads(1)
    ranks, out, saved = join(), Path(sys.argv[1]), [Path(word) for word in sys.argv[2:]]
    ends = {"whole": tensors(trained(False, ranks=ranks)), "sharded": tensors(trained(True, ranks=ranks)), "starts": from_starts()}
    save_state(trained(True, until=HALF, ranks=ranks), out / "state", "print")
    for index, state in enumerate(saved):
        for name, sharded in (("whole", False), ("sharded", True)):
            ends[f"{name} from {index}"] = tensors(trained(sharded, state, ranks=ranks))
    for name, end in ends.items():
        save_file(end, out / f"{name}-{ranks.rank}.safetensors")


if __name__ == "__main__":
    main()
