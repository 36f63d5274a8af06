from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.targets.text.conftest import EOS, Build, byte_tokenizer
from unbraid.core.errors import UserError
from unbraid.core.seeds import Streams
from unbraid.targets.data import Data, draw
from unbraid.targets.text.build import TextBuild, build_text
from unbraid.targets.text.tokenizer import read_tokenizer
from unbraid.targets.text.windows import TextWindows


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def everything(data: TextWindows) -> Tensor:
    return data.at(torch.arange(data.count))


def test_packed_windows_are_the_text(build: Build, tokenizer: Any, texts: list[str]) -> None:
    data = build(texts, held_out=0.0)
    row = [id for ids in read_tokenizer(tokenizer).encode(texts) for id in [*ids, 256]]
    assert everything(data).flatten().tolist() == row[: data.count * 16]
    assert data.count == len(row) // 16
    assert data.dropped_share == pytest.approx((len(row) % 16) / len(row))
    assert (data.manifest.dtype, data.vocabulary_size, everything(data).dtype) == ("uint16", 257, torch.int64)


def test_windows_within_documents_never_cross_a_boundary(build: Build, tokenizer: Any, texts: list[str]) -> None:
    data = build(texts, held_out=0.0, mode="within")
    encoded = read_tokenizer(tokenizer).encode(texts)
    expected = [ids[at : at + 16] for ids in encoded for at in range(0, len(ids) - 15, 16)]
    assert everything(data).tolist() == expected
    assert 256 not in everything(data)
    total = sum(map(len, encoded))
    assert data.dropped_share == pytest.approx(1 - 16 * len(expected) / total)
    assert data.manifest.splits["train"].dropped_share == data.dropped_share > 0.05


def test_a_folder_can_be_read_in_other_windows(build: Build, texts: list[str]) -> None:
    data = build(texts, held_out=0.0)
    other = TextWindows(data.folder, window=24, mode="within")
    again = build(texts, held_out=0.0, mode="within", window=24)
    assert torch.equal(everything(other), everything(again))


def test_wide_vocabularies_take_four_bytes(build: Build, texts: list[str]) -> None:
    narrow, wide = build(texts), build(texts, given=byte_tokenizer(70_000))
    assert (wide.manifest.dtype, wide.vocabulary_size) == ("uint32", 70_257)
    assert torch.equal(everything(narrow), everything(wide))


