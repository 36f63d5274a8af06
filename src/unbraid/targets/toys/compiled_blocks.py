"""Compiled blocks: eight small networks written into one MLP, mixed by a weak coupling, in a basis that hides them.

Module k is `B_k relu(A_k x_k - θ)` with `d_in` inputs and `d_mlp` neurons. The reading matrix is the sum of the blocks plus a dense
random matrix of relative size `coupling`; hidden units are permuted; the stream can be rotated on both sides and the neurons rescaled,
which changes every weight and not the function. A graph of the weights sees the modules in the aligned basis only.

Why the knobs stand where they do. A neuron whose pre-activation is negative stays silent under any mask, since ablating its
piece leaves `-θ`; so its piece is needed where it fires, and only there. Then two things must be identifiable, and they pull apart:

- The pieces: with 4 inputs and 8 neurons that fire half of the time, 4 pieces in any basis of what the block reads cost as much as the neurons'
  own. With as many inputs as neurons, which fire on 0.4 of their module's inputs, a neuron's own basis costs 0.4 of any other (`checks` measures it).
- The modules: their neurons must fire together often enough. Grouping the planted firings themselves by description length (α = 1, both sites)
  gives an ARI of 1 here and up to θ = 0.4, but 0.3 at θ = 0.7, where each neuron fires on a quarter of its module's inputs.

So θ is 0.25. A mean in the inputs would make neurons fire together more often, but then one piece that reads the mean and writes all
neurons of the module is cheaper than any neuron's, and that is what training finds. Read and write vectors of a module are at right angles for a
like reason: of vectors drawn at random some are nearly opposite, and merge.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, cast

import torch
from pydantic import Field, NonNegativeFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from unbraid.core.seeds import Streams
from unbraid.targets.panel import Panel
from unbraid.targets.toy import Check, Phase, Toy, toys
from unbraid.targets.toy_kit.blocks import (
    BlocksModule,
    ModuleSparse,
    block_diagonal,
    neuron_pieces,
    orthogonal,
    relative_error,
    square_rows,
)
from unbraid.targets.toy_kit.feature_panel import feature_panel
from unbraid.targets.truth import Truth


@toys.register
class CompiledBlocks(Toy):
    """Modules `B_k relu(A_k x_k - θ)` written into one MLP."""

    kind: Literal["compiled-blocks"] = "compiled-blocks"
    modules: PositiveInt = 8
    """K, how many modules are planted."""
    d_in: PositiveInt = 8
    """Inputs, and outputs, of each module."""
    d_mlp: PositiveInt = 8
    """Neurons of each module."""
    coupling: NonNegativeFloat = 0.1
    """Frobenius norm of the dense random matrix in `mlp_in`, relative to the blocks'."""
    basis: Literal["aligned", "rotated", "rescaled"] = "aligned"
    """Which basis hides the modules: none but a permutation of the hidden units; the stream rotated on both sides; and the neurons rescaled too."""
    probability: float = Field(default=0.25, gt=0, le=1)
    """Chance that a module is active."""
    together: float = Field(default=0.0, ge=0, le=1)
    """Chance that an active module brings its partner along; at 1 nothing can tell the two apart."""
    threshold: NonNegativeFloat = 0.25
    """θ: what a neuron must exceed to fire, in standard deviations of what it reads from an active module."""

    summary: ClassVar[str] = (
        "8 modules of 8 neurons in one MLP, weakly coupled, in an aligned, rotated or rescaled basis: a piece per neuron and site"
    )
    lesson: ClassVar[str] = "modules are in what the parts do, not in the graph of the weights: a rotation hides them from the graph only"
    sites: ClassVar[tuple[str, ...]] = ("mlp_in", "mlp_out")
    recipe: ClassVar[Mapping[str, Any]] = {
        "steps": 3000,
        "starts": {"count": 3, "until": 0.4},
        "batch_size": 1024,
        "components": 128,
        "importance": {"kind": "layerwise-mlp", "hidden": 192},
        "prune": {"at": 0.7, "below": 0.05},
        "losses": {"stochastic": {"routing": "subset"}, "minimality": {"coefficient": 4e-5}},
        "optimizer": {"factors": {"learning_rate": 3e-3}, "importance": {"learning_rate": 3e-3}},
    }

    hidden_sites: ClassVar[tuple[str, str] | None] = ("mlp_in", "mlp_out")
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "rotated": {"basis": "rotated"},
        "rescaled": {"basis": "rescaled"},
        "always in pairs": {"together": 1.0},
    }
    same_function: ClassVar[tuple[str, ...]] = ("rotated", "rescaled")
    phase: ClassVar[Phase | None] = Phase("coupling", (0.0, 0.1, 0.3, 1.0), "probability", (0.1, 0.25, 0.5))

    clearly: ClassVar[float] = 0.5
    """A neuron that fires above this is certainly needed; below, ablating it costs little and the truth says nothing."""
    stretch: ClassVar[float] = 3.0
    """Neurons are rescaled by factors between 1/this and this."""

    def build(self) -> nn.Module:
        """Return the network in its basis; the same seed gives the same function in every basis."""
        streams, width = Streams(self.seed), self.modules * self.d_in
        A, B = self._blocks()
        read, write = block_diagonal(A.mT), block_diagonal(B)
        noise = torch.randn(read.shape, generator=streams["coupling"])
        read = read + self.coupling * read.norm() * noise / noise.norm()
        order = self._order()
        scale = self._scale()
        turned = self.basis != "aligned"
        before = orthogonal(width, streams["rotation-in"]) if turned else torch.eye(width)
        after = orthogonal(width, streams["rotation-out"]) if turned else torch.eye(width)
        return BlocksModule(
            embed=before,
            mlp_in=before.T @ read[:, order] * scale,
            bias=-self.threshold * scale,
            mlp_out=write[order] / scale[:, None] @ after,
            unembed=after.T,
        )

    def data(self) -> ModuleSparse:
        """Return inputs of which each module has something with the set probability."""
        return ModuleSparse(self.modules, self.d_in, self.probability, together=self.together)

    def truth(self, module: nn.Module) -> Truth:
        """Return one piece per neuron and site, needed where the neuron fires."""
        names = tuple(f"module {int(unit) // self.d_mlp}" for unit in self._order())
        sites = neuron_pieces(cast(BlocksModule, module), names, self._scale(), self.clearly)
        reads = {f"module {k}": self.data().features_of(k) for k in range(self.modules)}
        pairs = tuple(frozenset((f"module {k}", f"module {k + 1}")) for k in range(0, self.modules - 1, 2))
        unresolvable = pairs if self.together == 1 else ()
        return Truth(
            sites=sites, module_inputs=reads, unresolvable=unresolvable, bars={"module_ari": (0.95, None), "piece_coverage": (1.0, None)}
        )

    def hidden(self, inputs: Tensor) -> Tensor:
        """Return what the planted neurons say without coupling, [batch, modules, d_mlp]."""
        x = inputs.unflatten(-1, (self.modules, self.d_in))
        return F.relu(torch.einsum("bki,khi->bkh", x, self._blocks()[0]) - self.threshold)

    def wanted(self, inputs: Tensor) -> Tensor:
        """Return what the modules answer, each by itself."""
        return torch.einsum("bkh,kho->bko", self.hidden(inputs), self._blocks()[1]).flatten(1)

    def checks(self, module: nn.Module) -> tuple[Check, ...]:
        """Return whether the network computes its modules, in this basis as in the aligned one, and whether they are identifiable."""
        x = self.data().batch(0, 4096, Streams(self.seed)["checks"])
        aligned = self.model_copy(update={"basis": "aligned"}).build()
        active = self.data().is_active(x).bool()
        fires = (cast(BlocksModule, module).pre_activation(x) > 0)[:, self._order().argsort()].unflatten(-1, (self.modules, self.d_mlp))
        # In a basis that is not the neurons' own, every piece of an active block is needed, and there are as many as its rank.
        ranks = torch.linalg.matrix_rank(self._blocks()[0]).float()
        coupled = (2 * self.coupling) ** 2 + 1e-6
        return (
            Check("answer against the modules', relative squared error", relative_error(module(x), self.wanted(x)), 0.0, coupled, "the coupling drowns the modules"),
            Check("answer against the aligned basis', relative squared error", relative_error(module(x), aligned(x)), 0.0, 1e-8, "the basis changes the function"),
            Check("inactive modules' neurons that fire", float(fires[~active].float().mean()), 0.0, 0.01, "the coupling fires modules that have no input"),
            Check("pieces needed by an active module, neurons' own against another basis", float(fires[active].float().sum(-1).mean() / ranks.mean()), 0.0, 0.8, "another basis of the block is as cheap, so its pieces are not identifiable"),
        )  # fmt: skip

    def panel(self, module: nn.Module) -> Panel:
        """Return the loss per input feature and against the number of active modules, and answers alone and in company."""
        return feature_panel(self, module, torch.linspace(-2, 2, 21), active=self.data().is_active, active_word="active modules")

    def _blocks(self) -> tuple[Tensor, Tensor]:
        """Return A [modules, d_mlp, d_in] and B [modules, d_mlp, d_in] (outputs last), rows of length 1."""
        streams, shape = Streams(self.seed), (self.modules, self.d_mlp, self.d_in)
        return square_rows(*shape, streams["read"]), square_rows(*shape, streams["write"])

    def _order(self) -> Tensor:
        """Return which planted neuron stands at each hidden unit."""
        return torch.randperm(self.modules * self.d_mlp, generator=Streams(self.seed)["permutation"])

    def _scale(self) -> Tensor:
        """Return the factor of each hidden unit."""
        units = self.modules * self.d_mlp
        if self.basis != "rescaled":
            return torch.ones(units)
        return self.stretch ** (2 * torch.rand(units, generator=Streams(self.seed)["scale"]) - 1)
