"""Train several small cases, alone or as one of several ranks, and write down where each one ended and what it logged."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tests.targets.models.tiny import VOCABULARY, tiny_model
from unbraid.core.ranks import Ranks, join
from unbraid.core.storage import write_json
from unbraid.decompose.config import DecomposeConfig
from unbraid.decompose.loop import Watch, train
from unbraid.decompose.preset import resolve
from unbraid.decompose.training import prepare
from unbraid.targets.data import SparseFeatures
from unbraid.targets.target import Target

STEPS, BATCH = 6, 8


class Sequences(nn.Module):
    """A model of token sequences: every site sees [batch, pos, d]."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 6)
        self.mix = nn.Linear(6, 6)
        self.out = nn.Linear(6, 11)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        return self.out(torch.tanh(self.mix(x)).cumsum(1) + x)


def _tokens(size: int, generator: torch.Generator) -> Tensor:
    return torch.randint(0, 11, (size, 5), generator=generator)


def sequences() -> Target:
    torch.manual_seed(1)
    return Target(Sequences(), sites="*", data=_tokens, behaviour="kl")


def sparse() -> Target:
    """Its batches have equal inputs once, with weights, so that the rows differ from step to step and rarely divide evenly."""
    torch.manual_seed(1)
    module = nn.Sequential(nn.Linear(5, 3), nn.ReLU(), nn.Linear(3, 5))
    return Target(module, sites="*", data=SparseFeatures(5, 0.2))


def llama() -> Target:
    torch.manual_seed(1)

    def tokens(size: int, generator: torch.Generator) -> Tensor:
        return torch.randint(0, VOCABULARY, (size, 9), generator=generator)

    return Target(tiny_model("llama"), sites=["*.mlp.*", "*.self_attn.*proj"], data=tokens, behaviour="kl")


def published(preset: str) -> dict[str, Any]:
    """The parts of a recipe, without its sizes."""
    tree = resolve(None, preset, {}, []).tree()
    return {key: tree[key] for key in ("initialisation", "importance", "losses", "optimizer")}


_MINIMALITY: dict[str, Any] = {"coefficient": 1e-2}
_LP: dict[str, Any] = {"kind": "lp-minimality", "coefficient": 1e-2, "p_start": 2.0, "p_end": 0.5, "beta": 0.5}

CASES: dict[str, tuple[Callable[[], Target], dict[str, Any]]] = {
    "stochastic, uneven weighted rows": (sparse, {"losses": {"stochastic": {}, "minimality": _MINIMALITY}}),
    "frequency of the batch, subset routing": (sequences, {"losses": {"stochastic": {"routing": "subset"}, "minimality": _MINIMALITY}}),
    "running frequency, layerwise": (
        sequences,
        {"losses": {"stochastic": {"routing": "layerwise"}, "minimality": {**_MINIMALITY, "frequency": {"half_life_steps": 3}}}},
    ),
    "lp with a frequency term": (sequences, {"losses": {"stochastic": {}, "minimality": _LP}}),
    **{
        f"persistent adversary, {scope}": (
            sequences,
            {"losses": {"persistent-adversarial": {"scope": scope, "choices": 3, "warmup_share": 0.0}, "minimality": _MINIMALITY}},
        )
        for scope in ("c", "bc", "sc", "nsc", "bsc")
    },
    "persistent adversary, a pool": (
        sequences,
        {"losses": {"persistent-adversarial": {"scope": "bc", "pool": 3, "warmup_share": 0.0}, "minimality": _MINIMALITY}},
    ),
    **{
        f"fresh adversary, {scope}": (
            sequences,
            {"losses": {"adversarial": {"scope": scope, "choices": 3, "ascent_steps": 2, "step_size": 0.3}, "minimality": _MINIMALITY}},
        )
        for scope in ("c", "nsc", "bsc")
    },
    "sites that are large on one rank and small on two": (
        sequences,
        {"components": 2000, "losses": {"stochastic": {"routing": "subset"}, "persistent-adversarial": {}, "minimality": _MINIMALITY}},
    ),
    "a batch in parts": (
        sequences,
        {
            "accumulate": 2,
            "losses": {"stochastic": {"routing": "subset"}, "persistent-adversarial": {"warmup_share": 0.0}, "minimality": _MINIMALITY},
        },
    ),
    "merged": (sequences, {"losses": {"merged": {"warmup_share": 0.0}, "minimality": _MINIMALITY}}),
    "merged, in parts, run again": (
        sequences,
        {"accumulate": 2, "recompute": True, "losses": {"merged": {"scope": "bc", "warmup_share": 0.0}, "minimality": _MINIMALITY}},
    ),
    "merged, a pool, in parts": (
        sequences,
        {"accumulate": 2, "losses": {"merged": {"scope": "bc", "pool": 4, "warmup_share": 0.0}, "minimality": _MINIMALITY}},
    ),
    "vpd": (sparse, published("vpd")),
    "a language model, vpd-lm-small": (llama, published("vpd-lm-small")),
    "clipping": (
        sequences,
        {"losses": {"stochastic": {}, "minimality": _MINIMALITY}, "optimizer": {"factors": {"clip": 1e-3}, "importance": {"clip": 1e-3}}},
    ),
    "component readout": (sparse, {"importance": {"kind": "component-readout"}}),
    "attributions": (
        sparse,
        {"importance": {"kind": "attribution-top-k", "k": 1.5}, "losses": {"faithfulness": {}, "m": {"kind": "importance-masked"}}},
    ),
    "simplicity, unmasked": (sparse, {"losses": {"unmasked": {}, "simplicity": {"active": True}, "faithfulness": {}}}),
}