def test_an_epoch_has_every_window_once_and_the_next_in_another_order(build: Build, texts: list[str]) -> None:
    data = build(texts)
    whole, size = everything(data), 8
    steps = -(-2 * data.count // size)
    read = torch.cat([data.batch(step, size, seeded()) for step in range(steps)])
    first, second = read[: data.count], read[data.count : 2 * data.count]
    assert sorted(first.tolist()) == sorted(second.tolist()) == sorted(whole.tolist())
    assert not torch.equal(first, second) and not torch.equal(first, whole)
    assert (data.epoch(0, size), data.epoch(steps, size)) == (0, 2)


def test_a_batch_depends_on_the_seed_and_the_step_alone(build: Build, texts: list[str]) -> None:
    data, used = build(texts), seeded()
    torch.rand(100, generator=used)
    assert torch.equal(data.batch(3, 8, used), data.batch(3, 8, seeded()))
    assert not torch.equal(data.batch(3, 8, seeded(1)), data.batch(3, 8, seeded()))
    halves = [data.batch(6, 4, seeded()), data.batch(7, 4, seeded())]
    assert torch.equal(torch.cat(halves), data.batch(3, 8, seeded()))


def test_a_resumed_run_reads_what_an_unstopped_one_would(build: Build, texts: list[str]) -> None:
    data = build(texts)
    assert isinstance(data, Data)
    unstopped = Streams(7)
    batches = [draw(data, step, 8, unstopped["data"])[0] for step in range(40)]
    stopped = Streams(7)
    for step in range(17):
        draw(data, step, 8, stopped["data"])
    resumed = Streams(7)
    resumed.restore(stopped.state())
    opened = TextWindows(data.folder)
    assert all(torch.equal(draw(opened, step, 8, resumed["data"])[0], batches[step]) for step in range(17, 40))  # type: ignore[arg-type]


def test_streams_with_other_names_read_in_other_orders(build: Build, texts: list[str]) -> None:
    data, streams = build(texts), Streams(0)
    assert not torch.equal(data.batch(0, 8, streams["data"]), data.batch(0, 8, streams["evaluation"]))


@pytest.mark.parametrize("world", [1, 2, 4])
def test_ranks_share_one_batch(build: Build, texts: list[str], world: int) -> None:
    data = build(texts)
    ranks = [TextWindows(data.folder, rank=rank, world_size=world) for rank in range(world)]
    for step in (0, 5, data.count // 8):  # the last lies across two epochs
        parts = [part.batch(step, 8, seeded()) for part in ranks]
        assert torch.equal(torch.cat(parts), data.batch(step, 8, seeded()))


def test_splits_share_no_document_even_where_it_stands_twice(build: Build, texts: list[str]) -> None:
    spaced = [text.replace(" ", "\n  ") for text in texts]
    sides = [build([*texts, *reversed(texts), *spaced], split=split, held_out=0.3) for split in ("train", "held-out")]
    spelt = {tuple(read_tokenizer(byte_tokenizer()).encode([way])[0]): text for way, text in zip([*texts, *spaced], texts * 2, strict=True)}
    train, held_out = ({spelt[document] for document in _documents(side)} for side in sides)
    assert held_out.isdisjoint(train) and held_out | train == set(texts)
    assert 0.15 < len(held_out) / len(texts) < 0.45
    counted = {split: facts.documents for split, facts in sides[0].manifest.splits.items()}
    assert counted == {"train": 3 * len(train), "held-out": 3 * len(held_out)}


def _documents(data: TextWindows) -> set[tuple[int, ...]]:
    """Return the tokens of each document of a split."""
    bounds = data._tokens.bounds().tolist()
    row = data._tokens.windows(np.zeros(1, np.int64), bounds[-1])[0].tolist()
    return {tuple(row[start : end - 1]) for start, end in pairwise(bounds)}


def test_what_is_held_out_does_not_depend_on_the_other_documents(build: Build, texts: list[str]) -> None:
    some, all_ = build(texts[:100], split="held-out"), build(texts, split="held-out")
    row = everything(TextWindows(all_.folder, split="held-out", window=2)).flatten()
    assert torch.equal(everything(TextWindows(some.folder, split="held-out", window=2)).flatten(), row[: 2 * (some._tokens.tokens // 2)])


def test_bytes_per_token(build: Build, texts: list[str]) -> None:
    packed, within = build(texts), build(texts, mode="within")
    assert within.bytes_per_token == 1.0  # the tokenizer has one id per byte
    facts = packed.manifest.splits["train"]
    assert facts.separators == facts.documents
    assert packed.bytes_per_token == pytest.approx(facts.bytes / (facts.bytes + facts.documents))
    assert packed.manifest.splits["train"].bytes + packed.manifest.splits["held-out"].bytes == sum(map(len, texts))


def test_a_tokenizer_that_did_not_build_the_folder_is_refused(build: Build, tokenizer: Any, texts: list[str]) -> None:
    folder = build(texts).folder
    TextWindows(folder, tokenizer=tokenizer)
    with pytest.raises(UserError, match="was tokenised by another tokenizer"):
        TextWindows(folder, tokenizer=byte_tokenizer(1))


def test_damage_is_an_error(build: Build, texts: list[str]) -> None:
    data = build(texts)
    shard = data.folder / "train-00003.npy"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))  # of the same size
    with pytest.raises(UserError, match=r"train-00003\.npy' is damaged"):
        TextWindows(data.folder, verify=True)
    opened = TextWindows(data.folder)
    assert opened.at(torch.tensor([0])).shape == (1, 16)
    with pytest.raises(UserError, match=r"train-00003\.npy' is damaged"):
        everything(opened)
    shard.write_bytes(whole[:-2])
    with pytest.raises(UserError, match=r"train-00003\.npy' is damaged"):
        TextWindows(data.folder)
    shard.unlink()
    with pytest.raises(UserError, match=r"train-00003\.npy is missing"):
        TextWindows(data.folder)


def test_a_manifest_that_is_missing_damaged_or_of_something_else(build: Build, texts: list[str], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There is no folder of tokens"):
        TextWindows(tmp_path / "none")
    path = build(texts).folder / "manifest.json"
    tree = json.loads(path.read_text())
    for change, told in (({"window": "wide"}, "is damaged: 'window'"), ({"format": "other"}, "describes no folder of tokens")):
        path.write_text(json.dumps({**tree, **change}))
        with pytest.raises(UserError, match=told):
            TextWindows(path.parent)
    path.unlink()
    with pytest.raises(UserError, match=r"is not a whole folder of tokens: it has no manifest\.json"):
        TextWindows(path.parent)


def test_what_cannot_be_read(build: Build, tokenizer: Any, texts: list[str], tmp_path: Path) -> None:
    data = build(texts, held_out=0.0)
    with pytest.raises(UserError, match="no window of 16 tokens in the split 'held-out', which has 0 documents"):
        TextWindows(data.folder, split="held-out")
    with pytest.raises(UserError, match="Rank 2 of 2"):
        TextWindows(data.folder, rank=2, world_size=2)
    with pytest.raises(UserError, match="A window of 0 tokens"):
        TextWindows(data.folder, window=0)
    with pytest.raises(UserError, match=rf"the split 'train' has {data.count}\. Set batch_size to at most {data.count}"):
        data.batch(0, data.count + 1, seeded())
    with pytest.raises(UserError, match="cannot be shared by 4 ranks"):
        TextWindows(data.folder, world_size=4).batch(0, 6, seeded())
    with pytest.raises(UserError, match="outside 0"):
        data.at(torch.tensor([data.count]))
    build_text(texts, tokenizer, tmp_path / "endless", TextBuild(window=16, mode="within"))
    with pytest.raises(UserError, match="has no tokens that end documents"):
        TextWindows(tmp_path / "endless", mode="packed")


def test_held_out_windows_are_read_once_each(build: Build, texts: list[str]) -> None:
    data = build(texts, split="held-out")
    read = [data.batch(step, 1, seeded()) for step in range(data.count)]
    assert data.count > 10
    assert sorted(torch.cat(read).tolist()) == sorted(everything(data).tolist())
    assert EOS not in data.folder.joinpath("manifest.json").read_text()
