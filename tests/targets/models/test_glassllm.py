"""Do glassllm's files become the same model and the same ids?"""

from __future__ import annotations

import json
import re
import unicodedata
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM

from tests.targets.models.tiny import GLASS_ALPHABET, GLASS_MERGES, logits, write_glassllm
from unbraid.core.errors import UserError
from unbraid.targets.models.glassllm import glassllm_tokenizer, read_glassllm

TEXTS = ["", "the", " the  the\n\n the", "   t", "\n\n\n", "he\u0301 e\u0301", "thé Zoë", "a\tb", "▁t", "the ", "hehe  thethe\n"]


def plain_ids(text: str) -> list[int]:
    """Encode as glassllm is described to: chunks, then the merge of the lowest rank, everywhere, until there is none."""
    tokens = ["<pad>", "<unk>", "<bos>", "<eos>", *GLASS_ALPHABET, *(a + b for a, b in GLASS_MERGES)]
    ranks = {(a, b): rank for rank, (a, b) in enumerate(GLASS_MERGES)}
    ids: list[int] = []
    for chunk in re.findall(r"\n|▁*[^▁\n]+|▁+", unicodedata.normalize("NFC", text).replace(" ", "▁")):
        symbols = list(chunk)
        while known := [ranks[pair] for pair in pairwise(symbols) if pair in ranks]:
            pair, merged = GLASS_MERGES[min(known)], []
            while symbols:
                joined = symbols[:2] == pair
                merged.append("".join(symbols[: 1 + joined]))
                symbols = symbols[1 + joined :]
            symbols = merged
        ids += [tokens.index(symbol) if symbol in tokens else 1 for symbol in symbols]
    return ids


def test_the_model_is_the_one_that_was_written(tmp_path: Path) -> None:
    model = write_glassllm(tmp_path)
    converted = read_glassllm(tmp_path / "en.npz", tmp_path / "en.tokenizer.json")
    found = LlamaForCausalLM(converted.llama_config())
    found.load_state_dict(converted.tensors, strict=False)
    ids = torch.randint(0, model.config.vocab_size, (3, 20))
    torch.testing.assert_close(logits(found.eval(), ids), logits(model, ids), rtol=0, atol=1e-6)
    assert converted.parameters == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("text", TEXTS)
def test_ids_are_those_of_plain_merging(text: str) -> None:
    tokenizer = glassllm_tokenizer({"alphabet": GLASS_ALPHABET, "merges": GLASS_MERGES})
    ids = tokenizer(text)["input_ids"]
    assert ids == plain_ids(text)
    if 1 not in ids:
        assert tokenizer.decode(ids) == unicodedata.normalize("NFC", text).replace("▁", " ")


def test_what_was_rounded_is_said(tmp_path: Path) -> None:
    write_glassllm(tmp_path, np.float16)
    assert "fp16-rounded" in read_glassllm(tmp_path / "en.npz", tmp_path / "en.tokenizer.json").object


def test_files_that_are_something_else(tmp_path: Path) -> None:
    write_glassllm(tmp_path)
    weights, words = tmp_path / "en.npz", tmp_path / "en.tokenizer.json"
    good = weights.read_bytes()
    for bad, message in ((good[: len(good) // 2], "not a whole .npz"), (b"x", "not a whole .npz")):
        weights.write_bytes(bad)
        with pytest.raises(UserError, match=message):
            read_glassllm(weights, words)
    np.savez(weights, x=np.zeros(3))
    with pytest.raises(UserError, match="does not hold a glassllm model"):
        read_glassllm(weights, words)
    np.savez(weights, __config__=np.array([{"a": 1}], dtype=object))  # a pickle inside
    with pytest.raises(UserError, match="not a whole .npz"):
        read_glassllm(weights, words)
    weights.write_bytes(good)
    words.write_text(json.dumps({"alphabet": GLASS_ALPHABET, "merges": GLASS_MERGES[:2]}))
    with pytest.raises(UserError, match="has 13 tokens, the model 17"):
        read_glassllm(weights, words)
    words.write_text("{}")
    with pytest.raises(UserError, match="no alphabet and merges"):
        read_glassllm(weights, words)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("glassllm") is None, reason="the package glassllm is not installed")
def test_the_package_computes_the_same(tmp_path: Path) -> None:
    import glassllm  # pyright: ignore[reportMissingImports]

    folder = Path(glassllm.__file__).parent / "weights"
    theirs, words = glassllm.load_pretrained("en")
    converted = read_glassllm(folder / "en.npz", folder / "en.tokenizer.json")
    ours = LlamaForCausalLM(converted.llama_config())
    ours.load_state_dict(converted.tensors, strict=False)
    ids = torch.randint(0, 1024, (2, 128))
    with glassllm.no_grad():
        wanted = torch.tensor(theirs.forward(ids.numpy()).data)
    found = logits(ours.eval(), ids)
    assert float((found - wanted).abs().max()) < 1e-5 * float(wanted.abs().max())
    assert converted.tokenizer is not None
    for text in ("Alice was beginning\n\n to get very “tired”…", "naïve\tÆ 42  x", *TEXTS):
        assert converted.tokenizer(text)["input_ids"] == words.encode(text)
