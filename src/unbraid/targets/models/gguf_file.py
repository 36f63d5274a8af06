"""What is in a GGUF file of the llama architecture? Its sizes and its tensors, dequantised, under transformers' names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from unbraid.core.errors import UserError
from unbraid.targets.models.converted import Converted, check_tensors
from unbraid.targets.models.gguf_tokenizer import read_tokenizer
from unbraid.targets.models.optional import require
from unbraid.targets.models.rotary import halves_from_pairs

if TYPE_CHECKING:
    from gguf import GGUFReader, ReaderTensor

# Types that gguf itself turns into numbers, with the bits per weight that rounding left. The rest (IQ…, TQ…) are lookup formats.
BITS = {
    "F32": 32,
    "F16": 16,
    "BF16": 16,
    "Q8_0": 8,
    "Q6_K": 6,
    "Q5_0": 5,
    "Q5_1": 5,
    "Q5_K": 5,
    "Q4_0": 4,
    "Q4_1": 4,
    "Q4_K": 4,
    "Q3_K": 3,
    "Q2_K": 2,
}

_AS_FOLDER = "Take this model as a folder of config.json and safetensors."
_TOP = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_IN_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def read_gguf(path: Path) -> Converted:
    """Read a GGUF file of the llama architecture.

    Raises:
        UserError: The file is damaged, of another architecture, has a feature that Llama in transformers lacks, or is quantised in a
            way that cannot be read.
    """
    require()
    reader = _open(path)
    fields = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("tokenizer.")}
    config = _sizes(fields, path, reader)
    tensors = {_name(tensor.name, path): _values(tensor, path) for tensor in reader.tensors}
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    for name, value in tensors.items():
        kind = name.split(".")[-2]
        if kind in heads and name.endswith("weight"):
            tensors[name] = halves_from_pairs(value, heads[kind])
    tokenizer, why_not = read_tokenizer(reader)
    ids = {} if tokenizer is None else {f"{kind}_token_id": getattr(tokenizer, f"{kind}_token_id") for kind in ("bos", "eos", "pad")}
    licence = fields.get("general.license")
    name = str(fields.get("general.name", path.stem))
    converted = Converted(config | ids, tensors, tokenizer, licence and str(licence), f"{name}: {_rounding(reader)}", why_not)
    return check_tensors(converted, str(path))


def _open(path: Path) -> GGUFReader:
    from gguf import GGUFReader

    if not path.is_file():
        raise UserError(f"There is no file {str(path)!r}.", "Check the path.")
    try:
        return GGUFReader(path)
    except (ValueError, IndexError, KeyError, OverflowError, UnicodeDecodeError) as error:
        raise UserError(f"{str(path)!r} is not a whole GGUF file ({error}).", "Take it from a copy, or download it again.") from None


def _sizes(fields: Mapping[str, Any], path: Path, reader: GGUFReader) -> dict[str, Any]:
    """Return the arguments of `LlamaConfig`."""
    architecture = fields.get("general.architecture")
    if architecture != "llama":
        raise UserError(f"{str(path)!r} is of the architecture {architecture!r}.", f"Allowed in GGUF: 'llama'. {_AS_FOLDER}")
    scaling = fields.get("llama.rope.scaling.type", "none")
    if scaling != "none" or int(fields.get("llama.expert_count", 0)):
        what = f"scales its rotary positions ({scaling})" if scaling != "none" else "has experts"
        raise UserError(f"{str(path)!r} {what}, which is not read from GGUF files.", _AS_FOLDER)
    try:
        d, heads = int(fields["llama.embedding_length"]), int(fields["llama.attention.head_count"])
        kv = int(fields.get("llama.attention.head_count_kv", heads))
        embedding = next(tensor for tensor in reader.tensors if tensor.name == "token_embd.weight")
        sizes = {
            "hidden_size": d,
            "intermediate_size": int(fields["llama.feed_forward_length"]),
            "num_hidden_layers": int(fields["llama.block_count"]),
            "num_attention_heads": heads,
            "num_key_value_heads": kv,
            "head_dim": int(fields.get("llama.attention.key_length", d // heads)),
            "max_position_embeddings": int(fields["llama.context_length"]),
            "rms_norm_eps": _decimal(fields["llama.attention.layer_norm_rms_epsilon"]),
            "rope_theta": float(fields.get("llama.rope.freq_base", 10_000.0)),
            "vocab_size": int(embedding.shape[-1]),
            "tie_word_embeddings": all(tensor.name != "output.weight" for tensor in reader.tensors),
        }
    except (KeyError, StopIteration, TypeError) as error:
        raise UserError(
            f"{str(path)!r} does not say {error or 'its embedding'}.", "Make the file again with llama.cpp's converter."
        ) from None
    turned = int(fields.get("llama.rope.dimension_count", sizes["head_dim"]))
    if turned != sizes["head_dim"]:
        raise UserError(f"{str(path)!r} turns {turned} of {sizes['head_dim']} coordinates of a head.", _AS_FOLDER)
    return sizes


def _decimal(value: float) -> float:
    """Return the short decimal that a float32 of the file was written from, such as 1e-05 for 9.999999747378752e-06."""
    return float(f"{value:.7g}")


def _name(name: str, path: Path) -> str:
    """Return transformers' name of a tensor."""
    if name in _TOP:
        return _TOP[name]
    match = re.fullmatch(r"blk\.(\d+)\.(\w+)\.weight", name)
    if match is None or match[2] not in _IN_LAYER:
        raise UserError(f"{str(path)!r} has the tensor {name!r}, which a plain Llama does not have.", _AS_FOLDER)
    return f"model.layers.{match[1]}.{_IN_LAYER[match[2]]}.weight"


def _values(tensor: ReaderTensor, path: Path) -> Tensor:
    from gguf.quants import dequantize

    kind = tensor.tensor_type.name
    if kind not in BITS:
        raise UserError(f"{str(path)!r}: {tensor.name!r} is quantised as {kind}.", f"Allowed: {', '.join(BITS)}.")
    values = dequantize(tensor.data, tensor.tensor_type)
    return torch.tensor(values, dtype=torch.float32)  # a copy: the file is mapped into memory and may be closed


def _rounding(reader: GGUFReader) -> str:
    """Say how far the weights were rounded, by the coarsest type."""
    kinds = Counter(tensor.tensor_type.name for tensor in reader.tensors)
    bits = min(BITS[kind] for kind in kinds)
    each = ", ".join(f"{count} × {kind}" for kind, count in kinds.most_common())
    return f"not rounded ({each})" if bits == 32 else f"{bits}-bit-rounded ({each} tensors), written out in fp32"
