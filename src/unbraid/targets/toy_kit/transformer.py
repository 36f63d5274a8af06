"""How does a small decoder compute? Token embedding, attention with separate q, k, v and o, optional MLPs, no normalisation, unembedding.

Every matrix is an `nn.Linear` without bias of its own name (`blocks.0.q`, …, `blocks.0.mlp_out`), so each of them can be a site.
Heads are equal slices of the output of q, k and v and of the input of o.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from unbraid.core.errors import UserError

Positions = Literal["none", "learned", "sinusoidal"]
"""No positions; a learned vector added to the stream; or sinusoids added to what q and k read, which never enter the stream."""


class Block(nn.Module):
    """Attention, then an optional MLP, each added to the stream.

    Args:
        d_model: Width of the stream.
        n_heads: Heads, each of width `d_model / n_heads`.
        d_mlp: Neurons; 0 for no MLP.
    """

    def __init__(self, d_model: int, n_heads: int, d_mlp: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.q = nn.Linear(d_model, d_model, bias=False)
        self.k = nn.Linear(d_model, d_model, bias=False)
        self.v = nn.Linear(d_model, d_model, bias=False)
        self.o = nn.Linear(d_model, d_model, bias=False)
        if d_mlp > 0:
            self.mlp_in = nn.Linear(d_model, d_mlp, bias=False)
            self.relu = nn.ReLU()
            self.mlp_out = nn.Linear(d_mlp, d_model, bias=False)

    def pattern(
        self, stream: Float[Tensor, "batch pos d_model"], where: Float[Tensor, "pos d_model"] | None, read: slice
    ) -> Float[Tensor, "batch n_heads read pos"]:
        """Return how much each position of `read` attends to each earlier one and itself.

        Args:
            stream: What the block reads.
            where: Added to what q and k read.
            read: The positions that ask.
        """
        located = stream if where is None else stream + where
        q, k = (heads(x, self.n_heads) for x in (self.q(located[:, read]), self.k(located)))
        scores = q @ k.mT / math.sqrt(q.shape[-1])
        n = stream.shape[1]
        later = torch.ones(n, n, dtype=torch.bool, device=stream.device).triu(1)[read]
        return scores.masked_fill(later, -torch.inf).softmax(dim=-1)

    def attended(
        self, stream: Float[Tensor, "batch pos d_model"], pattern: Float[Tensor, "batch n_heads read pos"]
    ) -> Float[Tensor, "batch read d_model"]:
        """Return what attention adds to the stream under a pattern."""
        moved = pattern @ heads(self.v(stream), self.n_heads)
        return self.o(moved.transpose(1, 2).flatten(2))

    def neurons(self, stream: Float[Tensor, "batch read d_model"]) -> Float[Tensor, "batch read d_mlp"]:
        """Return the MLP's activations."""
        return self.relu(self.mlp_in(stream))

    def forward(
        self,
        stream: Float[Tensor, "batch pos d_model"],
        where: Float[Tensor, "pos d_model"] | None = None,
        read: slice = slice(None),
        pattern: Float[Tensor, "batch n_heads read pos"] | None = None,
    ) -> Float[Tensor, "batch read d_model"]:
        """Return the stream after the block, at the positions of `read`; `pattern` takes the place of the block's own."""
        pattern = self.pattern(stream, where, read) if pattern is None else pattern
        after = stream[:, read] + self.attended(stream, pattern)
        return after + self.mlp_out(self.neurons(after)) if hasattr(self, "mlp_in") else after


def heads(x: Float[Tensor, "batch pos d_model"], n_heads: int) -> Float[Tensor, "batch n_heads pos d_head"]:
    """Cut the last axis into heads."""
    return x.unflatten(-1, (n_heads, -1)).transpose(1, 2)


