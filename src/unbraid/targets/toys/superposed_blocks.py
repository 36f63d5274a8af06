"""Superposed blocks: many small networks whose inputs and outputs share too few dimensions, kept apart by an on-switch.

Each module has `d_in` inputs and one feature that says that it is active. All features lie on random unit vectors of a stream with
half as many dimensions, and the hidden units read them back through the same vectors, so that every read is disturbed by what
else is there: `pre = A_k x̂_k + θ (on̂ - 1)`. Without the switch (θ = 0) the disturbance fires the neurons of every inactive module, and all
of those together drown the active ones. With a switch inactive modules stay silent, and what is left is an error within the active module that
falls as 1 / D: superposition needs scale. A stronger switch than needed is worse, since its own disturbance grows with θ, and because
whatever a piece writes into a silent module below θ changes nothing. For that reason single pieces are not what is scored here, only modules.

Source: Bushnaq & Mendel 2024, "Circuits in superposition"; Linsefors et al. 2025. The switch and its numbers were measured here.
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
from unbraid.targets.toy_kit.blocks import BlocksModule, ModuleSparse, neuron_pieces, relative_error, square_rows
from unbraid.targets.toy_kit.feature_panel import feature_panel
from unbraid.targets.truth import Truth


@toys.register
class SuperposedBlocks(Toy):
    """Modules with an on-switch whose features share a stream that is too narrow for them."""

    kind: Literal["superposed-blocks"] = "superposed-blocks"
    modules: PositiveInt = 128
    """K, how many modules are planted."""
    d_model: PositiveInt = 320
    """D, the width of the stream; the load is `modules · (d_in + 1) / d_model`."""
    d_in: PositiveInt = 4
    """Inputs, and outputs, of each module, without the switch."""
    d_mlp: PositiveInt = 2
    """Neurons of each module."""
    switch: NonNegativeFloat = 0.7
    """θ: how far an inactive module is pushed below firing; 0 is no switch."""
    coupling: NonNegativeFloat = 0.0
    """Frobenius norm of a dense random matrix added to `mlp_in`, relative to what the modules read."""
    active: PositiveInt = 1
    """z, how many modules each input has, at least."""
    together: float = Field(default=0.0, ge=0, le=1)
    """Chance that an active module brings its partner along; at 1 nothing can tell the two apart."""

    summary: ClassVar[str] = "128 modules with on-switches in superposition at load 2: a piece per neuron and site, grouped by module"
    lesson: ClassVar[str] = (
        "modules can share every direction and every neighbour; what keeps them apart is that few are active, and a switch"
    )
    sites: ClassVar[tuple[str, ...]] = ("mlp_in", "mlp_out")
    recipe: ClassVar[Mapping[str, Any]] = {
        "steps": 4000,
        "batch_size": 1024,
        "components": {"mlp_in": 896, "mlp_out": 384},
        "importance": {"kind": "layerwise-mlp", "hidden": 256},
        "prune": {"at": 0.7, "below": 0.05},
        "losses": {
            "stochastic": {"routing": "subset"},
            "faithfulness": {"coefficient": 5e-4, "relative": True},
            # A module is active on one input in 128, so a piece that serves two modules costs no input anything; only the frequency term
            # sees it. Thought over 256 datapoints it makes one piece for two modules 35 % dearer than two pieces; over 32,768, 10 %.
            "minimality": {"coefficient": 1.8e-5, "frequency": {"weight": 2.0, "reference_count": 256}},
        },
        "optimizer": {
            "factors": {"learning_rate": 3e-3, "weight_decay": 0.3},
            "importance": {"learning_rate": 3e-3},
            "epsilon": 1e-11,
        },
    }

    # A quarter of the modules, so that a cell takes minutes; load 0.5, 1, 2 and 4.
    phase: ClassVar[Phase | None] = Phase(
        "coupling",
        (0.0, 0.1, 0.3),
        "d_model",
        (320, 160, 80, 40),
        fixed={"modules": 32},
        overrides=("components.mlp_in=224", "components.mlp_out=96"),
    )

    clearly: ClassVar[float] = 0.5
    """A neuron that fires above this is certainly needed; below, ablating it costs little and the truth says nothing."""

    def build(self) -> nn.Module:
        """Return the network."""
        features, outputs = self._directions()
        A, B = self._blocks()
        per_module = features.unflatten(0, (self.modules, self.d_in + 1))
        read = (torch.einsum("khi,kid->khd", A, per_module[:, :-1]) + self.switch * per_module[:, -1:]).flatten(0, 1).T
        noise = torch.randn(read.shape, generator=Streams(self.seed)["coupling"])
        read = read + self.coupling * read.norm() * noise / noise.norm()
        write = torch.einsum("kho,kod->khd", B, outputs.unflatten(0, (self.modules, self.d_in)))
        bias = torch.full((self.modules * self.d_mlp,), -self.switch)
        return BlocksModule(features, read, bias, write.flatten(0, 1), outputs.T)

    def data(self) -> ModuleSparse:
        """Return inputs of which so many modules have something, and their switches are 1."""
        return ModuleSparse(self.modules, self.d_in, active=self.active, switch=True, together=self.together)

    def truth(self, module: nn.Module) -> Truth:
        """Return one piece per neuron and site, needed where the neuron fires."""
        names = tuple(f"module {k}" for k in range(self.modules) for _ in range(self.d_mlp))
        pairs = [frozenset((f"module {k}", f"module {k + 1}")) for k in range(0, self.modules - 1, 2)]
        return Truth(
            sites=neuron_pieces(cast(BlocksModule, module), names, torch.ones(len(names)), self.clearly, any_basis=True),
            module_inputs={f"module {k}": self.data().features_of(k) for k in range(self.modules)},
            unresolvable=tuple(pairs) if self.together == 1 else (),
            bars={"module_ari": (0.9, None)},
        )

    def hidden(self, inputs: Tensor) -> Tensor:
        """Return what the planted neurons say without any disturbance, [batch, modules, d_mlp]."""
        x = inputs.unflatten(-1, (self.modules, self.d_in + 1))
        pre = torch.einsum("bki,khi->bkh", x[..., :-1], self._blocks()[0])
        return F.relu(pre + self.switch * (x[..., -1:] - 1))

    def wanted(self, inputs: Tensor) -> Tensor:
        """Return what the modules answer, each by itself."""
        return torch.einsum("bkh,kho->bko", self.hidden(inputs), self._blocks()[1]).flatten(1)

    def checks(self, module: nn.Module) -> tuple[Check, ...]:
        """Return whether active modules compute their function, inactive ones are silent, and it is the switch that keeps them so."""
        x = self.data().batch(0, 1024, Streams(self.seed)["checks"])
        bare = self.model_copy(update={"switch": 0.0})
        hidden, read_out, leak = self._disturbance(module, x)
        load = self.modules * (self.d_in + 1) / self.d_model
        return (
            Check("features per dimension of the stream", load, 1.5, None, "the features would fit, and nothing is in superposition"),
            Check("active modules' neurons, relative squared error", hidden, 0.0, 0.15, "disturbance drowns what a module reads"),
            Check("active modules' answers, relative squared error", read_out, 0.0, 0.2, "disturbance drowns what a module answers"),
            Check("energy of inactive modules' neurons against the active ones'", leak, 0.0, 0.01, "inactive modules compute"),
            Check("the same energy with the switch taken out", bare._disturbance(bare.build(), x)[2], 0.5, None, "the switch is not needed"),
        )  # fmt: skip

    def panel(self, module: nn.Module) -> Panel:
        """Return the sceptic's panel; a feature that is asked alone has its module's switch on."""
        columns = self.d_in + 1
        features = [k * columns + i for k in range(self.modules) for i in range(self.d_in)]
        background = torch.zeros(len(features), self.modules * columns)
        background[torch.arange(len(features)), torch.tensor(features) // columns * columns + self.d_in] = 1.0
        return feature_panel(
            self,
            module,
            torch.linspace(-2, 2, 21),
            features=features,
            background=background,
            active=self.data().is_active,
            active_word="active modules",
        )

    def _disturbance(self, module: nn.Module, x: Tensor) -> tuple[float, float, float]:
        """Return the relative error of active modules' neurons and answers, and the energy that leaks to inactive ones."""
        active = self.data().is_active(x).bool()
        with torch.no_grad():
            fires = F.relu(cast(BlocksModule, module).pre_activation(x)).unflatten(-1, (self.modules, self.d_mlp))
            answer = module(x).unflatten(-1, (self.modules, self.d_in))
        planted = self.hidden(x)[active]
        read_out = relative_error(answer[active], self.wanted(x).unflatten(-1, (self.modules, self.d_in))[active])
        return relative_error(fires[active], planted), read_out, float(fires[~active].square().sum() / planted.square().sum())

    def _directions(self) -> tuple[Tensor, Tensor]:
        """Return the unit vectors of the features [K (d_in + 1), D] and of the outputs [K d_in, D]."""
        streams, width = Streams(self.seed), self.d_model
        features = torch.randn(self.modules * (self.d_in + 1), width, generator=streams["features"])
        outputs = torch.randn(self.modules * self.d_in, width, generator=streams["outputs"])
        return F.normalize(features, dim=1), F.normalize(outputs, dim=1)

    def _blocks(self) -> tuple[Tensor, Tensor]:
        """Return A [modules, d_mlp, d_in] and B [modules, d_mlp, d_in] (outputs last), rows of length 1."""
        streams, shape = Streams(self.seed), (self.modules, self.d_mlp, self.d_in)
        return square_rows(*shape, streams["read"]), square_rows(*shape, streams["write"])
