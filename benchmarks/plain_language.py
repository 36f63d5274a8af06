"""What does the language-model step cost when it is written plainly? The yardstick of the engine's speed on language models.

The mathematics is the engine's; the writing is that of the published one-file reference: a module in the place of each matrix that computes
`((x V) m) U + m_Δ (x Δ)` by autograd, Δ formed once per step, the model's own output chosen by `where` at positions that are not routed, masks
made anew for each pass, the KL from two log-softmaxes, the adversary's last gradient taken from the retained graph, the default AdamW.
It does no more than a careful person would: the dense product is computed only where routing needs it, and an ascent asks for the
gradient of the sources alone.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.plain import lower_sigmoid, minimality, upper_sigmoid
from unbraid.core.schedules import cosine
from unbraid.decompose.config import DecomposeConfig
from unbraid.decompose.losses.minimality import MinimalityConfig
from unbraid.decompose.losses.persistent_adversarial import PersistentAdversarialConfig
from unbraid.decompose.training import build
from unbraid.targets.target import Target


class PlainSite(nn.Module):
    """One matrix M [d_in, d_out] in its place in the model, dense or masked."""

    def __init__(self, weight: Tensor, V: Tensor, U: Tensor) -> None:
        super().__init__()
        self.weight, self.V, self.U = weight, V, U
        self.x = self.delta = torch.empty(0)
        self.mask: tuple[Tensor, Tensor, Tensor | None] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Return the matrix's output, and remember what it read where no mask is set."""
        if self.mask is None:
            self.x = x
            return x @ self.weight
        mask, kept, routed = self.mask
        y = ((x @ self.V) * mask) @ self.U + kept[..., None] * (x @ self.delta)
        return y if routed is None else torch.where(routed[..., None], y, x @ self.weight)


