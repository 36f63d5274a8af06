"""A tiny tokenizer with one id per byte, and documents to tokenise."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from unbraid.targets.text.build import TextBuild, build_text
from unbraid.targets.text.windows import TextWindows

EOS = "<end>"
Build = Callable[..., TextWindows]


def byte_tokenizer(extra: int = 0) -> Any:
    """Return a tokenizer whose ids 0 … 255 are bytes, followed by the token that ends a document and `extra` more."""
    tokenizers = pytest.importorskip("tokenizers")
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: index for index, letter in enumerate(alphabet)} | {f"x{index}": 257 + index for index in range(extra)}
    vocabulary[EOS] = 256
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.add_special_tokens([EOS])
    return tokenizer


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """The tokenizer with one id per byte."""
    return byte_tokenizer()


@pytest.fixture
def texts() -> list[str]:
    """200 documents of 3 to 30 words."""
    words = random.Random(0)
    return [" ".join(f"w{words.randrange(1000)}" for _ in range(words.randrange(3, 30))) for _ in range(200)]


@pytest.fixture
def build(tmp_path: Path, tokenizer: Any) -> Build:
    """Build a folder from texts and open it; shards are small, so that windows lie across them."""

    def run(texts: Any, *, split: Any = "train", given: Any = None, **settings: Any) -> TextWindows:
        out = tmp_path / f"tokens-{len(list(tmp_path.iterdir()))}"
        build_text(texts, given or tokenizer, out, TextBuild(**{"window": 16, "held_out": 0.2, "shard_tokens": 1000, **settings}), eos=EOS)
        return TextWindows(out, split=split)

    return run
