"""What is saved, so that a killed run goes on to the same bits? Everything between two steps, as safetensors and JSON."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from unbraid.core.errors import UserError
from unbraid.core.storage import check_manifest, disk_errors, read_json, whole_folder, write_json
from unbraid.decompose.distributed import cpu_seconds_of_all
from unbraid.decompose.step import Loss
from unbraid.decompose.training import Training

_TENSORS, _FACTS = "tensors.safetensors", "facts.json"


def save_state(training: Training, folder: Path, fingerprint: str) -> Path:
    """Save a run's state as `folder/step-N`, whole or not at all, and then drop the older ones.

    Among ranks all take part, since each holds the adversary's sources of its own examples; rank 0 writes, and the state is that of one process.

    Raises:
        UserError: The disk is full or the folder cannot be written; older states are left as they are.
    """
    path, tensors = folder / f"step-{training.step:09d}", _tensors(training)
    seconds = cpu_seconds_of_all(training)
    training.ranks.first_does(lambda: _write(training, path, tensors, fingerprint, seconds))
    return path


def _write(training: Training, path: Path, tensors: dict[str, Tensor], fingerprint: str, seconds: float) -> None:
    folder = path.parent
    older = list(folder.glob("step-*")) if folder.exists() else []
    kept = f"The last whole state is {older[-1].name}." if older else "No earlier state exists."
    with disk_errors(path, kept), whole_folder(path) as temporary:
        save_file(tensors, temporary / _TENSORS)
        facts = {
            "step": training.step,
            "fingerprint": fingerprint,
            "start": training.start,
            "seed": training.streams.seed,
            "cpu_seconds": seconds,
        }
        write_json(temporary / _FACTS, facts)
    for old in older:
        if old != path:
            shutil.rmtree(old, ignore_errors=True)


def latest_state(folder: Path) -> Path | None:
    """Return the newest whole state of a run; one that is damaged is an error, not skipped in silence."""
    states = sorted(folder.glob("step-*")) if folder.exists() else []
    if not states:
        return None
    check_manifest(states[-1], "saved state")
    return states[-1]


def load_state(training: Training, path: Path, fingerprint: str) -> None:
    """Put a prepared run to where the saved one stood.

    Raises:
        UserError: The state is damaged, or belongs to another target or seed, or to other settings.
    """
    check_manifest(path, "saved state")
    facts = read_json(path / _FACTS)
    if facts["fingerprint"] != fingerprint:
        raise UserError(
            f"{str(path)!r} was saved for another target: its weights' fingerprint is {facts['fingerprint']}, not {fingerprint}.",
            "Resume with the target it was made from.",
        )
    if facts["seed"] != training.streams.seed:
        raise UserError(
            f"{str(path)!r} was saved with seed {facts['seed']}, not {training.streams.seed}.", "Resume with the run's own config.yaml."
        )
    tensors = load_file(path / _TENSORS)
    try:
        _restore(training, tensors)
    except (RuntimeError, KeyError) as error:
        raise UserError(
            f"{str(path)!r} was saved under other settings: {' '.join(str(error).split())}", "Resume with the run's own config.yaml."
        ) from None
    training.step = int(facts["step"])
    training.cpu_seconds = float(facts["cpu_seconds"])


def saved_start(path: Path) -> int:
    """Return which of the run's starts a state belongs to."""
    return int(read_json(path / _FACTS)["start"])


def _tensors(training: Training) -> dict[str, Tensor]:
    losses = training.losses.state_dict()
    parts: dict[str, Mapping[str, Any]] = {
        "model": training.model.state_dict(),
        "importance": training.function.state_dict(),
        "losses": {name: _of_all(training, value) if _is_shared_out(training, name) else value for name, value in losses.items()},
        "streams": training.streams.state(),
    }
    return {
        f"{part}:{name}": tensor.detach().cpu().clone().contiguous() for part, tensors in parts.items() for name, tensor in tensors.items()
    } | {f"optimizer:{name}": tensor for name, tensor in training.shards.whole_state(training.optimizer).items()}


def _is_shared_out(training: Training, name: str) -> bool:
    """Whether a buffer of the losses has one row per example, of which each rank holds its own."""
    loss, _, buffer = name.partition(".")
    term = training.losses[loss]
    return isinstance(term, Loss) and buffer in term.rows()


def _of_all(training: Training, value: Tensor) -> Tensor:
    """Return the rows of all ranks, in their order within each part of the batch, from one rank's."""
    if training.ranks.count == 1:
        return value
    rows = value.unflatten(0, (training.parts, -1)).transpose(0, 1)
    return training.ranks.concat(rows).transpose(0, 1).flatten(0, 1)


def _own(training: Training, name: str, value: Tensor) -> Tensor:
    """Return a rank's rows of a saved buffer, those of each part of the batch."""
    share = training.ranks.share(len(value) // training.parts) if _is_shared_out(training, name) else None
    if share is None:
        return value
    return value.unflatten(0, (training.parts, -1)).narrow(1, share.first, share.rows).flatten(0, 1)


def _restore(training: Training, tensors: Mapping[str, Tensor]) -> None:
    parts: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        part, _, name = key.partition(":")
        parts.setdefault(part, {})[name] = tensor
    training.model.load_state_dict(parts["model"])
    training.function.load_state_dict(parts["importance"])
    losses = parts.get("losses", {})
    training.losses.load_state_dict({name: _own(training, name, value) for name, value in losses.items()})
    training.streams.restore(parts.get("streams", {}))
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in parts.get("optimizer", {}).items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    whole = training.optimizer.state_dict()
    training.optimizer.load_state_dict({"state": training.shards.own_state(state), "param_groups": whole["param_groups"]})
