"""One transformer for all sites: what a subcomponent matters for may depend on every layer and on other positions.

The normalised inputs of the sites are read into one stream per position, a few pre-norm blocks mix them over positions, and a linear head gives the logits of
every subcomponent of every site. Source: "Interpreting Language Model Parameters" (2026), global causal-importance function.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from unbraid.core.errors import UserError
from unbraid.decompose.importance_function import MLP, ImportanceConfig, ImportanceFunction, SiteShape, importance_functions, kaiming, zeros
from unbraid.decompose.norm import normed_columns, rms_norm
from unbraid.decompose.products import times
from unbraid.decompose.site_choice import choose_sites

_ROTARY_BASE = 10_000.0


@importance_functions.register
class SharedTransformerConfig(ImportanceConfig):
    """A transformer that sees all sites and all positions."""

    kind: Literal["shared-transformer"] = "shared-transformer"
    d_model: PositiveInt = 128
    """Width of its stream; best above that of the target."""
    layers: PositiveInt = 2
    """Blocks; from half to twice as many as the target has."""
    heads: PositiveInt = 4
    """Attention heads per block."""
    hidden: PositiveInt | None = None
    """Hidden width of a block's MLP; null for four times d_model."""
    causal: bool = False
    """Whether a position sees only itself and earlier ones. The published one sees later ones too."""
    reads: str | tuple[str, ...] = "*"
    """Globs of the sites whose inputs are read. Queries, keys and values read the same, so that one of the three is enough."""
    chunks: PositiveInt = 1
    """Into how many runs of sites, in the model's order, the logits are divided; each has a transformer of its own, which reads all inputs."""

    @model_validator(mode="after")
    def _check_heads(self) -> SharedTransformerConfig:
        if self.d_model % (2 * self.heads):
            raise ValueError(f"d_model {self.d_model} is not a multiple of twice the {self.heads} heads, as rotary attention needs")
        return self

    def build(self, sites: Mapping[str, SiteShape], generator: torch.Generator) -> ImportanceFunction:
        """Return the function with freshly drawn weights."""
        return SharedTransformer(self, sites, generator)


