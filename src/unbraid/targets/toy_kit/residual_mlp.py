"""Residual MLPs: many sparse features computed by fewer neurons, read from and written to a residual stream (Braun et al. 2025).

The task is `y = x + ReLU(x)` with about twice as many features as neurons, in one block or spread over several. What is planted: each
feature reads the stream through its own piece of every block's `mlp_in`, and each `mlp_out` is one map of full rank that every active
input needs. A later block reads what earlier ones have written, so a feature arrives there from another direction than it was
embedded in; its piece reads that direction. The pieces of one feature, over all blocks, are one module; all writing is another.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from unbraid.core.errors import UserError
from unbraid.targets.data import SparseFeatures
from unbraid.targets.panel import Panel
from unbraid.targets.toy import Check, Features, Toy, Trained
from unbraid.targets.toy_kit.feature_panel import feature_panel
from unbraid.targets.toy_kit.probes import co_active_probes, one_hot_probes
from unbraid.targets.truth import SiteTruth, Truth, any_on, feature_on

UNLEARNED = 0.8  # a feature whose loss is above this share of the stream's alone is not computed
LIKE = 0.9  # pieces that write in directions more alike than this cannot be expected to stay apart
NEEDED = 0.02  # a block computes a feature if reading it lowers the feature's loss by at least this share of the stream's alone


class Block(nn.Module):
    """`x + mlp_out(ReLU(mlp_in(x)))`, without biases."""

    def __init__(self, d_model: int, d_mlp: int) -> None:
        super().__init__()
        self.mlp_in = nn.Linear(d_model, d_mlp, bias=False)
        self.relu = nn.ReLU()
        self.mlp_out = nn.Linear(d_mlp, d_model, bias=False)

    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """Add the MLP's output to the stream."""
        return x + self.mlp_out(self.relu(self.mlp_in(x)))


class ResidualMLPModule(nn.Module):
    """A fixed random embedding into the stream, blocks, and the embedding's transpose as the read-out."""

    def __init__(self, n_features: int, d_model: int, d_mlp: int, n_layers: int, seed: int = 0) -> None:
        super().__init__()
        directions = F.normalize(torch.randn(n_features, d_model, generator=torch.Generator().manual_seed(seed)), dim=1)
        self.embed = nn.Linear(n_features, d_model, bias=False)
        self.blocks = nn.ModuleList([Block(d_model, d_mlp) for _ in range(n_layers)])
        self.unembed = nn.Linear(d_model, n_features, bias=False)
        with torch.no_grad():
            self.embed.weight.copy_(directions.T)
            self.unembed.weight.copy_(directions)
        self.embed.weight.requires_grad_(False)
        self.unembed.weight.requires_grad_(False)

    def forward(self, x: Float[Tensor, "*batch n_features"]) -> Float[Tensor, "*batch n_features"]:
        """Compute every feature's output from the stream."""
        stream = self.embed(x)
        for block in self.blocks:
            stream = block(stream)
        return self.unembed(stream)


