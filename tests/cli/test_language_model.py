"""Does `unbraid decompose` take a language model on disk, with text, and leave a run that is scored and gone on with like any other?"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

import unbraid
from tests.cli.conftest import Cli
from tests.targets.models.tiny import byte_level_bpe, tiny_llama
from unbraid.core.errors import UserError
from unbraid.decompose.generate import MASKS, generate
from unbraid.targets.settings import target_settings
from unbraid.targets.text.windows import TextWindows

SHORT = (
    "--steps=4",
    "--set=batch_size=4",
    "--set=components=6",
    "--set=warmup.steps=2",
    "--set=evaluation={batches: 2, batch_size: 2, adversary_steps: [1, 2], ladder_batches: 1}",
    "--no-report",
)


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model with its tokenizer, and a corpus beside it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    torch.manual_seed(0)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=byte_level_bpe(300), unk_token="<unk>", bos_token="<bos>", eos_token="<eos>")
    folder = tmp_path / "model"
    tiny_llama(vocab_size=300).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    lines = [json.dumps({"text": f"the theory of thing {index}, and it is there then {index * index}"}) for index in range(60)]
    (tmp_path / "corpus.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


def options(*sites: str) -> list[str]:
    return [*(word for glob in sites for word in ("--sites", glob)), "--text", "corpus.jsonl", "--window", "8"]


def test_a_run_is_made_scored_and_read_back_from_elsewhere(cli: Cli, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = cli("decompose", "model", *options("*.0.mlp.*", "*.1.self_attn.q_proj"), *SHORT, "--out", "run")
    assert told.code == 0, told.err
    assert "Scorecard: model, seed 0, step 4" in told.out
    assert not (tmp_path / "run" / "target.safetensors").exists()  # the model's own folder has them
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    result = unbraid.Decomposition.from_pretrained(tmp_path / "run")
    assert list(result.model.sites) == [
        "model.layers.0.mlp.gate_proj",
        "model.layers.0.mlp.up_proj",
        "model.layers.0.mlp.down_proj",
        "model.layers.1.self_attn.q_proj",
    ]
    assert result.target.behaviour.unit == "nats"


def test_results_are_measured_on_held_out_text(model: Path, tmp_path: Path, cli: Cli) -> None:
    assert cli("text", "build", "corpus.jsonl", "--tokenizer", "model", "--window", 8, "--held-out", 0.2, "--out", "tokens").code == 0
    target = target_settings(
        {"kind": "language-model", "model": str(model), "sites": ["*.up_proj"], "text": str(tmp_path / "tokens")}
    ).target()
    assert isinstance(target.data, TextWindows) and isinstance(target.fresh, TextWindows)
    assert (target.data.split, target.fresh.split) == ("train", "held-out")


def test_tokens_are_made_once_and_again_when_the_text_changes(model: Path, tmp_path: Path, cli: Cli) -> None:
    def made() -> int:
        cli("decompose", "model", *options("*.0.mlp.up_proj"), *SHORT)
        return len(list((tmp_path / "cache" / "unbraid" / "text").iterdir()))

    assert [made(), made()] == [1, 1]
    with (tmp_path / "corpus.jsonl").open("a", encoding="utf-8") as file:
        file.write('\n{"text": "one thing more"}')
    assert made() == 2


def test_parts_of_a_fused_matrix_and_a_tied_table(cli: Cli, model: Path, tmp_path: Path) -> None:
    config = GPT2Config(n_embd=16, n_layer=2, n_head=4, n_positions=32, vocab_size=300, bos_token_id=1, eos_token_id=2)
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "gpt")
    for file in model.glob("token*"):
        shutil.copy(file, tmp_path / "gpt")
    some = ("--set", "importance=layerwise-mlp", "--set", 'components={"*": 6, "*:q": 4}', "--out", "run")
    told = cli("decompose", "gpt", *options("*.0.attn.c_attn:[qv]", "transformer.wte", "lm_head"), *SHORT[:-1], *some)
    assert told.code == 0, told.err
    result = unbraid.Decomposition.from_pretrained(tmp_path / "run")
    assert dict(result.model.C) == {
        "transformer.wte": 6,
        **{f"transformer.h.0.attn.c_attn:{part}": C for part, C in (("q", 4), ("v", 6))},
        "lm_head": 6,
    }
    assert "c_attn:q" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    told = cli("generate", "run", "--prompt", "the theory", "--tokens", 2, "--masks", "target,rounded,adversarial")
    assert told.code == 0, told.err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["model"], "--text"),
        (["model", "--sites", "*.mlp.*"], "--text"),
        (["model", *options("*.mpl.*")], "matches no site"),
        (["modle"], "unbraid targets list"),
        (["nobody/nothing", *options("*")], "no such hub id"),
        (["tms-5-2", "--text", "corpus.jsonl"], "is a toy"),
        (["--sites", "*"], "no target was named"),
        (["model", *options("*.mlp.*"), "--weights", "x.safetensors"], "leave --weights out"),
        (["model", "--sites", "*.mlp.*", "--text", "corpus.jsonl", "--window", "64"], "at most 32"),
        (["model", "--sites", "*.mlp.*", "--text", "nowhere"], "nowhere"),
    ],
)
def test_what_is_missing_or_wrong_is_said(cli: Cli, model: Path, given: list[str], said: str) -> None:
    told = cli("decompose", *given, *SHORT)
    assert told.code == 2
    assert said in " ".join(told.err.split()), told.err


def test_without_globs_every_matrix_of_the_blocks_is_taken(cli: Cli, model: Path) -> None:
    told = cli("decompose", "model", "--text", "corpus.jsonl", "--window", "8", *SHORT, "--out", "run")
    assert told.code == 0, told.err
    assert "all 14 matrices" in told.err
    sites = unbraid.Decomposition.from_pretrained("run").model.sites
    assert len(sites) == 14
    assert not any("embed" in path or "lm_head" in path for path in sites)


def test_an_unknown_kind_is_an_error() -> None:
    with pytest.raises(UserError, match="has no kind"):
        target_settings({"model": "x"})


def test_a_prompt_goes_on_under_each_kind_of_mask(cli: Cli, model: Path) -> None:
    cli("decompose", "model", *options("*.mlp.*"), *SHORT, "--out", "run")
    told = cli("generate", "run", "--prompt", "the theory of", "--tokens", 4, "--masks", ",".join(MASKS), "--json")
    assert told.code == 0, told.err
    rows = {row["masks"]: row for row in json.loads(told.out)["continuations"]}
    assert list(rows) == list(MASKS)
    assert rows["target"]["kl"] == pytest.approx(0, abs=1e-6)
    assert rows["zero"]["kl"] > 1e-4
    assert all(row["tokens"] <= 4 for row in rows.values())
    again = cli("generate", "run", "--prompt", "the theory of", "--tokens", 4, "--masks", ",".join(MASKS), "--json")
    assert again.out == told.out


def test_the_adversary_moves_the_prompt_further_than_chance(cli: Cli, model: Path, tmp_path: Path) -> None:
    cli("decompose", "model", *options("*.mlp.*"), *SHORT, "--out", "run")
    result = unbraid.Decomposition.from_pretrained(tmp_path / "run")
    prompt = torch.arange(3, 20)
    one, other = generate(result, prompt, ["stochastic", "adversarial"], tokens=1)
    assert other.kl != one.kl
    with pytest.raises(UserError, match="longer than the 32"):
        generate(result, prompt, ["target"], tokens=16)
    with pytest.raises(UserError, match="no tokens"):
        generate(result, prompt[:0], ["target"])


@pytest.mark.parametrize(
    ("given", "said"), [(["--masks", "rounder"], "rounded"), (["--prompt", ""], "no tokens"), (["--tokens", "99"], "Write fewer")]
)
def test_a_prompt_that_cannot_go_on(cli: Cli, model: Path, given: list[str], said: str) -> None:
    cli("decompose", "model", *options("*.0.mlp.up_proj"), *SHORT, "--out", "run")
    told = cli("generate", "run", *(["--prompt", "the"] if "--prompt" not in given else []), *given)
    assert told.code == 2
    assert said in told.err
