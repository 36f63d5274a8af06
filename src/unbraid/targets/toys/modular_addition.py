"""A one-layer transformer that adds modulo a prime, by waves of a few frequencies (Nanda et al. 2023, "Progress Measures for Grokking").

The model turns both numbers into waves, its neurons make products of them, and the logits are waves of the sum. The planted modules are
the key frequencies: the subspace of the stream in which the neurons read waves of one frequency, and the one in which they write those
waves of the sum. What is the same for all inputs is a module of its own, the level. All of them make the logits of every input, so nothing
that asks when parts are needed can tell them apart. They are found by Fourier analysis of the trained model, never from a decomposition.

The behaviour is the logits, not the probabilities. These are so far from even that most inputs would keep theirs without any single
frequency, though not without two; which ones an input needs would not be decided.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field, NonNegativeFloat, PositiveInt
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from unbraid.core.errors import UserError
from unbraid.targets.behaviour import kl, mse
from unbraid.targets.matrices import weight_of
from unbraid.targets.panel import Panel
from unbraid.targets.toy import Check, Toy, Trained, toys
from unbraid.targets.toy_kit.circuits import Pieces, readers, roots
from unbraid.targets.toy_kit.class_panel import class_panel
from unbraid.targets.toy_kit.fourier import coefficients, embedding_shares, of_sum, variance_shares, waves
from unbraid.targets.toy_kit.transformer import Block, Decoder
from unbraid.targets.truth import SiteTruth, Truth

CLEAN = 0.85
"""A neuron belongs to a frequency that explains this share of its variance (as in the source); others belong to none."""
KEY = 0.02
"""A key frequency's neurons have at least this share of all neurons' variance."""
CLEAR = 0.1
"""A direction of the stream carries a frequency if its waves are at least this share of the strongest direction's."""
LEVEL = "level"
READ, WRITE = "blocks.0.mlp_in", "blocks.0.mlp_out"


@dataclass(frozen=True)
class Pairs:
    """All pairs of numbers below p with an equals sign behind them, each equally likely."""

    p: int

    def all(self) -> Int[Tensor, "pairs 3"]:
        """Return every pair once, the second number changing fastest."""
        number = torch.arange(self.p)
        pairs = torch.cartesian_prod(number, number)
        return torch.cat([pairs, torch.full((len(pairs), 1), self.p)], dim=1)

    def batch(self, step: int, size: int, generator: torch.Generator) -> Int[Tensor, "batch 3"]:
        """Draw `size` pairs; `step` plays no part."""
        pairs = torch.randint(0, self.p, (size, 2), generator=generator, device=generator.device)
        return F.pad(pairs, (0, 1), value=self.p)


