"""Tiny language models of each layout, and files in the formats that models come in."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import quantize
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    FalconConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MptConfig,
    Phi3Config,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
    StableLmConfig,
)

from unbraid.targets.models.catalogue import MODELS, KnownModel
from unbraid.targets.models.rotary import pairs_from_halves

D, LAYERS, VOCABULARY = 16, 2, 96
_SIZES: dict[str, Any] = {
    "hidden_size": D,
    "intermediate_size": 24,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 32,
    "initializer_range": 0.3,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_GPT = {
    "bos_token_id": 1,
    "eos_token_id": 2,
    "n_embd": D,
    "n_layer": LAYERS,
    "n_head": 4,
    "n_positions": 32,
    "vocab_size": VOCABULARY,
    "initializer_range": 0.3,
}
_NEOX = {key: value for key, value in _SIZES.items() if key != "num_key_value_heads"}
_GEMMA = {**_SIZES, "head_dim": 8, "sliding_window": 4}

CONFIGS: dict[str, Callable[[], Any]] = {
    "gpt2": lambda: GPT2Config(**_GPT),
    "llama": lambda: LlamaConfig(**_SIZES),
    "mistral": lambda: MistralConfig(**_SIZES, sliding_window=4),
    "gpt_neox": lambda: GPTNeoXConfig(**_NEOX, use_parallel_residual=True),
    "qwen2": lambda: Qwen2Config(**_SIZES),
    "qwen3": lambda: Qwen3Config(**_SIZES, head_dim=8, tie_word_embeddings=True),
    "gemma2": lambda: Gemma2Config(**_GEMMA),
    "gemma3": lambda: Gemma3TextConfig(**_GEMMA),
    "phi3": lambda: Phi3Config(**_SIZES),
    "bloom": lambda: BloomConfig(hidden_size=D, n_layer=LAYERS, n_head=4, vocab_size=VOCABULARY, initializer_range=0.3),
    "mpt": lambda: MptConfig(d_model=D, n_layers=LAYERS, n_heads=4, vocab_size=VOCABULARY, initializer_range=0.3, max_seq_len=32),
    # Families of which unbraid knows nothing: one like others, one with a fused matrix in an order of its own.
    "stablelm": lambda: StableLmConfig(**_SIZES),
    "falcon": lambda: FalconConfig(**_NEOX, parallel_attn=True, multi_query=True, alibi=False),
}


def tiny_model(family: str) -> PreTrainedModel:
    """Return a random model of a family; norms and biases are random too, so that none of them can be lost unseen."""
    model = AutoModelForCausalLM.from_config(CONFIGS[family](), attn_implementation="eager")
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
    model.config.use_cache = False
    return model.eval().requires_grad_(False)


def some_ids(batch: int = 3, length: int = 9) -> torch.Tensor:
    return torch.randint(3, VOCABULARY, (batch, length), generator=torch.Generator().manual_seed(1))


def logits(model: nn.Module, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=ids).logits


def tiny_llama(**sizes: Any) -> LlamaForCausalLM:
    """Return a Llama whose rows fill the blocks of every simple quantisation."""
    config = LlamaConfig(**{**_SIZES, "hidden_size": 64, "intermediate_size": 96, "tie_word_embeddings": True, **sizes})
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval().requires_grad_(False)


def byte_level_bpe(size: int, special: tuple[str, ...] = ("<unk>", "<bos>", "<eos>")) -> Tokenizer:
    """Train a byte-level BPE whose digits stand alone."""
    tokenizer = Tokenizer(models.BPE())
    digits = pre_tokenizers.Digits(individual_digits=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=list(special), initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(["the theory of the thing, 1. and\n\n2. it's there\n\n  then  he 42\n\n"] * 50, trainer)
    return tokenizer


_GGUF_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "embed_tokens": "token_embd",
    "norm": "output_norm",
    "lm_head": "output",
}


def gguf_arrays(model: LlamaForCausalLM) -> dict[str, np.ndarray]:
    """Return a Llama's tensors as llama.cpp keeps them."""
    heads = {"q_proj": model.config.num_attention_heads, "k_proj": model.config.num_key_value_heads}
    arrays: dict[str, np.ndarray] = {}
    for name, value in model.named_parameters():
        stem = name.removeprefix("model.").removesuffix(".weight")
        layer = stem.split(".")[1] if stem.startswith("layers.") else None
        kind = stem.split(".", 2)[2] if layer is not None else stem
        last = kind.split(".")[-1]
        turned = pairs_from_halves(value, heads[last]) if last in heads else value
        arrays[f"blk.{layer}.{_GGUF_NAMES[kind]}.weight" if layer is not None else f"{_GGUF_NAMES[kind]}.weight"] = turned.numpy()
    return arrays


