from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.targets.text.conftest import EOS, byte_tokenizer
from unbraid.core.errors import UserError
from unbraid.targets.text.tokenizer import read_tokenizer


def test_a_folder_and_an_object_are_the_same_tokenizer(tokenizer: Any, tmp_path: Path) -> None:
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    given, loaded = read_tokenizer(tokenizer, EOS), read_tokenizer(tmp_path, EOS)
    assert (given.sha256, given.vocabulary_size, given.eos) == (loaded.sha256, 257, 256)
    assert given.encode(["é", ""]) == loaded.encode(["é", ""])
    assert [len(ids) for ids in given.encode(["é", ""])] == [2, 0]


def test_another_vocabulary_is_another_tokenizer(tokenizer: Any) -> None:
    assert read_tokenizer(tokenizer).sha256 != read_tokenizer(byte_tokenizer(1)).sha256


def test_nothing_is_cut_padded_or_added_and_the_object_stays_as_it_was() -> None:
    tokenizers = pytest.importorskip("tokenizers")
    given = byte_tokenizer()
    plain = read_tokenizer(given)
    given.enable_truncation(3)
    given.enable_padding(length=10)
    given.post_processor = tokenizers.processors.TemplateProcessing(single=f"{EOS} $A", special_tokens=[(EOS, 256)])
    taken = read_tokenizer(given)
    assert taken.encode(["abcdef"]) == plain.encode(["abcdef"])
    assert taken.sha256 == plain.sha256
    assert len(given.encode("abcdef").ids) == 10


@pytest.mark.parametrize(
    ("name", "tree"),
    [
        ("tokenizer_config.json", {"eos_token": EOS}),
        ("tokenizer_config.json", {"eos_token": {"content": EOS}}),
        ("special_tokens_map.json", {"eos_token": EOS}),
        ("generation_config.json", {"eos_token_id": [256, 3]}),
        ("config.json", {"eos_token_id": 256}),
    ],
)
def test_the_token_that_ends_a_text_is_found(tokenizer: Any, tmp_path: Path, name: str, tree: dict[str, Any]) -> None:
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert read_tokenizer(tmp_path).eos is None
    (tmp_path / name).write_text(json.dumps(tree))
    assert read_tokenizer(tmp_path).eos == 256


def test_an_object_that_holds_a_tokenizer(tokenizer: Any) -> None:
    taken = read_tokenizer(SimpleNamespace(backend_tokenizer=tokenizer, eos_token_id=256))
    assert (taken.eos, taken.sha256) == (256, read_tokenizer(tokenizer).sha256)


@pytest.mark.slow
def test_a_tokenizer_of_transformers(tokenizer: Any, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=EOS)
    fast.save_pretrained(tmp_path)
    given, loaded = read_tokenizer(fast), read_tokenizer(tmp_path)
    assert (given.eos, given.sha256) == (loaded.eos, loaded.sha256) == (256, read_tokenizer(tokenizer).sha256)


def test_what_is_no_tokenizer(tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="There is no tokenizer at"):
        read_tokenizer(tmp_path)
    with pytest.raises(UserError, match="The tokenizer is int"):
        read_tokenizer(3)
    with pytest.raises(UserError, match="has no token '</s>'"):
        read_tokenizer(tokenizer, "</s>")
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(UserError, match="is damaged"):
        read_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match="is no tokenizer"):
        read_tokenizer(tmp_path)
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(UserError, match=r"pip install 'unbraid\[lm\]'"):
        read_tokenizer(tmp_path)