@toys.register
class ModularAddition(Toy):
    """A one-layer decoder that answers `a + b mod p`; published: p 113, width 128, 512 neurons, 30 % of the pairs, rate 1e-3."""

    kind: Literal["modular-addition"] = "modular-addition"
    p: int = Field(default=53, ge=5)
    """The prime."""
    d_model: PositiveInt = 64
    """Width of the stream."""
    n_heads: PositiveInt = 4
    """Heads."""
    d_mlp: PositiveInt = 128
    """Neurons."""
    train_share: float = Field(default=0.6, gt=0, lt=1)
    """Share of the pairs that are trained on; with a small prime, fewer are learned by heart for long."""
    training_steps: PositiveInt = 4000
    """Steps of AdamW, each on all training pairs."""
    learning_rate: float = Field(default=2e-3, gt=0)
    """AdamW's rate."""
    weight_decay: NonNegativeFloat = 1.0
    """AdamW's weight decay, which is what makes the waves win."""

    summary: ClassVar[str] = "addition mod 53 by waves: one module per key frequency in mlp_in and mlp_out, all used on every input"
    lesson: ClassVar[str] = (
        "what an algorithm's parts are need not show in when they are needed; neurons of one frequency work as one subspace"
    )
    sites: ClassVar[tuple[str, ...]] = (READ, WRITE)
    behaviour: ClassVar[Literal["mse", "kl"]] = "mse"
    recipe: ClassVar[Mapping[str, Any]] = {
        "steps": 3000,
        "batch_size": 128,
        "components": {"*.mlp_in": 48, "*.mlp_out": 40},
        "prune": {"at": 0.75, "below": 0.05},
        "importance": {"kind": "layerwise-mlp", "hidden": 8},
        "losses": {
            "stochastic": {"routing": "subset"},
            "minimality": {"coefficient": 0.03, "frequency": None, "gamma_end": 1.0, "normalized": True},
            "simplicity": {"coefficient": 0.2, "p": 0.5, "decay": {"begin": 0.7, "end": 0.75, "final_share": 1e-3}},
        },
        "optimizer": {"factors": {"learning_rate": 5e-3}, "importance": {"learning_rate": 3e-3}},
        "evaluation": {"batch_size": 256},
    }

    def build(self) -> Decoder:
        """Return an untrained decoder; embeddings start small, since large ones are learned by heart."""
        decoder = Decoder(
            self.p + 1, 3, self.d_model, n_layers=1, n_heads=self.n_heads, d_mlp=self.d_mlp, d_out=self.p, positions="learned", trimmed=True
        )
        with torch.no_grad():
            for name in ("embed.weight", "place.weight"):
                decoder.get_parameter(name).mul_(self.d_model**-0.5)
        return decoder

    def data(self) -> Pairs:
        """Return the pairs, those held out from training included."""
        return Pairs(self.p)

    def wanted(self, inputs: Tensor) -> Tensor:
        """Return the sum modulo p."""
        return (inputs[:, 0] + inputs[:, 1]).remainder(self.p)

    def naive(self, inputs: Tensor) -> Tensor:
        """Return equal logits: whoever knows only one of the numbers knows nothing."""
        return torch.zeros(len(inputs), self.p, device=inputs.device)

    def split(self, seed: int) -> tuple[Int[Tensor, "train 3"], Int[Tensor, "held_out 3"]]:
        """Return the pairs that training with a seed sees, and those that it does not."""
        pairs = self.data().all()
        order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(seed))
        count = round(self.train_share * len(pairs))
        return pairs[order[:count]], pairs[order[count:]]

    def train(self, seed: int = 0) -> Trained:
        """Train on all training pairs at once, at a constant rate.

        Raises:
            UserError: Fewer than 99 % of the held-out pairs are right: the model has learned by heart.
        """
        with torch.random.fork_rng(devices=[]):  # torch draws its layers' weights from the global stream
            torch.manual_seed(seed)
            module = self.build()
        seen, held_out = self.split(seed)
        optimizer = torch.optim.AdamW(module.parameters(), lr=self.learning_rate, betas=(0.9, 0.98), weight_decay=self.weight_decay)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 0.1, total_iters=10)
        for _ in range(self.training_steps):
            optimizer.zero_grad()
            F.cross_entropy(module(seen), self.wanted(seen)).backward()
            optimizer.step()
            schedule.step()
        right = self._accuracy(answers(module, held_out), held_out)
        if right < 0.99:
            raise UserError(
                f"Training {self.kind} with seed {seed} got {right:.1%} of the held-out pairs right.",
                "Train with more training_steps, a larger train_share or another --seed.",
            )
        return self.measure(module)

    def measure(self, module: nn.Module) -> Trained:
        """Return the cross-entropy by answer over all pairs, beside that of a guess."""
        pairs = self.data().all()
        loss = F.cross_entropy(answers(module, pairs), self.wanted(pairs), reduction="none")
        by_answer = torch.zeros(self.p).index_add_(0, self.wanted(pairs), loss) / self.p
        return Trained(module, by_answer, torch.full((self.p,), float(self.p)).log())

    def _accuracy(self, logits: Tensor, pairs: Tensor) -> float:
        return float((logits.argmax(-1) == self.wanted(pairs)).float().mean())

    def _by_pair(self, values: Float[Tensor, "pairs n"]) -> Float[Tensor, "p p n"]:
        return values.view(self.p, self.p, -1)

    def labels(self, module: nn.Module) -> tuple[Int[Tensor, " d_mlp"], list[int]]:
        """Return each neuron's frequency (0 for none), and the key frequencies, in rising order."""
        _, h = mlp_values(module, self.data().all())
        shares = variance_shares(self._by_pair(h))
        share, best = shares.max(dim=0)
        labels = torch.where(share >= CLEAN, best + 1, 0)
        power = h.var(dim=0)
        key = [k for k in labels.unique().tolist() if k and float(power[labels == k].sum() / power.sum()) >= KEY]
        if not key:  # a model that does not work by waves: its strongest frequency stands for the claim, which the checks then refuse
            key = [int((shares * power).sum(dim=1).argmax()) + 1]
        return torch.where(torch.isin(labels, torch.tensor(key)), labels, 0), key

    def planted(self, module: nn.Module) -> dict[str, tuple[Pieces, tuple[str, ...]]]:
        """Return for each site its pieces and the module of each: what is read, and what is written, at each key frequency."""
        _, key = self.labels(module)
        return {READ: self._read_pieces(module, key), WRITE: self._write_pieces(module, key)}

    def _read_pieces(self, module: nn.Module, key: list[int]) -> tuple[Pieces, tuple[str, ...]]:
        """Read the stream's mean, and at each frequency the directions in which it has waves of a and b; write what they make of the neurons."""
        stream, _ = mlp_values(module, self.data().all())
        found = coefficients(self._by_pair(stream))
        directions, names = [stream.mean(0)[:, None]], [LEVEL]
        for k in key:
            _, sizes, rows = torch.linalg.svd(found[k - 1], full_matrices=False)
            directions.append(rows[sizes >= CLEAR * sizes[0]].T)
            names += [name_of(k)] * directions[-1].shape[1]
        basis = torch.cat(directions, dim=1)
        return (readers(basis, stream), basis.T @ weight_of(module.get_submodule(READ))), tuple(names)

    def _write_pieces(self, module: nn.Module, key: list[int]) -> tuple[Pieces, tuple[str, ...]]:
        """Write the mean, and at each frequency the two directions that go with the sine and cosine of the answer; read what makes them."""
        _, active = mlp_values(module, self.data().all())
        M, mean = weight_of(module.get_submodule(WRITE)), active.mean(0)
        seen = weight_of(module.get_submodule("unembed")) @ torch.cat([waves(self.p)[k - 1] for k in key], dim=1)  # [d_model, 2 per key]
        root, _ = roots((active - mean) @ M)
        moment = root @ root
        written = torch.linalg.solve(seen.T @ moment @ seen, seen.T @ moment)  # what the stream gets at each amplitude that is seen
        level = readers(mean[:, None], active)
        changes = M - level @ (mean @ M)[None]
        V, U = torch.cat([level, changes @ seen], dim=1), torch.cat([(mean @ M)[None], written])
        return (V, U), (LEVEL, *(name_of(k) for k in key for _ in range(2)))

    def truth(self, module: nn.Module) -> Truth:
        """Return the pieces of each frequency in both matrices; within a frequency any basis will do."""
        sites: dict[str, SiteTruth] = {}
        stream, active = mlp_values(module, self.data().all())
        for site, ((V, U), names) in self.planted(module).items():
            basis, _ = roots(stream if site == READ else active)
            on = everywhere(len(names))
            sites[site] = SiteTruth(V, U, "always_on", on=on, needed=on, read_basis=basis, modules=names, any_basis=True)
        # What the data never uses belongs to no frequency, so the pieces need not add up to the weights; and all modules together are one
        # to whoever asks when parts are needed, so that agreement with them says nothing. Both lines are for reading.
        bars = {"faithfulness": (None, None), "subspace_overlap": (0.9, None), "module_ari": (None, None)}
        return Truth(sites=sites, unresolvable=(frozenset(sites[READ].modules),), bars=bars)

    def checks(self, module: nn.Module) -> tuple[Check, ...]:
        """Return whether it generalises, whether the key frequencies carry the answers, and whether every input needs each of them."""
        pairs, (_, held_out) = self.data().all(), self.split(self.seed)
        labels, key = self.labels(module)
        logits = self._by_pair(answers(module, pairs))
        waves = of_sum(logits - logits.mean(dim=(0, 1)), key)
        losses = [self._losses(module, labels == k) for k in key]
        needed, noticed = (min(float((loss[of] >= least).float().mean()) for loss in losses) for of, least in ((0, 0.01), (1, 0.1)))
        power = mlp_values(module, pairs)[1].var(dim=0)
        clean = logits.flatten(0, 1)
        planted = {site: V @ U for site, ((V, U), _) in self.planted(module).items()}
        kept, lost = (
            float(mse(clean, answers(module, pairs, {site: share * M for site, M in planted.items()})).mean()) for share in (1.0, 0.0)
        )
        embedded = embedding_shares(module.get_parameter("embed.weight")[: self.p])
        return (
            Check("accuracy on held-out pairs", self._accuracy(answers(module, held_out), held_out), 0.99, None, "learned by heart"),
            Check("accuracy of the key waves alone", self._accuracy(waves.flatten(0, 1), pairs), 0.99, None, "other parts are needed too"),
            Check(
                "accuracy without the key waves",
                self._accuracy((logits - waves).flatten(0, 1), pairs),
                None,
                3 / self.p,
                "the answer is found without the key frequencies",
            ),
            Check("key frequencies", float(len(key)), 2, 10, "there is nothing to tell apart, or it is no Fourier solution"),
            Check(
                "share of neurons' variance with a key frequency", float(power[labels > 0].sum() / power.sum()), 0.8, None, "mixed neurons"
            ),
            Check("share of the embedding at key frequencies", float(embedded[torch.tensor(key) - 1].sum()), 0.7, None, "mixed embedding"),
            Check("inputs whose logits need the least needed frequency", needed, 0.95, None, "a frequency is not used on every input"),
            Check("share of the logits lost by the planted pieces", kept / lost, None, 0.05, "the planted pieces do not carry the logits"),
            # For reading: the frequencies back each other up, so that the probabilities move by 0.1 nats on few inputs.
            Check("inputs whose answer needs the least needed frequency", noticed),
        )

    def _losses(self, module: nn.Module, neurons: Tensor) -> tuple[Float[Tensor, " pairs"], Float[Tensor, " pairs"]]:
        """Return what each input loses without some neurons: as a share of its squared logits, and in nats."""
        pairs = self.data().all()
        clean = answers(module, pairs)
        ablated = answers(module, pairs, {WRITE: weight_of(module.get_submodule(WRITE)) * ~neurons[:, None]})
        return mse(clean, ablated) / clean.square().mean(-1), kl(clean, ablated)

    def panel(self, module: nn.Module) -> Panel:
        """Return the cross-entropy by answer."""
        return class_panel(self, module, self.wanted, [str(answer) for answer in range(self.p)], word="answer")


