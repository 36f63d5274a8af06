"""How are small networks planted side by side in one MLP? `unembed(mlp_out(relu(mlp_in(embed(x)))))`, with data that uses few of them.

A planted module k is `B_k relu(A_k x_k - θ)`. The embedding and the unembedding are frozen and never taken apart: they say in
which basis the stream carries what the modules read and write.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unbraid.targets.matrices import weight_of
from unbraid.targets.truth import SiteTruth


class BlocksModule(nn.Module):
    """`unembed(mlp_out(relu(mlp_in(embed(x)))))`; only `mlp_in` has a bias, which holds the thresholds.

    Args:
        embed: Features → stream, [n_features, d_model].
        mlp_in: Stream → hidden units, [d_model, d_mlp].
        bias: Of the hidden units, [d_mlp].
        mlp_out: Hidden units → stream, [d_mlp, d_model].
        unembed: Stream → outputs, [d_model, n_outputs].
    """

    def __init__(self, embed: Tensor, mlp_in: Tensor, bias: Tensor, mlp_out: Tensor, unembed: Tensor) -> None:
        super().__init__()
        self.embed = _linear(embed)
        self.mlp_in = _linear(mlp_in, bias)
        self.relu = nn.ReLU()
        self.mlp_out = _linear(mlp_out)
        self.unembed = _linear(unembed)

    def pre_activation(self, x: Float[Tensor, "*batch n_features"]) -> Float[Tensor, "*batch d_mlp"]:
        """Return what the hidden units see before the non-linearity."""
        return self.mlp_in(self.embed(x))

    def forward(self, x: Float[Tensor, "*batch n_features"]) -> Float[Tensor, "*batch n_outputs"]:
        """Run all modules at once."""
        return self.unembed(self.mlp_out(self.relu(self.pre_activation(x))))


def _linear(matrix: Float[Tensor, "d_in d_out"], bias: Tensor | None = None) -> nn.Linear:
    """Return the frozen layer `y = x @ matrix + bias`."""
    layer = nn.Linear(*matrix.shape, bias=bias is not None)
    with torch.no_grad():
        layer.weight.copy_(matrix.T)
        if bias is not None:
            layer.bias.copy_(bias)
    return layer.requires_grad_(False)


@dataclass(frozen=True)
class ModuleSparse:
    """Inputs of which only some modules have something: an active module's are `N(offset, 1)`, an inactive one's are all 0.

    Attributes:
        modules: How many planted modules there are.
        width: Inputs of each module.
        probability: Chance that a module is active, independently of the others.
        active: Exactly so many modules are active instead, drawn evenly; None for chance.
        offset: Mean of an active module's inputs.
        switch: Whether each module has one more input at the end, which is 1 when it is active.
        together: Chance that an active module brings its partner (0 with 1, 2 with 3, …) along.
    """

    modules: int
    width: int
    probability: float = 0.25
    active: int | None = None
    offset: float = 0.0
    switch: bool = False
    together: float = 0.0

    @property
    def columns(self) -> int:
        """How many inputs a module has, the switch included."""
        return self.width + int(self.switch)

    @property
    def n_features(self) -> int:
        """How many inputs there are in all."""
        return self.modules * self.columns

    def batch(self, step: int, size: int, generator: torch.Generator) -> Float[Tensor, "batch n_features"]:
        """Draw `size` inputs; `step` plays no part, since the generator holds the place."""
        device = generator.device
        chance = torch.rand(size, self.modules, generator=generator, device=device)
        on = chance < self.probability if self.active is None else chance.argsort(dim=1).argsort(dim=1) < self.active
        if self.together > 0:
            partner = torch.arange(self.modules, device=device) ^ 1
            partner = partner.where(partner < self.modules, partner ^ 1)
            comes = torch.rand(size, self.modules // 2 + 1, generator=generator, device=device) < self.together
            on = on | (on[:, partner] & comes[:, torch.arange(self.modules, device=device) // 2])
        x = torch.randn(size, self.modules, self.width, generator=generator, device=device) + self.offset
        if self.switch:
            x = torch.cat([x, torch.ones_like(x[..., :1])], dim=-1)
        return (x * on[..., None]).flatten(1)

    def is_active(self, inputs: Float[Tensor, "batch n_features"]) -> Float[Tensor, "batch modules"]:
        """Return 1 for each module that has something on an input."""
        return (inputs.unflatten(-1, (self.modules, self.columns)) != 0).any(-1).to(inputs.dtype)

    def features_of(self, module: int) -> tuple[int, ...]:
        """Return which columns of the inputs a module reads."""
        return tuple(range(module * self.columns, (module + 1) * self.columns))


def square_rows(modules: int, rows: int, width: int, generator: torch.Generator) -> Float[Tensor, "modules rows width"]:
    """Return unit vectors, of which each module's are at right angles as far as they fit, and otherwise drawn evenly.

    Random vectors would often be nearly parallel or opposite; then a piece that reads their difference is cheaper than the two planted ones.
    """
    bases = -(-rows // width)
    return torch.stack([torch.cat([orthogonal(width, generator) for _ in range(bases)])[:rows] for _ in range(modules)])


def block_diagonal(blocks: Float[Tensor, "modules d_in d_out"]) -> Float[Tensor, "total_in total_out"]:
    """Lay the modules' matrices side by side, so that none reads or writes what another does."""
    return torch.block_diag(*blocks)