class PlainLanguageTraining:
    """A run of the adversarial recipe, written plainly.

    Args:
        target: A language model whose sites have no bias.
        config: Settings with exactly the losses faithfulness, stochastic by subsets, persistent-adversarial over bsc, and minimality.
    """

    def __init__(self, target: Target, config: DecomposeConfig) -> None:
        self.target, self.config = target, config
        self.model, self.function = build(target, config)
        self.module = copy.deepcopy(target.module).requires_grad_(False)
        self.sites: dict[str, PlainSite] = {}
        for path, site in self.model.sites.items():
            parent, _, name = path.rpartition(".")
            self.sites[path] = PlainSite(site.weight, *site.factors.views())
            setattr(self.module.get_submodule(parent), name, self.sites[path])
        groups = [
            {"params": list(self.model.parameters()), "lr": config.optimizer.factors.learning_rate},
            {"params": list(self.function.parameters()), "lr": config.optimizer.importance.learning_rate},
        ]
        self.optimizer = torch.optim.AdamW(groups, eps=config.optimizer.epsilon, weight_decay=0.0)
        self.generator = torch.Generator().manual_seed(config.seed)
        self.sources: dict[str, Tensor] = {}
        self.moments: dict[str, tuple[Tensor, Tensor]] = {}
        self.updates = 0

    def step(self, index: int) -> dict[str, float]:
        """Take one step and return its losses, unweighted, and their weighted sum."""
        config, losses = self.config, self.config.losses
        progress = index / config.steps
        tokens = self.target.data.batch(index, config.batch_size, self.generator)
        with torch.no_grad():
            clean = self.module(tokens)
        inputs = {path: site.x for path, site in self.sites.items()}
        logits = self.function(inputs, {})
        lower = {path: lower_sigmoid(z) for path, z in logits.items()}
        upper = {path: upper_sigmoid(z) for path, z in logits.items()}
        for site in self.sites.values():
            site.delta = site.weight - site.V @ site.U
        adversary = losses["persistent-adversarial"]
        assert isinstance(adversary, PersistentAdversarialConfig)
        self._start(lower)
        fixed = {path: g.detach() for path, g in lower.items()}
        for _ in range(adversary.ascent_steps):
            attached = {path: r.detach().requires_grad_() for path, r in self.sources.items()}
            found = self._adversarial(tokens, clean, fixed, attached)
            self._climb(adversary, torch.autograd.grad(found, list(attached.values())), progress)

        values = {"faithfulness": self._faithfulness(), "minimality": self._minimality(upper, progress)}
        values["stochastic"] = self._stochastic(tokens, clean, lower)
        attached = {path: r.detach().requires_grad_() for path, r in self.sources.items()}
        values["persistent-adversarial"] = self._adversarial(tokens, clean, lower, attached)
        last = torch.autograd.grad(values["persistent-adversarial"], list(attached.values()), retain_graph=True)
        total = sum((losses[name].weight(progress) * value for name, value in values.items()), torch.zeros(()))
        self.optimizer.zero_grad()
        total.backward()
        self._optimise(progress)
        self._climb(adversary, last, progress)
        return {name: float(value.detach()) for name, value in {**values, "loss": total}.items()}

    def _stochastic(self, tokens: Tensor, clean: Tensor, lower: dict[str, Tensor]) -> Tensor:
        lead, n = tokens.shape, len(self.sites)
        sizes = torch.randint(1, n + 1, lead, generator=self.generator)
        ranks = torch.rand(n, *lead, generator=self.generator).argsort(dim=0).argsort(dim=0)
        for index, (path, site) in enumerate(self.sites.items()):
            g = lower[path]
            r = torch.rand(g.shape, generator=self.generator)
            site.mask = (g + (1 - g) * r, torch.rand(lead, generator=self.generator), ranks[index] < sizes)
        return self._masked(tokens, clean)

    def _adversarial(self, tokens: Tensor, clean: Tensor, lower: dict[str, Tensor], sources: dict[str, Tensor]) -> Tensor:
        for path, site in self.sites.items():
            g, r = lower[path], sources[path]
            site.mask = (g + (1 - g) * r[..., :-1], r[..., -1], None)
        return self._masked(tokens, clean)

    def _masked(self, tokens: Tensor, clean: Tensor) -> Tensor:
        other = self.module(tokens)
        for site in self.sites.values():
            site.mask = None
        return F.kl_div(F.log_softmax(other, -1), F.log_softmax(clean, -1), log_target=True, reduction="none").sum(-1).mean()

    def _faithfulness(self) -> Tensor:
        deltas = [site.delta for site in self.sites.values()]
        return sum((delta.square().sum() for delta in deltas), torch.zeros(())) / sum(delta.numel() for delta in deltas)

    def _minimality(self, upper: dict[str, Tensor], progress: float) -> Tensor:
        loss = self.config.losses["minimality"]
        assert isinstance(loss, MinimalityConfig)
        return minimality(loss, {path: g.flatten(0, -2) for path, g in upper.items()}, progress)

    def _start(self, lower: dict[str, Tensor]) -> None:
        for path, g in lower.items():
            if path not in self.sources:
                shape = (*g.shape[:-1], g.shape[-1] + 1)
                self.sources[path] = torch.rand(shape, generator=self.generator)
                self.moments[path] = (torch.zeros(shape), torch.zeros(shape))

    def _climb(self, adversary: PersistentAdversarialConfig, grads: tuple[Tensor, ...], progress: float) -> None:
        self.updates += 1
        first_rate, second_rate = adversary.betas
        rate = adversary.learning_rate * (min(1.0, progress / adversary.warmup_share) if adversary.warmup_share else 1.0)
        for (path, r), grad in zip(self.sources.items(), grads, strict=True):
            first, second = self.moments[path]
            first.mul_(first_rate).add_(grad, alpha=1 - first_rate)
            second.mul_(second_rate).addcmul_(grad, grad, value=1 - second_rate)
            scale = (second / (1 - second_rate**self.updates)).sqrt() + 1e-8
            r.add_(rate * (first / (1 - first_rate**self.updates)) / scale).clamp_(0, 1)

    def _optimise(self, progress: float) -> None:
        for group, settings in zip(
            self.optimizer.param_groups, (self.config.optimizer.factors, self.config.optimizer.importance), strict=True
        ):
            if settings.clip is not None:
                nn.utils.clip_grad_norm_(group["params"], settings.clip)
            factor = cosine(progress, settings.final_share, settings.warmup_share) if settings.schedule == "cosine" else 1.0
            group["lr"] = settings.learning_rate * factor
        self.optimizer.step()
