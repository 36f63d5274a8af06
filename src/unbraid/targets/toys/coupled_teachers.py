"""A student of several teachers at once: what is planted is only which teacher each of its neurons serves, and that is measured.

Teachers are small random MLPs, each with inputs of its own that are active now and then; the student answers all of them, each
with a share ρ of the next one's answer mixed in. It is trained, so its modules are whatever training made of them.

The outputs of group k depend on two groups of inputs, so there is cross-talk between groups, ρ² / (1 + ρ²) of it. Yet with the answers
coupled each neuron can still serve one teacher: cross-talk between outputs does not tell modules apart. With the inputs
coupled instead (teacher k reads `x_k + ρ x_{k+1}`), neurons serve one teacher each and read two groups.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field, NonNegativeFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from unbraid.core.errors import UserError
from unbraid.targets.panel import Panel
from unbraid.targets.toy import Check, Phase, Toy, Trained, toys
from unbraid.targets.toy_kit.ceiling import Ceiling, seed_ceiling
from unbraid.targets.toy_kit.feature_panel import feature_panel
from unbraid.targets.toy_kit.functional import IDLE, MIXED, cross_talk, group_means, input_effects, labels_of, module_names, specialisation
from unbraid.targets.toy_kit.mlp import MLP, as_mlp, seeded_mlp
from unbraid.targets.truth import SiteTruth, Truth

D_IN, D_HIDDEN, D_OUT = 4, 6, 2
EXAMPLES = 8192


@dataclass(frozen=True)
class GroupedInputs:
    """Groups of standard normal numbers, each group on or off as a whole."""

    groups: int
    d_group: int
    probability: float

    def batch(self, step: int, size: int, generator: torch.Generator) -> Float[Tensor, "batch n_features"]:
        """Draw `size` inputs; `step` plays no part."""
        on = torch.rand(size, self.groups, 1, generator=generator, device=generator.device) < self.probability
        return (torch.randn(size, self.groups, self.d_group, generator=generator, device=generator.device) * on).flatten(1)


@toys.register
class CoupledTeachers(Toy):
    """A student trained on the coupled answers of several teachers."""

    kind: Literal["coupled-teachers"] = "coupled-teachers"
    n_teachers: PositiveInt = 4
    """Teachers in parallel, each from 4 inputs over 6 neurons to 2 outputs."""
    width: PositiveInt = 64
    """Hidden neurons of the student; the teachers together have 6 each."""
    coupling: NonNegativeFloat = 0.3
    """ρ: how much of the next teacher is mixed in."""
    coupled: Literal["answers", "inputs"] = "answers"
    """Where it is mixed in: `y_k = T_k(x_k) + ρ T_{k+1}(x_{k+1})`, or `y_k = T_k(x_k + ρ x_{k+1})`."""
    connection_cost: NonNegativeFloat = 2e-4
    """λ: weight of the L1 norm of the student's matrices in training."""
    probability: float = Field(default=0.25, gt=0, le=1)
    """Chance that a teacher's inputs are active."""

    summary: ClassVar[str] = "a student of 4 coupled teachers: rank-one pieces of its neurons, grouped by the teacher that each serves"
    lesson: ClassVar[str] = "neither Newman's Q nor specialised neurons certify modules; who serves whom must be asked by intervention"
    sites: ClassVar[tuple[str, ...]] = ("linear1", "linear2")
    training_steps: ClassVar[int] = 4000
    training_batch: ClassVar[int] = 512
    recipe: ClassVar[Mapping[str, Any]] = {
        "steps": 4000,
        "prune": {"at": 0.7, "below": 0.05},
        "batch_size": 1024,
        "components": 80,
        "importance": {"kind": "layerwise-mlp", "hidden": 64},
        "losses": {
            "stochastic": {"routing": "subset"},
            "faithfulness": {"coefficient": 3e-3, "relative": True},
            "minimality": {"coefficient": 1e-4},
        },
        "optimizer": {"factors": {"learning_rate": 3e-3}, "importance": {"learning_rate": 3e-3}},
    }

    hidden_sites: ClassVar[tuple[str, str] | None] = ("linear1", "linear2")
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {"ρ 0": {"coupling": 0.0}, "ρ 0.7": {"coupling": 0.7}}
    phase: ClassVar[Phase | None] = Phase("coupling", (0.0, 0.3, 0.7), "connection_cost", (0.0, 2e-4, 6e-4))

    @property
    def groups(self) -> list[range]:
        """The input columns of each teacher."""
        return [range(k * D_IN, (k + 1) * D_IN) for k in range(self.n_teachers)]

    @property
    def output_groups(self) -> list[range]:
        """The output columns of each teacher."""
        return [range(k * D_OUT, (k + 1) * D_OUT) for k in range(self.n_teachers)]

    @cached_property
    def teachers(self) -> tuple[Float[Tensor, "k d_in d_hidden"], Float[Tensor, "k d_hidden d_out"]]:
        """The teachers' weights; each output has unit variance while its teacher is active."""
        generator = torch.Generator().manual_seed(self.seed)
        A = F.normalize(torch.randn(self.n_teachers, D_IN, D_HIDDEN, generator=generator), dim=1)
        B = torch.randn(self.n_teachers, D_HIDDEN, D_OUT, generator=generator)
        x = torch.randn(self.n_teachers, 20_000, D_IN, generator=generator)
        return A, B / (F.relu(x @ A) @ B).std(dim=1, keepdim=True)

    def build(self) -> nn.Module:
        """Return an untrained student."""
        return MLP((self.n_teachers * D_IN, self.width, self.n_teachers * D_OUT))

    def data(self) -> GroupedInputs:
        """Return inputs of which each teacher's are active now and then."""
        return GroupedInputs(self.n_teachers, D_IN, self.probability)

    def wanted(self, inputs: Tensor) -> Tensor:
        """Return the coupled teachers' answers."""
        return self._answers(inputs, F.relu)

    def naive(self, inputs: Tensor) -> Tensor:
        """Return what the best linear model answers: for symmetric inputs, every ReLU replaced by a half."""
        return self._answers(inputs, _half)

    def _answers(self, inputs: Tensor, activation: Callable[[Tensor], Tensor]) -> Tensor:
        A, B = self.teachers
        x = inputs.unflatten(-1, (self.n_teachers, D_IN))
        if self.coupled == "inputs":
            x = x + self.coupling * x.roll(-1, dims=-2)
        y = torch.einsum("bkj,kjo->bko", activation(torch.einsum("bki,kij->bkj", x, A)), B)
        if self.coupled == "answers":
            y = y + self.coupling * y.roll(-1, dims=-2)
        return y.flatten(1)

    def train(self, seed: int = 0) -> Trained:
        """Train a student from this seed; the teachers are those of the toy's own seed.

        Raises:
            UserError: Some teacher's outputs are not learned.
        """
        generator = torch.Generator().manual_seed(seed)
        module = seeded_mlp((self.n_teachers * D_IN, self.width, self.n_teachers * D_OUT), False, seed)
        optimizer = torch.optim.Adam(module.parameters(), lr=3e-3)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.training_steps)
        data = self.data()
        for step in range(self.training_steps):
            x = data.batch(step, self.training_batch, generator)
            optimizer.zero_grad()
            cost = torch.stack([parameter.abs().sum() for parameter in module.parameters()]).sum()
            (F.mse_loss(module(x), self.wanted(x)) + self.connection_cost * cost).backward()
            optimizer.step()
            schedule.step()
        trained = self.measure(module)
        unlearned = trained.unlearned(share=0.3)
        if unlearned:
            raise UserError(
                f"Training {self.kind} with seed {seed} left teachers {unlearned} unlearned.", "Train again with another --seed."
            )
        return trained

    def measure(self, module: nn.Module) -> Trained:
        """Return the squared error over all outputs where only one teacher's inputs are active, beside that of the best linear model."""
        generator = torch.Generator().manual_seed(0)
        loss, naive = [], []
        for group in self.groups:
            x = torch.zeros(2048, self.n_teachers * D_IN)
            x[:, list(group)] = torch.randn(2048, D_IN, generator=generator)
            wanted = self.wanted(x)
            with torch.no_grad():
                loss.append((module(x) - wanted).square().sum(-1).mean())
            naive.append((self.naive(x) - wanted).square().sum(-1).mean())
        return Trained(module, torch.stack(loss), torch.stack(naive))

    def effects(self, module: MLP) -> Float[Tensor, "k width"]:
        """Return what each teacher has to do with each neuron, in mean squared change of the outputs.

        With coupled answers: what resampling the teacher's inputs does to the neuron, times what the neuron writes. With coupled inputs, where
        two teachers read the same inputs: what resampling the neuron alone does to the teacher's outputs.
        """
        x = self._examples()
        write = module.get_parameter("linear2.weight").detach().square()  # [outputs, width]
        if self.coupled == "answers":
            return input_effects(lambda inputs: module.hidden(inputs, 1), x, self.groups) * write.sum(0)
        with torch.no_grad():
            variance = module.hidden(x, 1).var(dim=0)
        return torch.stack([write[list(group)].sum(0) for group in self.output_groups]) * 2 * variance

    def labels(self, module: MLP) -> Int[Tensor, " width"]:
        """Return which teacher each neuron serves, `MIXED` if none has 80 % of the effect and `IDLE` if it does nothing."""
        return labels_of(self.effects(module))

    def _examples(self) -> Tensor:
        return self.data().batch(0, EXAMPLES, torch.Generator().manual_seed(1))

    def truth(self, module: nn.Module) -> Truth:
        """Return the student's neurons as rank-one pieces of both matrices, by the teacher that each serves; idle neurons are left out."""
        student = as_mlp(module)
        labels = self.labels(student)
        used = (labels != IDLE).nonzero()[:, 0]
        read, write = (student.get_parameter(f"linear{layer}.weight").detach().T for layer in (1, 2))
        with torch.no_grad():
            typical = student.hidden(self._examples(), 1)[:, used].square().mean(0).div(self.probability).sqrt()

        def firing(inputs: Tensor) -> Tensor:
            with torch.no_grad():
                return student.hidden(inputs, 1)[:, used] / typical

        def on(inputs: Tensor) -> Tensor:
            # A trained neuron hears a little of other teachers' inputs as well; that is not what it is for.
            active = torch.stack([(inputs[:, self.inputs_of(k)] != 0).any(1) for k in range(self.n_teachers)], dim=1)
            wanted = active[:, labels[used].clamp(min=0)] | (labels[used] == MIXED)
            return (wanted & (firing(inputs) > 0.02)).to(inputs.dtype)

        def needed(inputs: Tensor) -> Tensor:
            h = firing(inputs)
            return torch.where(h > 0.5, 1.0, torch.where(h < 1e-3, 0.0, torch.nan))

        names, eye = module_names(labels[used], "teacher"), torch.eye(self.width)
        pieces = {"linear1": (read[:, used], eye[used]), "linear2": (eye[:, used], write[used])}
        return Truth(
            sites={
                path: SiteTruth(V=V, U=U, pattern="sparse", on=on, needed=needed, modules=names, any_basis=True)
                for path, (V, U) in pieces.items()
            },
            module_inputs={f"teacher {k}": tuple(self.inputs_of(k)) for k in range(self.n_teachers)},
            # Any basis of a module's subspace will do, so counts of neurons bind nobody; and no two students agree fully on the modules.
            bars={**{f"l0/{path}": (None, None) for path in pieces}, "module_ari": (None, None)},
        )

    def inputs_of(self, teacher: int) -> list[int]:
        """Return the input columns that a teacher reads."""
        second = [(teacher + 1) % self.n_teachers] if self.coupled == "inputs" and self.coupling > 0 else []
        return [column for k in (teacher, *second) for column in self.groups[k]]

    def checks(self, module: nn.Module) -> tuple[Check, ...]:
        """Return whether the student learned the teachers, has the planted cross-talk, and has neurons that serve one teacher."""
        student, x = as_mlp(module), self._examples()
        effects, labels = self.effects(student), self.labels(student)
        wanted = self.wanted(x)
        with torch.no_grad():
            unexplained = (student(x) - wanted).square().sum() / (wanted - wanted.mean(0)).square().sum()
        linear = (self.naive(x) - wanted).square().sum() / (wanted - wanted.mean(0)).square().sum()
        mixed = effects[:, labels == MIXED].sum() / effects.sum()
        talk = cross_talk(group_means(input_effects(student, x, self.groups), self.output_groups))
        planted = self.coupling**2 / (1 + self.coupling**2)
        return (
            Check("variance left unexplained", float(unexplained), high=0.02, why="the student has not learned its teachers"),
            Check("variance left unexplained by the best linear model", float(linear), low=0.1, why="the task needs no neurons"),
            Check(
                "cross-talk between input groups", talk, planted - 0.03, planted + 0.03, why="the outputs are not coupled as they should be"
            ),
            Check(
                "share of the effects on neurons that serve one teacher", float(1 - mixed), low=0.8, why="there are no modules by function"
            ),
            Check("specialisation, for reading", specialisation(effects), why="high even where outputs are coupled"),
            Check(
                "ARI of its neurons' teachers with another student's, for reading",
                self.ceiling(student, self.train(self.seed + 1).module).ari,
                why="training leaves open which neuron serves whom",
            ),
        )

    def panel(self, module: nn.Module) -> Panel:
        """Return the sceptic's panel over the range of each input, beside the best linear model."""

        def active(inputs: Tensor) -> Tensor:
            return (inputs.unflatten(-1, (self.n_teachers, D_IN)) != 0).any(-1)

        return feature_panel(self, module, torch.linspace(-2.0, 2.0, 21), active=active, active_word="active teachers")

    def ceiling(self, first: nn.Module, second: nn.Module) -> Ceiling:
        """Return how far two students of the same teachers agree on which neuron serves whom; idle neurons are left out."""
        x = self._examples()
        students = [as_mlp(module) for module in (first, second)]
        labels = [self.labels(student) for student in students]
        with torch.no_grad():
            firing = [student.hidden(x, 1)[:, label != IDLE] for student, label in zip(students, labels, strict=True)]
        kept = [label[label != IDLE] for label in labels]
        return seed_ceiling(firing[0], firing[1], kept[0], kept[1])


def _half(x: Tensor) -> Tensor:
    return x / 2