def orthogonal(width: int, generator: torch.Generator) -> Float[Tensor, "width width"]:
    """Draw a rotation evenly (QR of a Gaussian matrix, with the signs of R's diagonal taken out)."""
    Q, R = torch.linalg.qr(torch.randn(width, width, generator=generator))
    return Q * R.diagonal().sign()


def neuron_pieces(
    network: BlocksModule, names: tuple[str, ...], scale: Float[Tensor, " d_mlp"], clearly: float, any_basis: bool = False
) -> dict[str, SiteTruth]:
    """Return one piece per hidden unit and site: what the unit reads, and what it writes, each needed where the unit fires.

    A unit that is off stays off under any mask, since without its piece only the threshold is left; so an input needs the units that fire.

    Args:
        network: The module whose weights are planted.
        names: The planted module of each hidden unit.
        scale: By how much each unit was rescaled.
        clearly: A unit that fires above this (before rescaling) must be important; one that fires less costs little, and the truth does not say.
        any_basis: Within a module only the subspace is planted.
    """
    unit = torch.eye(len(names))

    def on(inputs: Tensor) -> Tensor:
        return (network.pre_activation(inputs) > 0).to(inputs.dtype)

    def needed(inputs: Tensor) -> Tensor:
        fires = network.pre_activation(inputs) / scale.to(inputs.device)
        return torch.where(fires > clearly, 1.0, torch.where(fires <= 0, 0.0, torch.nan))

    read, write = weight_matrices(network)
    return {
        "mlp_in": SiteTruth(V=read, U=unit, pattern="sparse", on=on, needed=needed, modules=names, any_basis=any_basis),
        "mlp_out": SiteTruth(V=unit, U=write, pattern="sparse", on=on, needed=needed, modules=names, any_basis=any_basis),
    }


def weight_matrices(module: nn.Module) -> tuple[Float[Tensor, "d_model d_mlp"], Float[Tensor, "d_mlp d_model"]]:
    """Return what a method that clusters the weight graph sees: `mlp_in` and `mlp_out` in the stream's own coordinates."""
    return weight_of(module.get_submodule("mlp_in")).detach(), weight_of(module.get_submodule("mlp_out")).detach()


def relative_error(answer: Tensor, wanted: Tensor) -> float:
    """Return the squared error as a share of the squared size of what is wanted."""
    return float((answer - wanted).square().sum() / wanted.square().sum().clamp(min=1e-12))
