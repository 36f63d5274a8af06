from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import environment, hashes
from tests.targets.text.conftest import EOS
from unbraid.core.errors import UserError
from unbraid.core.storage import MANIFEST
from unbraid.targets.text import shard_writer
from unbraid.targets.text.build import TextBuild, build_text
from unbraid.targets.text.pieces import cut_text
from unbraid.targets.text.tokenizer import TextTokenizer, read_tokenizer
from unbraid.targets.text.windows import TextWindows

SMALL = TextBuild(window=16, held_out=0.2, shard_tokens=1000)


def test_the_same_text_gives_the_same_folder(tokenizer: Any, texts: list[str], tmp_path: Path) -> None:
    source = tmp_path / "somewhere" / "corpus"
    source.mkdir(parents=True)
    for index, text in enumerate(texts):
        (source / f"{index:03d}.txt").write_text(text)
    build_text(source, tokenizer, tmp_path / "a", SMALL, eos=EOS)
    source = source.rename(tmp_path / "corpus")
    build_text(source, tokenizer, tmp_path / "b", TextBuild(16, "packed", 0.2, 1000, batch_characters=500), eos=EOS)
    assert hashes(tmp_path / "a") == hashes(tmp_path / "b")
    manifest = (tmp_path / "a" / MANIFEST).read_text()
    assert str(tmp_path) not in manifest
    assert json.loads(manifest)["source"]["name"] == "corpus"
    assert sum(split["documents"] for split in json.loads(manifest)["splits"].values()) == 200


def test_what_was_read_is_reported(tokenizer: Any, texts: list[str], tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []

    def report(documents: int, size: int) -> None:
        told.append((documents, size))

    build_text(texts, tokenizer, tmp_path / "a", TextBuild(16, batch_characters=4000), eos=EOS, report=report)
    assert told == sorted(told) and len(told) > 3
    assert told[-1] == (200, sum(map(len, texts)))


def test_empty_documents_are_left_out_and_counted(tokenizer: Any, texts: list[str], tmp_path: Path) -> None:
    manifest = build_text([*texts, "", " \n"], tokenizer, tmp_path / "a", SMALL, eos=EOS)
    assert manifest.source.empty_documents == 2
    assert sum(facts.documents for facts in manifest.splits.values()) == 200


@pytest.mark.parametrize("limit", [1, 7, 50, 10_000])
def test_pieces_are_the_text(limit: int) -> None:
    text = "one two\nthree\n\n" * 20 + "x" * 100
    parts = list(cut_text(text, limit))
    assert "".join(parts) == text
    assert max(map(len, parts)) <= limit
    assert limit != 50 or parts[0].endswith("\n")


def test_a_long_document_is_tokenised_in_pieces_and_stays_one(tokenizer: Any, tmp_path: Path) -> None:
    text = "some words in a line\n" * 300
    build_text([text], tokenizer, tmp_path / "a", TextBuild(16, "within", 0.0, 1000), eos=EOS)
    build_text([text], tokenizer, tmp_path / "b", TextBuild(16, "within", 0.0, 1000, batch_characters=100), eos=EOS)
    assert hashes(tmp_path / "a") == hashes(tmp_path / "b")
    assert TextWindows(tmp_path / "b").manifest.splits["train"].documents == 1


def test_memory_does_not_grow_with_the_text(tokenizer: Any, tmp_path: Path) -> None:
    settings = TextBuild(window=16, shard_tokens=10_000, batch_characters=10_000)

    def many(count: int) -> Iterator[str]:
        for index in range(count):
            yield f"{index} " * 100

    def peak(count: int) -> int:
        tracemalloc.start()
        try:
            build_text(many(count), tokenizer, tmp_path / str(count), settings, eos=EOS)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(10)  # whatever is remembered from the first call on
    small, large = peak(50), peak(600)
    assert TextWindows(tmp_path / "600").manifest.splits["train"].bytes > 200_000
    assert large < small + 50_000


@pytest.mark.parametrize(
    ("texts", "settings", "told"),
    [
        (
            ["short"],
            {"held_out": 0.0},
            "The text to train on has 6 tokens, and one window needs 16. Give more text, or a shorter window: --window 6",
        ),
        (["short", "longer"], {"held_out": 0.0, "mode": "within"}, "The longest document to train on has 6 tokens"),
        ([], {}, "'texts in memory' has no text"),
        (["", " "], {}, "'texts in memory' has no text"),
        (["alone " * 10], {"held_out": 0.999999}, "Every document of 'texts in memory' is held out: there are 1"),
        (["a" * 99, "half \ud83d of a pair"], {}, "document 1 holds \\ud83d, half of a surrogate pair"),
        (["a"], {"window": 1}, "A window of 1 tokens was asked for"),
        (["a"], {"held_out": 1.0}, "A held-out share of 1.0 was asked for"),
    ],
)
def test_what_cannot_be_built_leaves_nothing(tokenizer: Any, tmp_path: Path, texts: list[str], settings: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError) as error:
        build_text(texts, tokenizer, tmp_path / "a", TextBuild(**{"window": 16, **settings}), eos=EOS)
    assert told in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_packed_windows_need_a_token_that_ends_documents(tokenizer: Any, texts: list[str], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="names no token that ends a text"):
        build_text(texts, tokenizer, tmp_path / "a")
    manifest = build_text(texts, tokenizer, tmp_path / "a", TextBuild(16, "within", 0.2))
    assert manifest.splits["train"].separators == 0


def test_a_folder_in_use_is_left_alone(tokenizer: Any, texts: list[str], tmp_path: Path) -> None:
    build_text(texts, tokenizer, tmp_path / "a", SMALL, eos=EOS)
    before = hashes(tmp_path)
    with pytest.raises(UserError, match="There is already something whole"):
        build_text(texts, tokenizer, tmp_path / "a", SMALL, eos=EOS)
    with pytest.raises(UserError, match="holds other files, such as 'a'"):
        build_text(texts, tokenizer, tmp_path, SMALL, eos=EOS)
    with pytest.raises(UserError, match="is a file"):
        build_text(texts, tokenizer, tmp_path / "a" / "train-00000.npy", SMALL, eos=EOS)
    assert hashes(tmp_path) == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "train-00000.npy").write_text("called as a shard would be")
    with pytest.raises(UserError, match="holds other files"):
        build_text(texts, tokenizer, tmp_path / "mine", SMALL, eos=EOS)
    assert (tmp_path / "mine" / "train-00000.npy").read_text() == "called as a shard would be"


