"""Does a GGUF file become the model that it was written from, and is what cannot be read refused in words?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFReader
from gguf.quants import dequantize, quantize
from transformers import LlamaForCausalLM

from tests.targets.models.tiny import byte_level_bpe, gguf_arrays, logits, some_ids, tiny_llama, write_gguf
from unbraid.core.errors import UserError
from unbraid.targets.models.converted import Converted
from unbraid.targets.models.gguf_file import read_gguf
from unbraid.targets.models.gguf_tokenizer import read_tokenizer

TEXTS = ["", "the theory\n\n1. then", "\n\n2.  it's 1999", "naïve 日本 🙂", "<bos>the<eos>", " \t the\n \n\n42\n", "x" * 40]


def as_module(converted: Converted) -> LlamaForCausalLM:
    model = LlamaForCausalLM(converted.llama_config())
    model.load_state_dict(converted.tensors, strict=False)
    return model.eval()


@pytest.mark.parametrize("tied", [True, False])
def test_the_model_is_the_one_that_was_written(tmp_path: Path, tied: bool) -> None:
    model = tiny_llama(tie_word_embeddings=tied, rope_theta=5e4)
    write_gguf(tmp_path / "x.gguf", model)
    converted = read_gguf(tmp_path / "x.gguf")
    assert converted.config["tie_word_embeddings"] is tied
    assert (converted.licence, converted.object[:17]) == ("mit", "Tiny: not rounded")
    assert converted.parameters == sum(parameter.numel() for parameter in model.parameters())
    torch.testing.assert_close(logits(as_module(converted), some_ids()), logits(model, some_ids()), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("kind", "bits"), [("F16", 16), ("BF16", 16), ("Q8_0", 8), ("Q5_0", 5), ("Q5_1", 5), ("Q4_0", 4), ("Q4_1", 4)])
def test_quantised_matrices_are_what_gguf_says(tmp_path: Path, kind: str, bits: int) -> None:
    model = tiny_llama()
    write_gguf(tmp_path / "x.gguf", model, kind)
    converted = read_gguf(tmp_path / "x.gguf")
    type_ = GGMLQuantizationType[kind]
    wanted = dequantize(quantize(gguf_arrays(model)["blk.1.ffn_up.weight"], type_), type_)
    np.testing.assert_array_equal(converted.tensors["model.layers.1.mlp.up_proj.weight"].numpy(), wanted)
    assert f"{bits}-bit-rounded" in converted.object and kind in converted.object


@pytest.mark.parametrize("kind", ["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"])
def test_blocks_of_256_are_read(tmp_path: Path, kind: str) -> None:
    sizes = {"hidden_size": 256, "intermediate_size": 256, "num_hidden_layers": 1, "vocab_size": 8}
    write_gguf(tmp_path / "x.gguf", tiny_llama(**sizes), kind)
    assert not bool(read_gguf(tmp_path / "x.gguf").tensors["model.layers.0.mlp.up_proj.weight"].any())


def test_the_tokenizer_keeps_digits_apart(tmp_path: Path) -> None:
    words = byte_level_bpe(300)
    write_gguf(tmp_path / "x.gguf", tiny_llama(vocab_size=300), words=words, **{"tokenizer.chat_template": "{{ messages }}"})
    tokenizer = read_gguf(tmp_path / "x.gguf").tokenizer
    assert tokenizer is not None
    assert tokenizer.chat_template == "{{ messages }}"
    assert (tokenizer.bos_token, tokenizer.eos_token_id, tokenizer.pad_token_id) == ("<bos>", 2, None)
    for text in TEXTS:
        ids = tokenizer(text)["input_ids"]
        assert ids == words.encode(text).ids
        assert tokenizer.decode(ids) == text


def test_a_beginning_is_put_where_the_file_says_so(tmp_path: Path) -> None:
    write_gguf(tmp_path / "x.gguf", tiny_llama(vocab_size=300), words=byte_level_bpe(300), **{"tokenizer.ggml.add_bos_token": True})
    tokenizer = read_gguf(tmp_path / "x.gguf").tokenizer
    assert tokenizer is not None
    assert tokenizer("the")["input_ids"][0] == tokenizer.bos_token_id == 1
    assert tokenizer("the", add_special_tokens=False)["input_ids"][0] != 1


@pytest.mark.parametrize(
    ("fields", "reason"),
    [({"tokenizer.ggml.pre": "deepseek"}, "splits words as 'deepseek'"), ({"tokenizer.ggml.model": "llama"}, "of the kind 'llama'")],
)
def test_a_tokenizer_that_is_not_known_is_left_out_and_said_to_be(tmp_path: Path, fields: dict[str, str], reason: str) -> None:
    write_gguf(tmp_path / "x.gguf", tiny_llama(vocab_size=300), words=byte_level_bpe(300), **fields)
    converted = read_gguf(tmp_path / "x.gguf")
    assert converted.tokenizer is None
    assert converted.no_tokenizer is not None and reason in converted.no_tokenizer and "tokenizer.json" in converted.no_tokenizer


@pytest.mark.parametrize("pre", ["gpt-2", "llama-bpe"])
def test_other_splits_of_words(tmp_path: Path, pre: str) -> None:
    write_gguf(tmp_path / "x.gguf", tiny_llama(vocab_size=300), words=byte_level_bpe(300), **{"tokenizer.ggml.pre": pre})
    tokenizer, why_not = read_tokenizer(GGUFReader(tmp_path / "x.gguf"))
    assert tokenizer is not None and why_not is None
    assert all(tokenizer.decode(tokenizer(text)["input_ids"]) == text for text in TEXTS)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"llama.rope.scaling.type": "yarn"}, r"scales its rotary positions \(yarn\)"),
        ({"llama.expert_count": 8}, "has experts"),
        ({"llama.rope.dimension_count": 8}, "turns 8 of 16 coordinates"),
        ({"llama.embedding_length": None}, "does not say 'llama.embedding_length'"),
        ({"llama.feed_forward_length": 64}, r"mlp.gate_proj.weight' is \[96, 64\], where its sizes say \[64, 64\]"),
        ({"llama.block_count": 3}, "has no tensor for 'model.layers.2"),
        ({"more": "rope_freqs.weight"}, "has the tensor 'rope_freqs.weight', which a plain Llama does not have"),
        ({"more": "blk.0.attn_q.bias"}, "has the tensor 'blk.0.attn_q.bias'"),
        ({"llama.block_count": 1}, "does not have: 'model.layers.1"),
    ],
)
def test_what_a_plain_llama_has_not(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    write_gguf(tmp_path / "x.gguf", tiny_llama(), **fields)
    with pytest.raises(UserError, match=message):
        read_gguf(tmp_path / "x.gguf")


def test_other_architectures_and_damaged_files(tmp_path: Path) -> None:
    write_gguf(tmp_path / "x.gguf", tiny_llama(), architecture="qwen2")
    with pytest.raises(UserError, match="'qwen2'. Allowed in GGUF: 'llama'"):
        read_gguf(tmp_path / "x.gguf")
    write_gguf(tmp_path / "y.gguf", tiny_llama())
    whole = (tmp_path / "y.gguf").read_bytes()
    for part in (whole[:9], whole[: len(whole) // 2], b"GGUX" + whole[4:], b""):
        (tmp_path / "y.gguf").write_bytes(part)
        with pytest.raises(UserError, match="not a whole GGUF file"):
            read_gguf(tmp_path / "y.gguf")
    with pytest.raises(UserError, match="There is no file"):
        read_gguf(tmp_path / "z.gguf")


def test_types_that_cannot_be_read_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from unbraid.targets.models import gguf_file

    write_gguf(tmp_path / "x.gguf", tiny_llama(), "Q4_1")
    monkeypatch.delitem(gguf_file.BITS, "Q4_1")
    with pytest.raises(UserError, match=r"is quantised as Q4_1\. Allowed: F32, F16"):
        read_gguf(tmp_path / "x.gguf")


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    model = tiny_llama()
    with torch.no_grad():
        model.get_parameter("model.norm.weight")[3] = float("nan")
    write_gguf(tmp_path / "x.gguf", model)
    with pytest.raises(UserError, match="'model.norm.weight' holds NaN"):
        read_gguf(tmp_path / "x.gguf")
