"""Two layers of attention that continue a repeated pair: after `… S M … S` comes M (Olsson et al. 2022).

What is planted is defined here, since nobody has published it. Layer 0 moves each token one place on ("previous token": its q and
k by position, its v and o). In layer 1 the last S asks which place follows an S ("matching": q and k), and what stands there is
moved to the answer ("copying": v and o). Every input needs all three, so nothing that asks when parts are needed can tell them apart.
Their ranks and subspaces are found in the trained weights on the data (`circuits.py`), never from a decomposition.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from unbraid.core.errors import UserError
from unbraid.targets.behaviour import kl
from unbraid.targets.matrices import weight_of
from unbraid.targets.panel import Panel
from unbraid.targets.toy import Check, Toy, Trained, toys
from unbraid.targets.toy_kit.circuits import Circuit, Pieces, matching_circuit, moving_circuit, steepest_fall
from unbraid.targets.toy_kit.class_panel import class_panel
from unbraid.targets.toy_kit.repeated_pairs import RepeatedPairs, at_place, place_of_pair, repeats, unseen
from unbraid.targets.toy_kit.transformer import Decoder, uniform_attention
from unbraid.targets.truth import SiteTruth, Truth

PREVIOUS, MATCHING, COPYING = "previous token", "matching", "copying"
EXAMPLES = 2048


@toys.register
class Induction(Toy):
    """A two-layer attention-only decoder; published: 128 tokens, length 64, 1 trigger, width 16, batch 1024, 100,000 steps, decay 0.01."""

    kind: Literal["induction"] = "induction"
    n_tokens: int = Field(default=48, ge=4)
    """Ordinary tokens; more than the width, so that they are in superposition."""
    length: int = Field(default=16, ge=5)
    """Positions of a sequence."""
    n_triggers: NonNegativeInt = 0
    """Tokens of their own that S is drawn from; 0: S is any ordinary token."""
    d_model: PositiveInt = 16
    """Width of the stream and of the one head."""
    training_steps: PositiveInt = 3000
    """Steps of AdamW."""
    training_batch: PositiveInt = 512
    """Sequences per step."""
    weight_decay: NonNegativeFloat = 0.3
    """AdamW's weight decay; it drives directions that nothing needs to zero, so that ranks are clear."""

    summary: ClassVar[str] = "an induction head in two layers: previous-token, matching and copying circuits, each of a rank, always needed"
    lesson: ClassVar[str] = (
        "circuits that every input needs cannot be told apart by when they are needed; rank and subspace are what can be found"
    )
    sites: ClassVar[tuple[str, ...]] = ("blocks.*",)
    behaviour: ClassVar[Literal["mse", "kl"]] = "kl"
    recipe: ClassVar[Mapping[str, Any]] = {
        "steps": 4000,
        "batch_size": 64,
        "components": 20,
        "prune": {"at": 0.8, "below": 0.05},
        "importance": {"kind": "layerwise-mlp", "hidden": 8},
        "losses": {
            "stochastic": {"routing": "all"},
            # Sites that see the last position alone pay for it in full, where the others pay for it among all positions: less for them.
            "minimality": {
                "coefficient": 3e-3,
                "sites": ["blocks.0.*", "blocks.1.k", "blocks.1.v"],
                "frequency": None,
                "gamma_end": 1.0,
                "normalized": True,
                "decay": {"begin": 0.4, "end": 0.6, "final_share": 0.01},
            },
            "minimality-last": {
                "kind": "minimality",
                "coefficient": 2e-4,
                "sites": ["blocks.1.q", "blocks.1.o"],
                "frequency": None,
                "gamma_end": 1.0,
                "normalized": True,
                "decay": {"begin": 0.4, "end": 0.6, "final_share": 0.01},
            },
            "simplicity": {"coefficient": 0.02, "p": 0.5, "decay": {"begin": 0.75, "end": 0.8, "final_share": 1e-3}},
        },
        "optimizer": {"factors": {"learning_rate": 5e-3}, "importance": {"learning_rate": 5e-3, "final_share": 0.1}},
        "evaluation": {"batch_size": 128},
    }

    def build(self) -> Decoder:
        """Return an untrained decoder whose positions reach queries and keys only."""
        d_vocab = self.n_tokens + self.n_triggers + 1
        return Decoder(d_vocab, self.length, self.d_model, n_layers=2, positions="sinusoidal", trimmed=True)

    def data(self) -> RepeatedPairs:
        """Return the sequences."""
        return RepeatedPairs(self.n_tokens, self.length, self.n_triggers)

    def wanted(self, inputs: Tensor) -> Tensor:
        """Return M, the token behind the first S."""
        return inputs.gather(1, place_of_pair(inputs)[:, None] + 1)[:, 0]

    def naive(self, inputs: Tensor) -> Tensor:
        """Return the logits of somebody who copies any token of the sequence but S: no order, no matching."""
        counts = F.one_hot(inputs[:, 1:-1], self.n_tokens + self.n_triggers + 1).sum(1)
        counts.scatter_(1, inputs[:, -1:], 0)
        return (counts + 1e-6).log()

    def train(self, seed: int = 0) -> Trained:
        """Train on the last position alone, with a short warm-up and a cosine to zero.

        Raises:
            UserError: The loss at some place of the pair stays above a twentieth of the naive one.
        """
        generator = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):  # torch draws its layers' weights from the global stream
            torch.manual_seed(seed)
            module = self.build()
        data, warm = self.data(), min(200, self.training_steps // 10 + 1)
        optimizer = torch.optim.AdamW(module.parameters(), lr=3e-3, weight_decay=self.weight_decay)
        schedule = torch.optim.lr_scheduler.SequentialLR(
            optimizer,
            [
                torch.optim.lr_scheduler.LinearLR(optimizer, 1 / warm, total_iters=warm),
                torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(self.training_steps - warm, 1)),
            ],
            [warm],
        )
        for step in range(self.training_steps):
            tokens = data.batch(step, self.training_batch, generator)
            optimizer.zero_grad()
            F.cross_entropy(module(tokens), self.wanted(tokens)).backward()
            optimizer.step()
            schedule.step()
        trained = self.measure(module)
        unlearned = trained.unlearned(share=0.05)
        if unlearned:
            raise UserError(
                f"Training {self.kind} with seed {seed} left places {[place + 1 for place in unlearned]} unlearned.",
                "Train again with another --seed, or with more training_steps.",
            )
        return trained

    def measure(self, module: nn.Module) -> Trained:
        """Return the cross-entropy by the place of the first S, from 1 on, beside that of copying any token."""
        tokens = self._examples(4 * EXAMPLES)
        with torch.no_grad():
            loss = F.cross_entropy(module(tokens), self.wanted(tokens), reduction="none")
        naive = F.cross_entropy(self.naive(tokens), self.wanted(tokens), reduction="none")
        places = [place_of_pair(tokens) == place for place in range(1, self.length - 2)]
        return Trained(module, *(torch.stack([each[rows].mean() for rows in places]) for each in (loss, naive)))

    def _examples(self, count: int = EXAMPLES) -> Tensor:
        return self.data().batch(0, count, torch.Generator().manual_seed(1))

    def circuits(self, module: nn.Module) -> tuple[Circuit, ...]:
        """Return both layers' circuits on the data: where each looks and what it moves."""
        decoder, tokens = _decoder(module), self._examples()
        with torch.no_grad():
            streams, patterns = decoder.streams(tokens), decoder.attention(tokens)
        places = torch.as_tensor(decoder.sinusoids)
        found: list[Circuit] = []
        for layer, (look, move) in enumerate(((PREVIOUS, PREVIOUS), (MATCHING, COPYING))):
            W = {name: weight_of(decoder.get_submodule(f"blocks.{layer}.{name}")) for name in "qkvo"}
            keys, moved = streams[layer] + places, patterns[layer][:, 0] @ streams[layer]
            queries = keys[:, -moved.shape[1] :]
            q, k, v, o = (f"blocks.{layer}.{name}" for name in "qkvo")
            found.append(matching_circuit((q, k), look, queries.flatten(0, 1), keys.flatten(0, 1), W["q"], W["k"]))
            found.append(moving_circuit((v, o), move, moved.flatten(0, 1), W["v"], W["o"]))
        return tuple(found)

    def planted(self, module: nn.Module) -> list[tuple[Circuit, int]]:
        """Return the circuits, each with the rank at which its spectrum on the data falls most."""
        return [(circuit, steepest_fall(circuit.spectrum)[0]) for circuit in self.circuits(module)]

    def truth(self, module: nn.Module) -> Truth:
        """Return the circuits' pieces; which basis they come in is nobody's business, and no module is needed without the others."""
        sites: dict[str, SiteTruth] = {}
        # What the data never uses belongs to no circuit, so the pieces need not add up to the weights; and all modules together are one
        # to whoever asks when parts are needed, so that agreement with them says nothing. Both lines are for reading.
        bars: dict[str, tuple[float | None, float | None]] = {
            "faithfulness": (None, None),
            "subspace_overlap": (0.9, None),
            "module_ari": (None, None),
        }
        for circuit, rank in self.planted(module):
            for path, basis, (V, U) in zip(circuit.sites, circuit.read_bases, circuit.cut(rank), strict=True):
                sites[path] = SiteTruth(
                    V,
                    U,
                    "always_on",
                    on=self._on(path, rank),
                    needed=self._needed(path, rank),
                    read_basis=basis,
                    modules=(circuit.module,) * rank,
                    any_basis=True,
                )
                # Where else than at the pair a position needs a circuit depends on what the others do, so the count has a wide bar.
                bars[f"l0/{path}"] = (0.9 * rank / (1 if self._last_only(path) else self.length), rank + 1.0)
        return Truth(sites=sites, unresolvable=(frozenset({PREVIOUS, MATCHING, COPYING}),), bars=bars)

    def _last_only(self, path: str) -> bool:
        return path in ("blocks.1.q", "blocks.1.o")

    def _on(self, path: str, rank: int) -> Callable[[Tensor], Tensor]:
        """Return the oracle's importance: on wherever the site acts."""
        return lambda tokens: torch.ones(len(tokens), 1 if self._last_only(path) else tokens.shape[1], rank, device=tokens.device)

    def _needed(self, path: str, rank: int) -> Callable[[Tensor], Tensor]:
        """Return where a site is needed for certain: at the last S, at the first one (layer 0 moves it away), or at M."""
        if self._last_only(path):
            return self._on(path, rank)
        offset = 0 if path in ("blocks.0.k", "blocks.0.v") else 1
        return lambda tokens: at_place(tokens, offset, rank)

    def checks(self, module: nn.Module) -> tuple[Check, ...]:
        """Return whether an induction head was learned, whether it works by its attention, and whether the planted ranks carry it."""
        decoder, tokens = _decoder(module), self._examples()
        wanted, M = self.wanted(tokens), place_of_pair(tokens) + 1
        rows = torch.arange(len(tokens))
        with torch.no_grad():
            first, second = decoder.attention(tokens)
            clean = decoder(tokens)
            to_itself = decoder(tokens, {0: torch.eye(self.length).expand_as(first)})
            level = decoder(tokens, {0: uniform_attention(first)})
            strange = decoder(torch.cat([tokens[:, :-1], unseen(tokens, self.n_tokens)[:, None]], dim=1))
        naive = F.cross_entropy(self.naive(tokens), wanted)
        planted = self.planted(module)
        clear = min(steepest_fall(circuit.spectrum)[1] for circuit, _ in planted)
        all_lost = lost(module, tokens, {path: pieces for c, _ in planted for path, pieces in pieces_by_site(c, 0).items()})
        needed = min(float((losses(module, tokens, pieces_by_site(c, 0)) >= 0.1).float().mean()) for c, _ in planted)
        kept = lost(module, tokens, {path: pieces for c, rank in planted for path, pieces in pieces_by_site(c, rank).items()})
        chance = 1.5 * float((tokens[:, 1:-1] == wanted[:, None]).sum(1).float().mean()) / (self.length - 3)
        score = first[rows, 0, M, M - 1]
        return (
            Check("accuracy", accuracy(clean, wanted), 0.99, None, "the task is not learned"),
            Check(
                "loss over naive loss", float(F.cross_entropy(clean, wanted) / naive), None, 0.02, "copying any token does nearly as well"
            ),
            Check("previous-token score at M", float(score.mean()), 0.4, None, "layer 0 does not look one place back"),
            Check("matching score", float(second[rows, 0, 0, M].mean()), 0.75, None, "layer 1 does not look at M"),
            Check("accuracy, layer 0 looks at itself", accuracy(to_itself, wanted), None, chance, "M is found without its predecessor"),
            Check("accuracy, S unseen", accuracy(strange, wanted), None, chance, "M is found without a match"),
            # For reading: places near S see it in an average too, and the nearest sees most of it.
            Check("accuracy, layer 0 looks everywhere", accuracy(level, wanted)),
            Check("inputs that need the least needed circuit", needed, 0.95, None, "a circuit is not needed on every input"),
            Check("least fall of a spectrum at its rank", clear, 5.0, None, "a planted rank is not clear"),
            Check("share lost by the planted ranks together", kept / all_lost, None, 0.05, "the planted pieces do not carry the task"),
        )

    def panel(self, module: nn.Module) -> Panel:
        """Return the cross-entropy by the place of the pair, and by how many other tokens stand twice, which could be taken for S."""
        names = [f"S at {place}" for place in range(1, self.length - 2)]
        return class_panel(
            self, module, lambda x: place_of_pair(x) - 1, names, word="place", distractors=repeats, distractor_word="other repeated tokens"
        )


