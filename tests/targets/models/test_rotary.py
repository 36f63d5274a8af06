"""Is a matrix whose neighbouring coordinates turn together the same attention after it was reordered?"""

from __future__ import annotations

import numpy as np
import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

from unbraid.targets.models.rotary import halves_from_pairs, pairs_from_halves

HEADS, WIDTH, D, LENGTH = 3, 8, 5, 7


def turned_in_pairs(vectors: torch.Tensor, theta: float) -> torch.Tensor:
    """Turn coordinates (0, 1), (2, 3), … of [heads, positions, width], as complex numbers."""
    angles = torch.outer(torch.arange(LENGTH), theta ** (-torch.arange(0, WIDTH, 2) / WIDTH))
    numbers = torch.view_as_complex(vectors.reshape(HEADS, LENGTH, WIDTH // 2, 2).contiguous())
    return torch.view_as_real(numbers * torch.polar(torch.ones_like(angles), angles)).flatten(-2)


def test_scores_are_the_same() -> None:
    q, k = torch.randn(HEADS * WIDTH, D), torch.randn(HEADS * WIDTH, D)
    x = torch.randn(LENGTH, D)

    def heads(weight: torch.Tensor) -> torch.Tensor:
        return (x @ weight.T).view(LENGTH, HEADS, WIDTH).transpose(0, 1)

    wanted = turned_in_pairs(heads(q), 1e4) @ turned_in_pairs(heads(k), 1e4).transpose(1, 2)
    config = LlamaConfig(hidden_size=HEADS * WIDTH, num_attention_heads=HEADS, rope_theta=1e4)
    cos, sin = LlamaRotaryEmbedding(config)(x, torch.arange(LENGTH)[None])
    queries, keys = heads(halves_from_pairs(q, HEADS))[None], heads(halves_from_pairs(k, HEADS))[None]
    found_q, found_k = apply_rotary_pos_emb(queries, keys, cos, sin)
    torch.testing.assert_close(found_q[0] @ found_k[0].transpose(1, 2), wanted, rtol=1e-4, atol=1e-4)


def test_it_undoes_what_llama_cpp_does() -> None:
    weight = torch.randn(HEADS * WIDTH, D)
    array = weight.numpy().reshape(HEADS, 2, WIDTH // 2, D)
    permuted = torch.tensor(np.swapaxes(array, 1, 2).reshape(HEADS * WIDTH, D).copy())
    torch.testing.assert_close(pairs_from_halves(weight, HEADS), permuted, rtol=0, atol=0)
    torch.testing.assert_close(halves_from_pairs(permuted, HEADS), weight, rtol=0, atol=0)