def write_gguf(
    path: Path,
    model: LlamaForCausalLM,
    kind: str = "F32",
    words: Tokenizer | None = None,
    architecture: str = "llama",
    more: str = "",
    **fields: Any,
) -> None:
    """Write a Llama as GGUF with its matrices quantised; `more` names one more tensor, `fields` are put over the usual ones."""
    config = model.config
    writer = GGUFWriter(path, architecture)
    usual: dict[str, Any] = {
        "general.name": "Tiny",
        "general.license": "mit",
        f"{architecture}.block_count": config.num_hidden_layers,
        f"{architecture}.context_length": config.max_position_embeddings,
        f"{architecture}.embedding_length": config.hidden_size,
        f"{architecture}.feed_forward_length": config.intermediate_size,
        f"{architecture}.attention.head_count": config.num_attention_heads,
        f"{architecture}.attention.head_count_kv": config.num_key_value_heads,
        f"{architecture}.attention.layer_norm_rms_epsilon": float(config.rms_norm_eps),
        f"{architecture}.rope.freq_base": float(config.rope_parameters["rope_theta"]),
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
    }
    if words is not None:
        vocabulary = words.get_vocab()
        tokens = sorted(vocabulary, key=lambda token: vocabulary[token])
        special = ("<unk>", "<bos>", "<eos>")
        usual["tokenizer.ggml.tokens"] = tokens
        usual["tokenizer.ggml.token_type"] = [3 if token in special else 1 for token in tokens]
        usual["tokenizer.ggml.merges"] = [" ".join(merge) for merge in json.loads(words.to_str())["model"]["merges"]]
        usual |= {f"tokenizer.ggml.{name}_token_id": number for number, name in enumerate(("unknown", "bos", "eos"))}
    else:
        usual["tokenizer.ggml.model"] = "none"
    for key, value in {**usual, **fields}.items():
        _add(writer, key, value)
    for name, array in gguf_arrays(model).items():
        type_ = GGMLQuantizationType[kind if array.ndim == 2 else "F32"]
        data = quantize(array, type_) if not kind.endswith("_K") or array.ndim == 1 else _empty(array, type_)
        writer.add_tensor(name, data, raw_dtype=type_)
    if more:
        writer.add_tensor(more, np.ones(4, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _empty(array: np.ndarray, type_: GGMLQuantizationType) -> np.ndarray:
    """Return blocks of zeros of a kind that the gguf package reads but does not write."""
    from gguf.quants import quant_shape_to_byte_shape

    return np.zeros(quant_shape_to_byte_shape(array.shape, type_), np.uint8)


def _add(writer: GGUFWriter, key: str, value: Any) -> None:
    if value is None:
        return
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)


GLASS_MERGES = [["▁", "t"], ["h", "e"], ["▁t", "he"], ["\n", "\n"], ["▁", "▁"], ["▁▁", "t"]]
GLASS_ALPHABET = ["\n", "a", "e", "h", "t", "▁", "é"]
_GLASS_NAMES = {
    "input_layernorm": "norm1.gamma",
    "self_attn.q_proj": "attn.W_Q",
    "self_attn.k_proj": "attn.W_K",
    "self_attn.v_proj": "attn.W_V",
    "self_attn.o_proj": "attn.W_O",
    "post_attention_layernorm": "norm2.gamma",
    "mlp.gate_proj": "ffn.W1",
    "mlp.up_proj": "ffn.W3",
    "mlp.down_proj": "ffn.W2",
    "embed_tokens": "E",
    "norm": "norm_f.gamma",
}


def write_glassllm(folder: Path, dtype: type = np.float32) -> LlamaForCausalLM:
    """Write en.npz and en.tokenizer.json as the package glassllm keeps them; return the Llama that they hold."""
    n_tokens = 4 + len(GLASS_ALPHABET) + len(GLASS_MERGES)
    model = tiny_llama(vocab_size=n_tokens, rms_norm_eps=1e-6)
    heads = {"q_proj": 4, "k_proj": 2}
    arrays: dict[str, Any] = {}
    for name, value in model.named_parameters():
        stem = name.removeprefix("model.").removesuffix(".weight")
        layer = stem.split(".")[1] if stem.startswith("layers.") else None
        kind = stem.split(".", 2)[2] if layer is not None else stem
        last = kind.split(".")[-1]
        turned = pairs_from_halves(value, heads[last]) if last in heads else value
        stored = turned if value.ndim == 1 or kind == "embed_tokens" else turned.T
        arrays[f"blocks.{layer}.{_GLASS_NAMES[kind]}" if layer is not None else _GLASS_NAMES[kind]] = stored.numpy().astype(dtype)
    sizes = {"vocab_size": n_tokens, "d_model": 64, "n_layers": LAYERS, "n_heads": 4, "n_kv_heads": 2, "max_len": 32}
    told = json.dumps({**sizes, "rope_base": 10000.0, "eps": 1e-6})
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / "en.npz", __config__=np.array(told), **arrays)
    words = {"version": 1, "alphabet": GLASS_ALPHABET, "merges": GLASS_MERGES}
    (folder / "en.tokenizer.json").write_text(json.dumps(words), encoding="utf-8")
    return model


def pack_wheel(wheel: Path, **files: Path) -> Path:
    """Write a wheel whose members, with `__` for `/`, are these files."""
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, path in files.items():
            archive.write(path, name)
    return wheel


def make_known(monkeypatch: pytest.MonkeyPatch, name: str, weights: Path) -> KnownModel:
    """Let a known model's name mean this file of weights for the length of a test."""
    from unbraid.core.storage import file_hash

    model = replace(MODELS[name], sha256=file_hash(weights))
    monkeypatch.setitem(MODELS, name, model)
    return model


def save_folder(folder: Path, family: str = "llama") -> PreTrainedModel:
    """Write a tiny model with a tokenizer as transformers does."""
    model = tiny_model(family)
    model.save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=byte_level_bpe(300), bos_token="<bos>").save_pretrained(folder)
    return model