def test_a_full_disk_is_told_and_leaves_nothing(tokenizer: Any, texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, write: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shard_writer, "write_atomically", full)
    with pytest.raises(UserError, match=r"train-00000\.npy': the disk is full\. Make room"):
        build_text(texts, tokenizer, tmp_path / "a", SMALL, eos=EOS)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_build_leaves_nothing(texts: list[str], tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken, whole = read_tokenizer(tokenizer, EOS), TextTokenizer.encode

    def encode(self: TextTokenizer, given: list[str]) -> list[list[int]]:
        if (tmp_path / "a" / "train-00002.npy").exists():
            raise KeyboardInterrupt
        return whole(self, given)

    monkeypatch.setattr(TextTokenizer, "encode", encode)
    with pytest.raises(KeyboardInterrupt):
        build_text(texts, taken, tmp_path / "a", TextBuild(16, shard_tokens=500, batch_characters=300))
    assert list(tmp_path.iterdir()) == []


def test_a_killed_build_does_not_look_whole_and_is_begun_anew(tokenizer: Any, texts: list[str], tmp_path: Path) -> None:
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "text.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    # A process that gets through half of the text and then stands still until it is killed.
    code = (
        "import itertools, json, time\n"
        "from unbraid.targets.text.build import TextBuild, build_text\n"
        "texts = [json.loads(line)['text'] for line in open('text.jsonl')]\n"
        "still = (time.sleep(60) for _ in range(1))\n"
        f"build_text(itertools.chain(texts[:100], still), '.', 'a', TextBuild(16, 'packed', 0.2, 1000, 500), eos={EOS!r})\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=environment())
    until = time.monotonic() + 60
    while not (tmp_path / "a" / "train-00001.npy").exists():
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (tmp_path / "a" / ".train-00002.npy.0123abcd").write_text("half")
    with pytest.raises(UserError, match="is not a whole folder of tokens"):
        TextWindows(tmp_path / "a")
    build_text(tmp_path / "text.jsonl", tokenizer, tmp_path / "a", SMALL, eos=EOS)
    build_text(tmp_path / "text.jsonl", tokenizer, tmp_path / "b", SMALL, eos=EOS)
    assert hashes(tmp_path / "a") == hashes(tmp_path / "b")
    TextWindows(tmp_path / "a", verify=True)
