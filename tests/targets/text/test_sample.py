"""Text that a model writes itself: as much as asked for, the same from the same seed, and likelier to the model than other text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from tests.targets.models.tiny import byte_level_bpe, tiny_llama
from unbraid.core.errors import UserError
from unbraid.targets.text.sample import sample_text


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model that begins a text with <bos>."""
    torch.manual_seed(0)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=byte_level_bpe(300), unk_token="<unk>", bos_token="<bos>", eos_token="<eos>")
    tiny_llama(vocab_size=300, max_position_embeddings=12).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def lines(path: Path) -> list[str]:
    return [json.loads(line)["text"] for line in path.read_text(encoding="utf-8").splitlines()]


def test_the_same_seed_writes_the_same_documents(model: Path, tmp_path: Path) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = lines(sample_text(model, tmp_path / "a" / "one.jsonl", 7, seed=3, at_once=4))
    assert torch.equal(before, torch.get_rng_state())  # nobody else's randomness is touched
    assert len(first) == 7
    assert first == lines(sample_text(model, tmp_path / "two.jsonl", 7, seed=3, at_once=4))
    assert first != lines(sample_text(model, tmp_path / "three.jsonl", 7, seed=4, at_once=4))


def test_a_longer_text_begins_like_a_shorter_one(model: Path, tmp_path: Path) -> None:
    short, long = (lines(sample_text(model, tmp_path / f"{n}.jsonl", n, at_once=4)) for n in (4, 8))
    assert long[:4] == short


@pytest.mark.parametrize(("documents", "temperature"), [(0, 1.0), (3, 0.0)])
def test_nothing_is_written_for_numbers_that_mean_nothing(model: Path, tmp_path: Path, documents: int, temperature: float) -> None:
    with pytest.raises(UserError, match="above 0"):
        sample_text(model, tmp_path / "x.jsonl", documents, temperature)
    assert not (tmp_path / "x.jsonl").exists()


def test_a_tokenizer_without_a_first_token_is_named(tmp_path: Path) -> None:
    tiny_llama(vocab_size=300).save_pretrained(tmp_path / "model")
    PreTrainedTokenizerFast(tokenizer_object=byte_level_bpe(300), unk_token="<unk>").save_pretrained(tmp_path / "model")
    with pytest.raises(UserError, match="begins a text"):
        sample_text(tmp_path / "model", tmp_path / "x.jsonl", 2)