_RATES: dict[str, Any] = {"weight_decay": 0.1, "warmup_share": 0.4, "final_share": 0.1}
_PLAIN: dict[str, Any] = {"losses": {"stochastic": {}, "minimality": _MINIMALITY, "faithfulness": {}}}
SHARDED: dict[str, tuple[Callable[[], Target], dict[str, Any]]] = {
    "sharded: clipping, decay, schedules, in parts": (
        sequences,
        {**_PLAIN, "accumulate": 2, "optimizer": {"factors": {"clip": 1e-3, **_RATES}, "importance": {"clip": 1e-3, **_RATES}}},
    ),
    "sharded: factors stay": (sequences, {**_PLAIN, "optimizer": {"factors": {"learning_rate": 0, "weight_decay": 0.1}}}),
    "sharded: pruning": (sparse, {**_PLAIN, "prune": {"at": 0.5, "below": 0.6}}),
    "sharded: pruning to the rank of components": (
        sparse,
        {
            "components": 6,
            "importance": {"kind": "attribution-top-k", "k": 1.5, "rank": 2},
            "losses": {"faithfulness": {}, "m": {"kind": "importance-masked"}},
            "prune": {"at": 0.5, "below": 0.3},
        },
    ),
    "sharded: a language model, vpd-lm-small": (llama, published("vpd-lm-small")),
}
for _make, _settings in SHARDED.values():
    _settings["optimizer"] = {**_settings.get("optimizer", {}), "sharded": True}
CASES |= SHARDED


def run(name: str, ranks: Ranks) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Train one case and return what it ends with, and the last metrics."""
    make, settings = CASES[name]
    config = DecomposeConfig.parse(
        {"steps": STEPS, "batch_size": BATCH, "components": 7, "warmup": {"steps": 2}, "log_every_steps": 1, **settings}
    )
    target = make()
    training = prepare(target, config, ranks=ranks)
    metrics: dict[str, float] = {}

    def log(step: int, values: dict[str, float]) -> None:
        metrics.update({f"{step}/{key}": value for key, value in values.items()})

    train(training, target, config, Watch(log, lambda state: None, lambda: False))
    tensors = {**training.model.state_dict(), **{f"importance.{key}": value for key, value in training.function.state_dict().items()}}
    return {key: value.detach().clone() for key, value in tensors.items()}, metrics


def main() -> None:
    torch.set_num_threads(1)
    ranks, out = join(), Path(sys.argv[1])
    for index, name in enumerate(CASES):
        tensors, metrics = run(name, ranks)
        folder = out / f"{ranks.count}-{ranks.rank}"
        folder.mkdir(parents=True, exist_ok=True)
        save_file(tensors, folder / f"{index}.safetensors")
        write_json(folder / f"{index}.json", metrics)


if __name__ == "__main__":
    main()
