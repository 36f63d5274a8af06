"""Residual MLPs: many sparse features computed by fewer neurons, read from and written to a residual stream (Braun et al. 2025).

The task is `y = x + ReLU(x)` with 100 features and 50 neurons. What is planted: each feature reads the stream through its own
piece of `mlp_in`, and `mlp_out` is one map of full rank that every active input needs.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from unbraid.core.errors import UserError
from unbraid.targets.data import SparseFeatures
from unbraid.targets.probes import co_active_probes, one_hot_probes
from unbraid.targets.toy import Toy, Trained
from unbraid.targets.truth import SiteTruth, Truth, any_on, feature_on


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

    n_features: int
    """Number of sparse features."""
    d_model: int
    """Width of the residual stream."""
    d_mlp: int
    """Neurons per layer."""
    n_layers: int
    """Number of MLP blocks."""
    probability: float = Field(default=0.01, gt=0, le=1)
    """Chance that a feature is on."""

    training_steps: ClassVar[int] = 1000
    training_batch: ClassVar[int] = 2048

    def build(self) -> nn.Module:
        """Return an untrained model of the right shape."""
        return ResidualMLPModule(self.n_features, self.d_model, self.d_mlp, self.n_layers)

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
            F.mse_loss(module(x), x + F.relu(x)).backward()
            optimizer.step()
            schedule.step()
        trained = self.measure(module)
        unlearned = trained.unlearned(share=0.8)
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
        wanted = inputs + F.relu(inputs)
        with torch.no_grad():
            loss = (module(inputs) - wanted).square().sum(-1).mean(1)
        return loss, (inputs - wanted).square().sum(-1).mean(1)

    def truth(self, module: nn.Module) -> Truth:
        """Return one reading piece per feature and layer, and each `mlp_out` as one map of full rank."""
        directions = module.get_parameter("embed.weight").detach()  # [d_model, n_features]
        dual = torch.linalg.pinv(directions).T
        sites: dict[str, SiteTruth] = {}
        for layer in range(self.n_layers):
            read = module.get_parameter(f"blocks.{layer}.mlp_in.weight").detach().T
            write = module.get_parameter(f"blocks.{layer}.mlp_out.weight").detach().T
            write_in = directions.T @ read
            # What lies outside the data's directions is shared among the pieces, so that they add up to the whole matrix.
            silent = (read - dual @ write_in) @ torch.linalg.pinv(write_in)
            sites[f"blocks.{layer}.mlp_in"] = SiteTruth(
                V=dual + silent, U=write_in, pattern="per_feature", on=feature_on, needed=feature_on, read_basis=directions
            )
            sites[f"blocks.{layer}.mlp_out"] = SiteTruth(
                V=torch.eye(self.d_mlp), U=write, pattern="always_on", on=any_on(self.d_mlp), needed=any_on(self.d_mlp)
            )
        return Truth(
            sites=sites,
            one_hot=one_hot_probes(self.n_features),
            co_active=co_active_probes(self.n_features),
            identity_error_bar=2,
        )