class ResidualMLP(Toy):
    """A residual MLP on the task `y = x + ReLU(x)`."""

    n_features: Features
    """Number of sparse features."""
    d_model: PositiveInt
    """Width of the residual stream."""
    d_mlp: PositiveInt
    """Neurons per layer."""
    n_layers: PositiveInt
    """Number of MLP blocks."""
    probability: float = Field(default=0.01, gt=0, le=1)
    """Chance that a feature is on."""

    training_steps: ClassVar[int] = 1000
    training_batch: ClassVar[int] = 2048
    identity_error_bar: ClassVar[int] = 4  # wrong entries per layer
    published: ClassVar[Mapping[str, Any]] = {}
    """The settings of the published size, where the default is smaller: the toy's knobs, and how many subcomponents it takes."""

    def build(self) -> nn.Module:
        """Return an untrained model of the right shape."""
        return ResidualMLPModule(self.n_features, self.d_model, self.d_mlp, self.n_layers, self.seed)

    def data(self) -> SparseFeatures:
        """Return sparse features of both signs."""
        return SparseFeatures(self.n_features, self.probability, low=-1.0, high=1.0)

    def train(self, seed: int = 0) -> Trained:
        """Train the blocks on the task with the published schedule (AdamW, cosine to zero).

        Raises:
            UserError: Some feature is not computed better than by the stream alone.
        """
        generator = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):  # torch draws its layers' weights from the global stream
            torch.manual_seed(seed)
            module = self.build()
        data = self.data()
        trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trainable, lr=3e-3, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.training_steps)
        for step in range(self.training_steps):
            x = data.batch(step, self.training_batch, generator)
            optimizer.zero_grad()
            F.mse_loss(module(x), self.wanted(x)).backward()
            optimizer.step()
            schedule.step()
        trained = self.measure(module)
        unlearned = trained.unlearned(share=UNLEARNED)
        if unlearned:
            raise UserError(
                f"Training {self.kind} with seed {seed} left features {unlearned} unlearned.", "Train again with another --seed."
            )
        return trained

    def measure(self, module: nn.Module) -> Trained:
        """Return the squared error of each feature beside that of the stream without the MLP."""
        return Trained(module, *self._loss_per_feature(module))

    def _loss_per_feature(self, module: nn.Module) -> tuple[Tensor, Tensor]:
        """Return the squared error with one feature on, beside that of the stream without the MLP (`y = x`)."""
        values = torch.linspace(-1.0, 1.0, 21)
        inputs = torch.eye(self.n_features)[:, None] * values[None, :, None]
        wanted = self.wanted(inputs)
        with torch.no_grad():
            loss = (module(inputs) - wanted).square().sum(-1).mean(1)
        return loss, (inputs - wanted).square().sum(-1).mean(1)

    def wanted(self, inputs: Float[Tensor, "*batch n_features"]) -> Float[Tensor, "*batch n_features"]:
        """Return `x + ReLU(x)`."""
        return inputs + F.relu(inputs)

    def naive(self, inputs: Float[Tensor, "*batch n_features"]) -> Float[Tensor, "*batch n_features"]:
        """Return what dedicated neurons answer: one feature each, exactly, and the stream alone (`y = x`) for the others.

        Features are alike, so the first ones stand for the ones that have a neuron. The stream is taken to be without overlaps.
        """
        dedicated = torch.arange(self.n_features, device=inputs.device) < self.neurons
        return torch.where(dedicated, self.wanted(inputs), inputs)

    def panel(self, module: nn.Module) -> Panel:
        """Return the sceptic's panel on values of both signs."""
        return feature_panel(self, module, torch.linspace(-1.0, 1.0, 21))

    @property
    def neurons(self) -> int:
        """How many neurons all blocks have together."""
        return self.d_mlp * self.n_layers

    def checks(self, module: nn.Module) -> tuple[Check, ...]:
        """Return whether more features are computed than there are neurons, and each of them in every block."""
        trained = self.measure(module)
        share = trained.loss_per_feature / trained.naive_per_feature
        x = self.data().batch(0, 8192, torch.Generator().manual_seed(self.seed))
        with torch.no_grad():
            loss, dedicated = ((answer - self.wanted(x)).square().sum() for answer in (module(x), self.naive(x)))
        checks = [
            Check("worst feature's loss / the stream's alone", float(share.max()), high=UNLEARNED, why="a feature is not computed"),
            Check(
                "features whose loss is halved, beyond one per neuron",
                float((share < 0.5).sum()) - self.neurons,
                low=1,
                why="a neuron for each feature would do, so nothing is in superposition",
            ),
            Check("loss on the data / that of dedicated neurons", float(loss / dedicated), high=1.0, why="neurons are not shared"),
        ]
        if self.n_layers > 1:
            needed = self.needed_in(module).min()
            why = "a feature does without its piece in some block, so it is not computed across blocks"
            checks.append(Check("least rise of a feature's loss when one block stops reading it", float(needed), low=NEEDED, why=why))
            same = "two features write almost the same in some block, and one piece for both is nearly as good"
            checks.append(
                Check("largest cosine between what two features write to a block's neurons", self.likeness(module), high=LIKE, why=same)
            )
        return tuple(checks)

    def likeness(self, module: nn.Module) -> float:
        """Return the largest cosine between two features' pieces of one `mlp_in` in what they write."""
        found: list[Tensor] = []
        for layer in range(self.n_layers):
            U = F.normalize(self.truth(module).sites[f"blocks.{layer}.mlp_in"].U, dim=1)
            found.append((U @ U.T).fill_diagonal_(-1.0).max())
        return float(torch.stack(found).max())

    @torch.no_grad()
    def needed_in(self, module: nn.Module) -> Float[Tensor, "n_layers n_features"]:
        """Return by how much a feature's loss rises when its piece of one `mlp_in` is ablated, as a share of the stream's loss alone."""
        values = torch.linspace(0.05, 1.0, 20)
        inputs = torch.eye(self.n_features)[:, None] * values[None, :, None]  # [feature, value, n_features]
        scale = (inputs - self.wanted(inputs)).square().sum(-1).mean(1)
        pieces = [self.truth(module).sites[f"blocks.{layer}.mlp_in"] for layer in range(self.n_layers)]

        def loss(without: int | None) -> Tensor:
            stream = module.get_submodule("embed")(inputs)
            for layer, piece in enumerate(pieces):
                ablated = torch.einsum("fvd,df,fm->fvm", stream, piece.V, piece.U) if layer == without else 0.0
                hidden = F.relu(module.get_submodule(f"blocks.{layer}.mlp_in")(stream) - ablated)
                stream = stream + module.get_submodule(f"blocks.{layer}.mlp_out")(hidden)
            return (module.get_submodule("unembed")(stream) - self.wanted(inputs)).square().sum(-1).mean(1)

        whole = loss(None)
        return torch.stack([(loss(layer) - whole) / scale for layer in range(self.n_layers)])

    def truth(self, module: nn.Module) -> Truth:
        """Return one reading piece per feature and layer, and each `mlp_out` as one map of full rank."""
        features = tuple(f"feature {index}" for index in range(self.n_features))
        sites: dict[str, SiteTruth] = {}
        for layer, arriving in enumerate(arrivals(module, self.n_features, self.n_layers)):
            read = module.get_parameter(f"blocks.{layer}.mlp_in.weight").detach().T
            write = module.get_parameter(f"blocks.{layer}.mlp_out.weight").detach().T
            dual = torch.linalg.pinv(arriving).T
            write_in = arriving.T @ read
            # What lies outside the data's directions is shared among the pieces, so that they add up to the whole matrix.
            silent = (read - dual @ write_in) @ torch.linalg.pinv(write_in)
            sites[f"blocks.{layer}.mlp_in"] = SiteTruth(
                V=dual + silent,
                U=write_in,
                pattern="per_feature",
                on=feature_on,
                needed=feature_on,
                read_basis=arriving,
                modules=features,
            )
            sites[f"blocks.{layer}.mlp_out"] = SiteTruth(
                V=torch.eye(self.d_mlp),
                U=write,
                pattern="always_on",
                on=any_on(self.d_mlp),
                needed=any_on(self.d_mlp),
                modules=("write",) * self.d_mlp,
            )
        return Truth(
            sites=sites,
            one_hot=one_hot_probes(self.n_features),
            co_active=co_active_probes(self.n_features),
            identity_error_bar=self.identity_error_bar * self.n_layers,
            bars={
                f"identity_error/blocks.{layer}.mlp_in": (None, self.identity_error_bar)
                for layer in range(self.n_layers)
                if self.n_layers > 1
            },
        )