class SharedTransformer(ImportanceFunction):
    """All logits from all inputs at all positions."""

    def __init__(self, config: SharedTransformerConfig, sites: Mapping[str, SiteShape], generator: torch.Generator) -> None:
        super().__init__()
        self.reads = choose_sites(list(sites), config.reads)
        paths, count = list(sites), min(config.chunks, len(sites))
        self.runs = [paths[index * len(paths) // count : (index + 1) * len(paths) // count] for index in range(count)]
        widths = [sites[path].d_in for path in self.reads]
        sizes = [[sites[path].C for path in run] for run in self.runs]
        self.chunks = nn.ModuleList(Chunk(config, widths, out, generator) for out in sizes)

    def forward(self, inputs: Mapping[str, Tensor], activations: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return each site's logits; inputs without positions are sequences of one.

        Raises:
            UserError: The sites see inputs of different leading shapes, or ones that are neither [batch, pos, width] nor [batch, width].
        """
        leads = {tuple(inputs[path].shape[:-1]) for path in (*self.reads, *(path for run in self.runs for path in run))}
        lead = next(iter(leads))
        if len(leads) > 1 or len(lead) not in (1, 2):
            raise UserError(
                "The importance function 'shared-transformer' needs sites that see the same positions of a sequence.",
                "Use importance.kind=layerwise-mlp.",
            )
        # Queries, keys and values see one tensor: it is normalised once, and read through the sum of their readers.
        seen = {id(inputs[path]): inputs[path] if len(lead) == 2 else inputs[path][:, None] for path in self.reads}
        which = [list(seen).index(id(inputs[path])) for path in self.reads]
        read, logits = normed_columns(list(seen.values())), dict[str, Tensor]()
        for run, chunk in zip(self.runs, self.chunks, strict=True):
            logits |= dict(zip(run, chunk(read, which), strict=True))
        return logits if len(lead) == 2 else {path: z[:, 0] for path, z in logits.items()}


class Chunk(nn.Module):
    """One transformer: the inputs [batch, pos, width] of some sites → the logits [batch, pos, C] of some sites."""

    def __init__(self, config: SharedTransformerConfig, widths: list[int], sizes: list[int], generator: torch.Generator) -> None:
        super().__init__()
        self.sizes = sizes
        d = config.d_model
        self.readers = nn.ParameterList([kaiming((width, d), sum(widths), generator, gain=1.0) for width in widths])
        self.blocks = nn.ModuleList(Block(d, config.heads, config.hidden or 4 * d, config.causal, generator) for _ in range(config.layers))
        self.W_out = kaiming((d, sum(sizes)), d, generator, gain=1.0)
        self.b_out = zeros(sum(sizes))

    def forward(self, read: Float[Tensor, "batch pos total"], which: list[int]) -> tuple[Float[Tensor, "batch pos _"], ...]:
        """Return the logits of each site.

        Args:
            read: The distinct inputs, normalised, side by side.
            which: For each reader, the number of the input that it reads.
        """
        shared = [[W for W, its in zip(self.readers, which, strict=True) if its == index] for index in range(max(which) + 1)]
        stream = times(read, torch.cat([reduce(torch.add, readers) for readers in shared]))
        cos, sin = rotary(stream.shape[1], self.blocks[0].d_head, stream.device)  # type: ignore[arg-type]
        for block in self.blocks:
            stream = block(stream, cos, sin)
        return times(rms_norm(stream), self.W_out, self.b_out).split(self.sizes, dim=-1)


class Block(nn.Module):
    """Attention with rotary positions and an MLP, each added to the stream and fed with its normalised value."""

    def __init__(self, d: int, heads: int, hidden: int, causal: bool, generator: torch.Generator) -> None:
        super().__init__()
        self.heads, self.d_head, self.causal = heads, d // heads, causal
        self.W_qkv = kaiming((d, 3 * d), d, generator, gain=1.0)
        self.W_o = kaiming((d, d), d, generator, gain=1.0)
        self.mlp = MLP(d, hidden, d, generator)

    def forward(
        self, stream: Float[Tensor, "batch pos d"], cos: Float[Tensor, "pos half"], sin: Float[Tensor, "pos half"]
    ) -> Float[Tensor, "batch pos d"]:
        """Return the stream after the block."""
        batch, pos, d = stream.shape
        qkv = times(rms_norm(stream), self.W_qkv).view(batch, pos, 3, self.heads, self.d_head).permute(2, 0, 3, 1, 4)
        turned, values = qkv.split([2, 1])
        queries, keys = rotate(turned, cos, sin).unbind()
        mixed = F.scaled_dot_product_attention(queries, keys, values[0], is_causal=self.causal)
        stream = stream + times(mixed.transpose(1, 2).reshape(batch, pos, d), self.W_o)
        return stream + self.mlp(rms_norm(stream))


def rotary(length: int, d_head: int, device: torch.device) -> tuple[Float[Tensor, "pos half"], Float[Tensor, "pos half"]]:
    """Return the cosines and sines by which each position turns the pairs of a head's coordinates (Su et al. 2021)."""
    frequencies = _ROTARY_BASE ** (-torch.arange(0, d_head, 2, device=device, dtype=torch.float32) / d_head)
    angles = torch.arange(length, device=device, dtype=torch.float32)[:, None] * frequencies
    return angles.cos(), angles.sin()


def rotate(
    x: Float[Tensor, "*lead pos d_head"], cos: Float[Tensor, "pos half"], sin: Float[Tensor, "pos half"]
) -> Float[Tensor, "*lead pos d_head"]:
    """Turn the i-th coordinate of each half by the angle of its position."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1).to(x.dtype)
