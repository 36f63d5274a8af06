"""Which settings make a decomposition? One frozen tree; every field says what it does and becomes the documentation of `config show`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, SerializeAsAny, model_validator

from unbraid.core.config import Config
from unbraid.decompose.importance_function import ImportanceConfig, importance_functions
from unbraid.decompose.initialiser import InitialisationConfig, initialisations
from unbraid.decompose.step import LossConfig, losses


class WarmupConfig(Config):
    """Steps on faithfulness alone before training, so that the subcomponents start by adding up to the weights."""

    steps: NonNegativeInt = 200
    """How many; 0 for none."""
    learning_rate: PositiveFloat = 0.01
    """AdamW's rate."""
    weight_decay: NonNegativeFloat = 0.0
    """AdamW's weight decay."""


class GroupConfig(Config):
    """How one group of parameters is optimised, by AdamW."""

    learning_rate: NonNegativeFloat = 1e-3
    """The highest rate; 0 leaves the group as it starts, and then what is compared is the start."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """How the rate falls."""
    final_share: NonNegativeFloat = 0.0
    """Share of the rate at the last step, for the cosine."""
    warmup_share: float = Field(default=0.0, ge=0, lt=1)
    """Share of the run over which the rate grows from 0."""
    weight_decay: NonNegativeFloat = 0.0
    """AdamW's weight decay."""
    clip: PositiveFloat | None = None
    """Largest gradient norm of the group; null for none."""


class OptimizerConfig(Config):
    """The two groups of parameters."""

    factors: GroupConfig = GroupConfig()
    """V and U."""
    importance: GroupConfig = GroupConfig()
    """The importance function."""
    epsilon: PositiveFloat = 1e-8
    """AdamW's ε. Where outputs are small, gradients can fall below the usual 1e-8, and then ε decides the step."""
    sharded: bool = False
    """Divide AdamW's two averages among the ranks, each of which moves its slice of every parameter; one rank has all of it either way."""


class StartsConfig(Config):
    """Several starts, of which the best by the run's own objective goes on; the truth plays no part."""

    count: PositiveInt = 3
    """How many."""
    until: float = Field(default=0.5, gt=0, lt=1)
    """Share of the run after which the choice is made."""


class PruneConfig(Config):
    """Removing subcomponents that carry nothing, once."""

    at: float = Field(default=0.7, gt=0, lt=1)
    """Share of the run after which it is done."""
    below: float = Field(default=0.05, gt=0, lt=1)
    """Remove those smaller than this share of the site's largest, by ‖V_c‖ ‖U_c‖."""


class EvaluationConfig(Config):
    """How the scorecard measures."""

    batches: PositiveInt = 10
    """Fresh batches over which each line has its interval."""
    batch_size: PositiveInt = 1024
    """Inputs per batch; the shared adversary chooses once per batch."""
    adversary_steps: tuple[PositiveInt, ...] = (20, 40, 80, 160, 320)
    """Budgets of the fresh adversary; the first one has the bar."""
    ladder_batches: PositiveInt = 2
    """Batches over which the higher budgets, and the nulls, are measured."""
    adversary_step_size: PositiveFloat = 0.1
    """Length of a sign step."""


def _parse_losses(value: object) -> object:
    """Read each loss by its `kind`, which is the loss's name in the mapping unless it is given."""
    if not isinstance(value, Mapping):
        raise ValueError("losses is a mapping from a name to the settings of a loss")
    return {name: losses.parse(tree, default_kind=str(name)) for name, tree in value.items() if tree is not None}


class DecomposeConfig(Config):
    """Everything that decides a decomposition; with the target it fixes the result to the bit on one kind of machine."""

    target: Mapping[str, Any] | None = None
    """What is decomposed: the `kind` and the knobs of a toy; null for a module given in Python."""
    seed: NonNegativeInt = 0
    """Decides initialisation, data, masks, routing and adversary, each by its own stream."""
    steps: PositiveInt = 10_000
    """Optimiser steps; every schedule spans them, so fewer steps compress the schedules."""
    batch_size: PositiveInt = 1024
    """Inputs per step."""
    accumulate: PositiveInt = 1
    """Parts into which a step's batch is divided to save memory; must divide batch_size. Means over inputs come out as undivided, up to rounding
    and to which random numbers are drawn. A frequency term does not, since it sees one part at a time, and an adversary whose choice
    several inputs share moves once per part."""
    precision: Literal["fp32", "high", "bf16"] = "fp32"
    """In which masked passes and the importance function multiply; the clean pass, Δ, minimality, masks and sources stay in fp32. `high` is torch's: on a GPU
    TensorFloat32, on a CPU with a tile unit each number as the sum of two bfloat16 (errors of a few 2^-18, where fp32 has 2^-24), elsewhere fp32.
    `bf16` is autocast."""
    recompute: bool = False
    """Keep no activations of masked passes between forward and backward but run each pass again: a quarter more time. What is left is one pass at a
    time, so it pays where a step has several of them."""
    components: PositiveInt | Mapping[str, int] | Literal["suggested"] = 20
    """C, the number of subcomponents per site: one number, globs over sites, or "suggested", the wider side of each matrix. Best well above the
    number of mechanisms."""
    initialisation: Annotated[SerializeAsAny[InitialisationConfig], BeforeValidator(initialisations.parse)] = Field(
        default_factory=lambda: initialisations.parse("gaussian")
    )
    """Where V and U start."""
    warmup: WarmupConfig = WarmupConfig()
    """Steps on faithfulness alone."""
    importance: Annotated[SerializeAsAny[ImportanceConfig], BeforeValidator(importance_functions.parse)] = Field(
        default_factory=lambda: importance_functions.parse("layerwise-mlp")
    )
    """The function that decides what each input needs."""
    losses: Annotated[Mapping[str, SerializeAsAny[LossConfig]], BeforeValidator(_parse_losses)] = Field(
        default_factory=lambda: {name: losses.parse(name) for name in ("stochastic", "minimality")}
    )
    """Name → loss; the name is its kind unless `kind` says otherwise, and null takes a preset's loss out."""
    starts: StartsConfig | None = None
    """Try several starts and go on with the best; null for one."""
    prune: PruneConfig | None = None
    """Remove subcomponents that carry nothing; null keeps all."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """How the parameters are optimised."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """How the scorecard measures."""
    device: str = "cpu"
    """Where it runs: cpu, cuda, cuda:1, mps."""
    threads: PositiveInt = 1
    """Compute threads on the CPU; small models are fastest with one."""
    log_every_steps: PositiveInt = 100
    """How often metrics are written."""
    save_every_steps: PositiveInt = 1000
    """How often the state is saved, for --resume."""

    @model_validator(mode="after")
    def _check_parts(self) -> DecomposeConfig:
        if self.batch_size % self.accumulate:
            raise ValueError(f"accumulate {self.accumulate} does not divide batch_size {self.batch_size}")
        return self
