"""On which language model is the step timed? Two layers, d = 128, four heads, MLP 512, 1,000 tokens, windows of 64: the size at which the
published plain reference was measured. Its twelve matrices are the sites; its weights are drawn, since a step costs the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from unbraid.decompose.config import DecomposeConfig
from unbraid.targets.target import Target

VOCABULARY, WINDOW, BATCH = 1000, 64, 16
SITES = ("blocks.*.q", "blocks.*.k", "blocks.*.v", "blocks.*.o", "blocks.*.up", "blocks.*.down")


class Block(nn.Module):
    """Causal attention and an MLP, each behind a norm and added to the stream."""

    def __init__(self, d: int, n_heads: int, d_mlp: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.norm_1, self.norm_2, self.gelu = nn.RMSNorm(d), nn.RMSNorm(d), nn.GELU()
        self.q, self.k, self.v, self.o = (nn.Linear(d, d, bias=False) for _ in range(4))
        self.up, self.down = nn.Linear(d, d_mlp, bias=False), nn.Linear(d_mlp, d, bias=False)

    def forward(self, stream: Float[Tensor, "batch pos d"]) -> Float[Tensor, "batch pos d"]:
        """Return the stream after the block."""
        x = self.norm_1(stream)
        q, k, v = (site(x).unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for site in (self.q, self.k, self.v))
        stream = stream + self.o(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))
        return stream + self.down(self.gelu(self.up(self.norm_2(stream))))


class SmallLM(nn.Module):
    """A decoder that answers every position with logits."""

    def __init__(self, d: int = 128, n_layers: int = 2, n_heads: int = 4, d_mlp: int = 512, vocabulary: int = VOCABULARY) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(vocabulary, d), nn.Parameter(torch.randn(WINDOW, d))
        self.blocks = nn.Sequential(*(Block(d, n_heads, d_mlp) for _ in range(n_layers)))
        self.norm, self.unembed = nn.RMSNorm(d), nn.Linear(d, vocabulary, bias=False)

    def forward(self, tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch pos vocabulary"]:
        """Return the logits of each next token."""
        return self.unembed(self.norm(self.blocks(self.embed(tokens) + self.place[: tokens.shape[1]])))


def small_target(device: str = "cpu", **sizes: int) -> Target:
    """Return the model with weights drawn from seed 0, reading random windows."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = SmallLM(**sizes).to(device)
    vocabulary = module.embed.num_embeddings

    def windows(size: int, generator: torch.Generator) -> Tensor:
        return torch.randint(vocabulary, (size, WINDOW), generator=generator, device=generator.device)

    return Target(module, sites=SITES, data=windows, behaviour="kl", name="small-lm")


def small_config(importance: Mapping[str, Any], **changes: Any) -> DecomposeConfig:
    """Return the adversarial recipe for language models with C = 128, without a warm-up."""
    group = {"learning_rate": 5e-5, "final_share": 0.1}
    return DecomposeConfig.parse(
        {
            "steps": 10_000,
            "batch_size": BATCH,
            "components": 128,
            "warmup": {"steps": 0},
            "importance": dict(importance),
            "losses": {
                "faithfulness": {"coefficient": 1e7},
                "stochastic": {"coefficient": 0.5, "routing": "subset"},
                "persistent-adversarial": {"coefficient": 0.5, "scope": "bsc", "ascent_steps": 2},
                "minimality": {"coefficient": 2e-4},
            },
            "optimizer": {"factors": {**group, "clip": 0.01}, "importance": group},
            "log_every_steps": 1_000_000,
            "save_every_steps": 1_000_000,
            **changes,
        }
    )
