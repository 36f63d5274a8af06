"""What does the same step cost when it is written plainly? The yardstick that the engine's speed is measured against.

The mathematics is the engine's: same losses, importance functions, optimiser and sizes. The writing is the straightforward one:
forward hooks that replace a module's output after it has been computed, Δ and x Δ formed for every masked pass, `where` for
routing, everything drawn and computed anew for each loss, sigmoids and minimality by autograd, the default AdamW.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from unbraid.core.schedules import cosine, linear
from unbraid.decompose.config import DecomposeConfig
from unbraid.decompose.losses.faithfulness import FaithfulnessConfig
from unbraid.decompose.losses.minimality import MinimalityConfig
from unbraid.decompose.losses.simplicity import SimplicityConfig
from unbraid.decompose.losses.stochastic import StochasticConfig
from unbraid.decompose.site_choice import choose_sites
from unbraid.decompose.training import build
from unbraid.targets.data import SparseFeatures
from unbraid.targets.target import Target

SLOPE = 0.01


class PlainTraining:
    """A training run written plainly.

    Args:
        target: The model under study.
        config: The settings; the losses of the toys' recipes are known.
    """

    def __init__(self, target: Target, config: DecomposeConfig) -> None:
        self.target, self.config = target, config
        self.model, self.function = build(target, config)
        self.module = copy.deepcopy(target.module)
        self.paths = [site.path for site in target.sites]
        self.factors = {path: site.factors for path, site in self.model.sites.items()}
        groups = [
            {"params": list(self.model.parameters()), "lr": config.optimizer.factors.learning_rate},
            {"params": list(self.function.parameters()), "lr": config.optimizer.importance.learning_rate},
        ]
        self.optimizer = torch.optim.AdamW(groups, eps=config.optimizer.epsilon, weight_decay=0.0)
        self.generator = torch.Generator().manual_seed(config.seed)
        self.inputs: dict[str, Tensor] = {}

    def step(self, index: int) -> float:
        """Take one step and return the loss."""
        config = self.config
        progress = index / config.steps
        batch = _plain_batch(self.target.data, config.batch_size, self.generator)
        with torch.no_grad():
            clean = self._hooked(batch, self._capture)
        activations = {path: self.inputs[path] @ self.factors[path].views()[0] for path in self.paths}
        logits = self.function(dict(self.inputs), activations)
        lower = {path: lower_sigmoid(z) for path, z in logits.items()}
        upper = {path: upper_sigmoid(z) for path, z in logits.items()}
        total = torch.zeros(())
        for loss in config.losses.values():
            total = total + loss.weight(progress) * self._loss(loss, batch, clean, lower, upper, progress)
        self.optimizer.zero_grad()
        total.backward()
        for group, settings in zip(self.optimizer.param_groups, (config.optimizer.factors, config.optimizer.importance), strict=True):
            factor = cosine(progress, settings.final_share, settings.warmup_share) if settings.schedule == "cosine" else 1.0
            group["lr"] = settings.learning_rate * factor
        self.optimizer.step()
        return float(total.detach())

    def _loss(
        self, loss: object, batch: Tensor, clean: Tensor, lower: dict[str, Tensor], upper: dict[str, Tensor], progress: float
    ) -> Tensor:
        if isinstance(loss, StochasticConfig):
            return self._stochastic(loss, batch, clean, lower)
        if isinstance(loss, MinimalityConfig):
            return minimality(loss, upper, progress)
        if isinstance(loss, SimplicityConfig):
            return self._simplicity(loss)
        if isinstance(loss, FaithfulnessConfig):
            deltas = {path: self._delta(path) for path in self.paths}
            if loss.relative:
                return torch.stack(
                    [deltas[path].square().sum() / self.model.sites[path].weight.square().sum() for path in self.paths]
                ).mean()
            return sum((delta.square().sum() for delta in deltas.values()), torch.zeros(())) / sum(
                delta.numel() for delta in deltas.values()
            )
        raise NotImplementedError(type(loss).__name__)

    def _stochastic(self, loss: StochasticConfig, batch: Tensor, clean: Tensor, lower: dict[str, Tensor]) -> Tensor:
        if loss.routing == "layerwise":
            each = [self._masked(batch, clean, lower, {path: torch.ones(len(batch), dtype=torch.bool)}) for path in self.paths]
            return torch.stack(each).mean()
        everywhere = torch.ones(len(batch), dtype=torch.bool)
        routed = {path: everywhere for path in self.paths}
        if loss.routing == "subset":
            sizes = torch.randint(1, len(self.paths) + 1, (len(batch),), generator=self.generator)
            ranks = torch.rand(len(self.paths), len(batch), generator=self.generator).argsort(dim=0).argsort(dim=0)
            routed = {path: ranks[i] < sizes for i, path in enumerate(self.paths)}
        return self._masked(batch, clean, lower, routed)

    def _masked(self, batch: Tensor, clean: Tensor, lower: dict[str, Tensor], routed: dict[str, Tensor]) -> Tensor:
        def replace(path: str) -> Callable[..., Tensor]:
            def hook(module: nn.Module, args: tuple[Tensor], output: Tensor) -> Tensor:
                if path not in routed:
                    return output
                x, g = args[0], lower[path]
                V, U = self.factors[path].views()
                r = torch.rand(g.shape, generator=self.generator)
                kept = torch.rand(len(x), 1, generator=self.generator)
                mask = g + (1 - g) * r
                y = ((x @ V) * mask) @ U + kept * (x @ self._delta(path))
                bias = getattr(module, "bias", None)
                y = y if bias is None else y + bias
                return torch.where(routed[path][:, None], y, output)

            return hook

        return self.target.behaviour.between(clean, self._hooked(batch, replace))

    def _delta(self, path: str) -> Tensor:
        V, U = self.factors[path].views()
        return self.model.sites[path].weight - V @ U

    def _simplicity(self, loss: SimplicityConfig) -> Tensor:
        total = torch.zeros(())
        for path in choose_sites(self.paths, loss.sites):
            V, U = self.factors[path].views()
            total = total + (V.square().sum(0) * U.square().sum(1) + 1e-6).pow(loss.p / 2).sum()
        return total

    def _capture(self, path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Tensor], output: Tensor) -> None:
            self.inputs[path] = args[0]

        return hook

    def _hooked(self, batch: Tensor, make: Callable[[str], Callable[..., Tensor | None]]) -> Tensor:
        handles = [self.module.get_submodule(path).register_forward_hook(make(path)) for path in self.paths]
        try:
            return self.module(batch)
        finally:
            for handle in handles:
                handle.remove()


class _Lower(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z):
        ctx.save_for_backward(z)
        return z.clamp(0, 1)

    @staticmethod
    def backward(ctx, grad):
        (z,) = ctx.saved_tensors
        return torch.where(z > 1, 0.0, torch.where(z > 0, grad, torch.where(grad < 0, SLOPE * grad, 0.0)))


def lower_sigmoid(z: Tensor) -> Tensor:
    """Return the importance for masks."""
    return _Lower.apply(z)


def upper_sigmoid(z: Tensor) -> Tensor:
    """Return the importance for minimality."""
    return torch.where(z > 1, 1 + SLOPE * (z - 1), z.clamp(0, 1))


def _plain_batch(data: SparseFeatures, size: int, generator: torch.Generator) -> Tensor:
    on = torch.rand(size, data.n_features, generator=generator) < data.probability
    values = torch.rand(size, data.n_features, generator=generator) * (data.high - data.low) + data.low
    return torch.where(on, values, 0.0)


def minimality(loss: MinimalityConfig, upper: dict[str, Tensor], progress: float) -> Tensor:
    """Return smooth-L0 minimality with its frequency term, on importances [positions, C] per site."""
    gamma = linear(progress, loss.gamma_start, loss.gamma_end, loss.anneal_until)
    total = torch.zeros(())
    for path in choose_sites(list(upper), loss.sites):
        g = upper[path]
        f = (g**2 / (g**2 + gamma**2)).mean(0) * (1 + gamma**2 if loss.normalized else 1)
        total = total + f.sum()
        if loss.frequency is not None:
            frequency = f * torch.log(1 + loss.frequency.reference_count * f) / math.log(2)
            total = total + loss.frequency.weight * frequency.sum()
    return total