@torch.no_grad()
def arrivals(module: nn.Module, n_features: int, n_layers: int) -> list[Float[Tensor, "d_model n_features"]]:
    """Return for each block the directions in which features arrive at it: the stream there, with one feature at 1.

    For one positive feature the blocks are linear in its value, so this direction is exact at every value. A negative one arrives almost
    opposite, less what the earlier blocks' ReLUs let through.
    """
    stream = module.get_submodule("embed")(torch.eye(n_features))
    found: list[Tensor] = []
    for layer in range(n_layers):
        found.append(stream.T)
        stream = module.get_submodule(f"blocks.{layer}")(stream)
    return found


def deep_recipe(
    steps: int, components: tuple[int, int], layers: int, first: float, later: float, out: float, prune_below: float
) -> dict[str, Any]:
    """Return the settings that find the pieces of a residual MLP of more than one layer.

    Args:
        steps: Length of the run.
        components: How many subcomponents each `mlp_in` and each `mlp_out` has.
        layers: How many layers there are.
        first: The minimality coefficient of the first `mlp_in`, whose pieces matter least and bear less of it.
        later: That of each later `mlp_in`.
        out: That of each `mlp_out`.
        prune_below: Subcomponents whose importance stays below are dropped at 60 % of the run.
    """
    # Little pressure at first, or features with like directions share a piece; then much, or one feature has two pieces; none late.
    reading: dict[str, Any] = {"normalized": True, "anneal_until": 0.55, "decay": {"begin": 0.08, "end": 0.3, "final_share": 5.0}}
    return {
        "steps": steps,
        "batch_size": 1024,
        "components": {"*.mlp_in": components[0], "*.mlp_out": components[1]},
        "warmup": {"steps": 200, "learning_rate": 0.01, "weight_decay": 0.1},
        "importance": {
            "kind": "per-site",
            "sites": {"*.mlp_in": {"kind": "component-readout"}, "*.mlp_out": {"kind": "layerwise-mlp", "hidden": 2}},
        },
        "losses": {
            "stochastic": {"routing": "subset", "coefficient": 2.0},
            "faithfulness": {"coefficient": 1e-3, "relative": True},
            "minimality": {"coefficient": first, "sites": "blocks.0.mlp_in", **reading},
            "minimality-later": {
                "kind": "minimality",
                "coefficient": later,
                "sites": [f"blocks.{layer}.mlp_in" for layer in range(1, layers)],
                **reading,
            },
            # The gate of two units cannot shut a column for single features; γ is small in the end, so that what is on is let be
            # and what is left over is shut.
            "minimality-out": {
                "kind": "minimality",
                "coefficient": out,
                "sites": "*.mlp_out",
                "normalized": True,
                "frequency": None,
                "gamma_end": 0.03,
                "anneal_until": 0.75,
                "decay": {"begin": 0.48, "end": 0.7, "final_share": 0.06},
            },
        },
        "prune": {"at": 0.6, "below": prune_below},
        "optimizer": {
            "factors": {"learning_rate": 2e-3, "final_share": 0.1},
            "importance": {"learning_rate": 2e-3, "final_share": 0.1},
            "epsilon": 1e-11,
        },
    }
