"""Does `unbraid estimate` follow what the engine keeps, and does it need no weights?"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig

from tests.cli.conftest import Cli
from tests.targets.models.tiny import tiny_llama
from unbraid.decompose.config import DecomposeConfig
from unbraid.decompose.loop import Watch, train
from unbraid.decompose.on_paper import LiveBytes, memory_on_paper
from unbraid.decompose.training import prepare
from unbraid.targets.behaviour import behaviour_named
from unbraid.targets.models.load import model_on_paper
from unbraid.targets.models.paper import PaperTokens, paper_sites
from unbraid.targets.target import Target

WINDOW = 16
SETTINGS: dict[str, object] = {
    "batch_size": 8,
    "components": 24,
    "losses": {"stochastic": {"routing": "subset"}, "persistent-adversarial": {"scope": "bsc"}, "minimality": {}},
}


@pytest.fixture
def on_paper(tmp_path: Path) -> Path:
    """A folder with a configuration and no weights."""
    config = LlamaConfig(
        hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, vocab_size=300
    )
    config.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def estimate(cli: Cli, model: Path, *words: str) -> dict[str, int]:
    told = cli("estimate", str(model), "--sites", "*.mlp.*", "--batch-size=8", "--window=16", "--components=24", "--json", *words)
    assert told.code == 0, told.err
    return json.loads(told.out)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"accumulate": 2, "recompute": True},
        {"precision": "bf16"},
        {"precision": "bf16", "recompute": True},
        {"importance": {"kind": "shared-transformer", "d_model": 32}, "components": 600},
        {"losses": {"merged": {"scope": "bc", "pool": 4, "stored": "bf16"}, "minimality": {}}},
    ],
)
def test_the_count_is_what_a_real_run_keeps(more: dict[str, object]) -> None:
    """On tensors with contents, the same tracker sees the same bytes."""
    module = tiny_llama(vocab_size=300).float().requires_grad_(False)
    target = Target(
        module, sites="*.mlp.*", data=lambda size, generator: torch.randint(0, 300, (size, WINDOW), generator=generator), behaviour="kl"
    )
    config = DecomposeConfig.parse({**SETTINGS, **more, "steps": 3, "warmup": {"steps": 0}, "log_every_steps": 1})
    training = prepare(target, config)
    trained = [*training.model.parameters(), *training.function.parameters()]
    with LiveBytes() as live:
        train(training, target, config, Watch(lambda step, metrics: None, lambda state: None, lambda: False))
    before = sum(tensor.numel() * 4 for tensor in trained)
    frozen = sum(tensor.numel() * tensor.element_size() for tensor in [*module.parameters(), *module.buffers()])
    with torch.device("meta"):
        empty = type(module)(module.config).float().eval()
    memory = memory_on_paper(empty, paper_sites(empty, "*.mlp.*"), PaperTokens(WINDOW), behaviour_named("kl"), config)
    assert memory.step == pytest.approx(live.peak + before + frozen, rel=0.05)


def test_no_weights_are_needed(cli: Cli, on_paper: Path) -> None:
    assert not list(on_paper.glob("*.safetensors"))
    memory = estimate(cli, on_paper)
    widths = 3 * 2 * (64 + 96)
    assert memory["factors"] == 4 * 24 * widths  # V and U of six matrices
    assert memory["gradients"] == memory["moments"] / 2
    assert memory["peak"] == max(memory["step"], memory["saving"], memory["warmup"])


def test_more_ranks_take_less_each_but_what_is_drawn_for_all(cli: Cli, on_paper: Path) -> None:
    one, four = estimate(cli, on_paper), estimate(cli, on_paper, "--gpus=4")
    assert four["factors"] == one["factors"]
    assert four["adversary"] < one["adversary"] / 3.9
    assert one["passes"] / 4 < four["passes"] < one["passes"] / 2, "gradients are among it, and no smaller"


@pytest.mark.parametrize(
    ("word", "more"), [("--components=48", "factors"), ("--window=32", "passes"), ("--set=importance.hidden=400", "importance")]
)
def test_what_is_larger_takes_more(cli: Cli, on_paper: Path, word: str, more: str) -> None:
    small, large = estimate(cli, on_paper), estimate(cli, on_paper, word)
    assert large[more] > 1.5 * small[more]
    assert large["step"] > small["step"]


def test_tied_matrices_share_factors(on_paper: Path) -> None:
    module = model_on_paper(on_paper)
    twin = module.model.layers[0].mlp.up_proj
    module.model.layers[1].mlp.up_proj.weight = twin.weight
    sites = {site.path: site for site in paper_sites(module, "*.up_proj")}
    assert sites["model.layers.1.mlp.up_proj"].tie is not None
    assert sites["model.layers.0.mlp.up_proj"].tie is None


def test_bad_input_is_told(cli: Cli, on_paper: Path) -> None:
    def error(*words: str) -> str:
        return cli("estimate", str(on_paper), *words).error

    assert error("--sites", "*.mlp.*", "--batch-size=6", "--gpus=4").startswith("A batch of 6 cannot be shared by 4.")
    assert "'*.nothing'" in error("--sites", "*.nothing")
    assert error("--sites", "*.mlp.*", "--dtype=int3") == "--dtype 'int3' is not known. Give float32 or bf16."


def test_a_person_reads_a_table(cli: Cli, on_paper: Path) -> None:
    told = cli("estimate", str(on_paper), "--sites", "*.mlp.*", "--batch-size=8", "--gpus=2")
    assert told.code == 0, told.err
    assert "Peak of a training step: " in told.out and "on each of 2." in told.out