def name_of(frequency: int) -> str:
    """Return a module's name."""
    return f"frequency {frequency}"


def everywhere(rank: int) -> Callable[[Tensor], Float[Tensor, "batch 1 pieces"]]:
    """Return an importance of 1 on every input, at the one position that the trimmed layer computes."""
    return lambda inputs: torch.ones(len(inputs), 1, rank, device=inputs.device)


def answers(module: nn.Module, pairs: Int[Tensor, "batch 3"], sites: Mapping[str, Tensor] | None = None) -> Float[Tensor, "batch p"]:
    """Return the logits, with the matrices [d_in, d_out] of some sites replaced."""
    weights = {f"{path}.weight": M.T for path, M in (sites or {}).items()}
    with torch.no_grad():
        return functional_call(module, weights, (pairs,))


def mlp_values(module: nn.Module, pairs: Int[Tensor, "batch 3"]) -> tuple[Float[Tensor, "batch d_model"], Float[Tensor, "batch d_mlp"]]:
    """Return what the neurons read at the equals sign, and their activations.

    Raises:
        UserError: The model is not this toy's.
    """
    block = module.blocks[0] if isinstance(module, Decoder) else None
    if not isinstance(module, Decoder) or not isinstance(block, Block):
        raise UserError(f"The model is a {type(module).__name__}.", "Give the model that the toy's build() or load() returns.")
    with torch.no_grad():
        stream, last = module.start(pairs), slice(-1, None)
        after = stream[:, last] + block.attended(stream, block.pattern(stream, None, last))
        return after[:, 0], block.neurons(after)[:, 0]