class Decoder(nn.Module):
    """A decoder that answers at the last position.

    Args:
        d_vocab: Tokens that can be read.
        n_positions: Longest sequence.
        d_model: Width of the stream.
        n_layers: Blocks.
        n_heads: Heads per block; divides `d_model`.
        d_mlp: Neurons per block; 0 for attention alone.
        d_out: Answers that can be given; None for one per token.
        positions: Where positions come in; see `Positions`.
        trimmed: Compute q, o and the MLP of the last block at the last position only, which is all that the answer depends on.
            Sites then see different positions, so that a decomposition of q or o beside k or v cannot use `routing: subset`.

    Raises:
        UserError: The heads do not divide the width.
    """

    sinusoids: Tensor | None

    def __init__(
        self,
        d_vocab: int,
        n_positions: int,
        d_model: int,
        n_layers: int,
        n_heads: int = 1,
        d_mlp: int = 0,
        d_out: int | None = None,
        positions: Positions = "learned",
        trimmed: bool = False,
    ) -> None:
        super().__init__()
        if d_model % n_heads:
            raise UserError(f"{n_heads} heads do not divide a stream of width {d_model}.", "Choose a width that is a multiple of them.")
        self.trimmed = trimmed
        self.embed = nn.Embedding(d_vocab, d_model)
        self.place = nn.Embedding(n_positions, d_model) if positions == "learned" else None
        self.register_buffer("sinusoids", sinusoids(n_positions, d_model) if positions == "sinusoidal" else None, persistent=False)
        self.blocks = nn.ModuleList([Block(d_model, n_heads, d_mlp) for _ in range(n_layers)])
        self.unembed = nn.Linear(d_model, d_vocab if d_out is None else d_out, bias=False)

    def start(self, tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch pos d_model"]:
        """Return the stream before the first block."""
        return self.embed(tokens) if self.place is None else self.embed(tokens) + self.place.weight[: tokens.shape[1]]

    def forward(
        self, tokens: Int[Tensor, "batch pos"], patterns: Mapping[int, Float[Tensor, "batch n_heads read pos"]] | None = None
    ) -> Float[Tensor, "batch d_out"]:
        """Return the logits at the last position; `patterns` replaces the attention of some blocks, by their number."""
        return self.unembed(self.streams(tokens, patterns)[-1][:, -1])

    def streams(
        self, tokens: Int[Tensor, "batch pos"], patterns: Mapping[int, Float[Tensor, "batch n_heads read pos"]] | None = None
    ) -> list[Float[Tensor, "batch _ d_model"]]:
        """Return the stream before the first block and after each; trimmed, the last one has the last position alone."""
        found = [self.start(tokens)]
        for index, block in enumerate(self._blocks()):
            found.append(block(found[-1], self._where(tokens), self._read(index), (patterns or {}).get(index)))
        return found

    def attention(self, tokens: Int[Tensor, "batch pos"]) -> list[Float[Tensor, "batch n_heads _ pos"]]:
        """Return every block's attention pattern."""
        streams = self.streams(tokens)
        where = self._where(tokens)
        return [block.pattern(stream, where, self._read(i)) for i, (block, stream) in enumerate(zip(self._blocks(), streams, strict=False))]

    def _blocks(self) -> list[Block]:
        return [block for block in self.blocks if isinstance(block, Block)]

    def _where(self, tokens: Tensor) -> Tensor | None:
        return None if self.sinusoids is None else self.sinusoids[: tokens.shape[1]]

    def _read(self, index: int) -> slice:
        return slice(-1, None) if self.trimmed and index == len(self.blocks) - 1 else slice(None)


def sinusoids(n_positions: int, d_model: int) -> Float[Tensor, "n_positions d_model"]:
    """Return sines and cosines of positions at wavelengths from 2π to 2π · 10,000 (Vaswani et al. 2017)."""
    rates = 10_000 ** (-torch.arange(0, d_model, 2) / d_model)
    angles = torch.arange(n_positions)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, :d_model]


def uniform_attention(pattern: Float[Tensor, "batch n_heads read pos"]) -> Float[Tensor, "batch n_heads read pos"]:
    """Return the pattern that attends alike to all positions that this one may attend to: attention that has learned nothing."""
    read, n = pattern.shape[-2:]
    allowed = torch.ones_like(pattern).tril(n - read)
    return F.normalize(allowed, p=1, dim=-1)