def accuracy(logits: Float[Tensor, "batch d_out"], wanted: Int[Tensor, " batch"]) -> float:
    """Return the share of right answers."""
    return float((logits.argmax(-1) == wanted).float().mean())


def pieces_by_site(circuit: Circuit, rank: int) -> dict[str, Pieces]:
    """Return both sites' pieces of a circuit that is cut to a rank."""
    return dict(zip(circuit.sites, circuit.cut(rank), strict=True))


def losses(module: nn.Module, tokens: Tensor, pieces: Mapping[str, Pieces]) -> Float[Tensor, " batch"]:
    """Return the KL divergence, in nats, from the model's answers to those with some sites replaced by the sum of their pieces."""
    weights = {f"{path}.weight": (V @ U).T for path, (V, U) in pieces.items()}
    with torch.no_grad():
        return kl(module(tokens), functional_call(module, weights, (tokens,)))


def lost(module: nn.Module, tokens: Tensor, pieces: Mapping[str, Pieces]) -> float:
    """Return the mean of `losses`."""
    return float(losses(module, tokens, pieces).mean())


def _decoder(module: nn.Module) -> Decoder:
    if not isinstance(module, Decoder):
        raise UserError(f"The model is a {type(module).__name__}.", "Give the model that the toy's build() or load() returns.")
    return module
