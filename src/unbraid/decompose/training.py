"""What does a training run hold between two steps? The trained parts, the optimiser, the losses' memory and the random streams."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from unbraid.core.devices import find_device
from unbraid.core.errors import UserError
from unbraid.core.ranks import ALONE, Ranks
from unbraid.core.schedules import cosine
from unbraid.core.seeds import Streams, stream_seed
from unbraid.decompose.config import DecomposeConfig, GroupConfig, WarmupConfig
from unbraid.decompose.finite import finite
from unbraid.decompose.importance_function import ImportanceFunction, SiteShape
from unbraid.decompose.losses.faithfulness import model_faithfulness
from unbraid.decompose.model import DecomposedModel
from unbraid.decompose.sharded import Shards
from unbraid.decompose.site import Factors
from unbraid.decompose.step import Loss
from unbraid.targets.data import Batch, draw, move
from unbraid.targets.target import Target


@dataclass
class Training:
    """The state of a run between two steps; a checkpoint holds all of it.

    Attributes:
        model: The decomposed model.
        function: The importance function.
        losses: Name → loss.
        optimizer: One AdamW over both groups, of which it knows this rank's slices.
        streams: The run's random streams.
        step: How many steps are done.
        start: Which of the run's starts this is.
        cpu_seconds: CPU time of earlier sessions of the same run.
        ranks: The processes that train it together.
        shards: Which slices of the parameters are this rank's; all of them, unless the settings divide the optimiser's step.
        parts: Into how many parts a step's batch is divided.
    """

    model: DecomposedModel
    function: ImportanceFunction
    losses: nn.ModuleDict
    optimizer: torch.optim.AdamW
    streams: Streams
    step: int = 0
    start: int = 0
    cpu_seconds: float = 0.0
    ranks: Ranks = ALONE
    shards: Shards = field(default_factory=Shards)
    parts: int = 1


def prepare(target: Target, config: DecomposeConfig, start: int = 0, ranks: Ranks = ALONE) -> Training:
    """Build a run at step 0: initialised, not yet warmed up; each start has random streams of its own.

    Raises:
        UserError: A setting does not fit the target, the target cannot be rebuilt from its sites, or the device is not there.
    """
    seed = config.seed if start == 0 else stream_seed(config.seed, f"start {start}")
    model, function = build(target, config, seed)
    _check_twin(target, model)
    device = find_device(ranks.device(config.device))
    model.to(device)
    function.to(device)
    for part in function.modules():
        if isinstance(part, ImportanceFunction):
            part.ranks = ranks
    terms = nn.ModuleDict({name: loss.build(model).to(device) for name, loss in config.losses.items()})
    shards = Shards([*model.parameters(), *function.parameters()], ranks if config.optimizer.sharded else ALONE)
    optimizer, streams = _optimizer(model, function, shards, config), Streams(seed, device)
    return Training(model, function, terms, optimizer, streams, start=start, ranks=ranks, shards=shards, parts=config.accumulate)


def _check_twin(target: Target, model: DecomposedModel) -> None:
    """Raise a UserError where the model with its sites replaced gives something else than the target itself."""
    device = next(target.module.parameters()).device
    batch = move(target.data.batch(0, 2, torch.Generator().manual_seed(0)), device)
    own, other = target(batch), model.clean(batch).output
    if not finite(own):
        raise UserError(
            f"The output of {target.name!r} on its own data holds NaN or infinity, before anything is masked.",
            "Run the model alone on this data; weights in half precision and damaged files are the usual causes.",
        )
    if own.shape != other.shape or not torch.allclose(own, other, rtol=1e-3, atol=1e-4 * float(own.abs().max()), equal_nan=True):
        raise UserError(
            f"{target.name!r} does not give its own output any more when its sites are replaced.",
            "A site's weight is used besides calling the site (as in F.linear(x, layer.weight)), or the model draws at random. "
            "Leave that site out, or change the model.",
        )


def build(target: Target, config: DecomposeConfig, seed: int | None = None) -> tuple[DecomposedModel, ImportanceFunction]:
    """Build the decomposed model and its importance function with their starting values, on the CPU; `seed` defaults to the run's."""
    streams = Streams(config.seed if seed is None else seed)
    model = DecomposedModel(target, config.components)
    with torch.no_grad():
        for path, site in model.sites.items():
            if isinstance(site.factors, Factors) and _owns(model, path):
                config.initialisation.fill(site, site.factors, streams["initialisation"])
    shapes = {path: SiteShape(site.width_seen, model.C[path]) for path, site in model.sites.items()}
    return model, config.importance.build(shapes, streams["importance"])


def _owns(model: DecomposedModel, path: str) -> bool:
    """Whether this is the first site with these factors; a tied one shares what the first has drawn."""
    first = next(other for other, site in model.sites.items() if site.factors is model.sites[path].factors)
    return first == path


def _optimizer(model: DecomposedModel, function: ImportanceFunction, shards: Shards, config: DecomposeConfig) -> torch.optim.AdamW:
    groups: list[dict[str, object]] = []
    for module, group in ((model, config.optimizer.factors), (function, config.optimizer.importance)):
        groups.append(
            {
                "params": [shards.own(parameter) for parameter in module.parameters()],
                "lr": group.learning_rate,
                "weight_decay": group.weight_decay,
            }
        )
    return torch.optim.AdamW(groups, eps=config.optimizer.epsilon, fused=True)


def sample(
    training: Training, target: Target, config: DecomposeConfig, part: int = 0, elsewhere: bool = False
) -> tuple[Batch, Tensor | None, int | None]:
    """Draw a part of the next batch, or of the next batch of the target's other inputs; where equal inputs stand once, also their weights and how many inputs they stand for.

    With `accumulate: n` the parts are batches of their own, n to a step, so that a stream of windows gives what the undivided batch would hold.
    """
    place, size = training.step * config.accumulate + part, config.batch_size // config.accumulate
    data, stream = (target.elsewhere, "elsewhere") if elsewhere and target.elsewhere is not None else (target.data, "data")
    return draw(data, place, size, training.streams[stream], needs_every_input(training))


def needs_every_input(training: Training) -> bool:
    """Return whether something in the run tells equal inputs apart, so that each must have a row of its own."""
    return training.function.needs_every_input or any(loss.needs_every_input for _, loss in each_loss(training))


def set_learning_rates(training: Training, config: DecomposeConfig, progress: float) -> None:
    """Set both groups' rates for this share of the run."""
    for group, settings in zip(training.optimizer.param_groups, _groups(config), strict=True):
        final_share = settings.final_share if settings.schedule == "cosine" else 1.0
        group["lr"] = settings.learning_rate * cosine(progress, final_share, settings.warmup_share)


def clip_gradients(training: Training, config: DecomposeConfig) -> None:
    """Clip each group's gradient norm where its settings ask for it."""
    for group, settings in zip(training.optimizer.param_groups, _groups(config), strict=True):
        if settings.clip is not None:
            training.shards.clip(group["params"], settings.clip)


def _groups(config: DecomposeConfig) -> tuple[GroupConfig, GroupConfig]:
    return config.optimizer.factors, config.optimizer.importance


def warm_up(training: Training, config: WarmupConfig) -> None:
    """Train V and U on relative faithfulness alone, by an optimiser of its own, which is then thrown away."""
    if config.steps == 0:
        return
    parameters = [training.shards.own(parameter) for parameter in training.model.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)
    for _ in range(config.steps):
        optimizer.zero_grad()
        model_faithfulness(training.model, relative=True).backward()
        training.shards.take_gradients(average=False)
        optimizer.step()
        training.shards.put_together()


def each_loss(training: Training) -> list[tuple[str, Loss]]:
    """Return the losses with their names, typed."""
    return [(name, loss) for name, loss in training.losses.items() if isinstance(loss, Loss)]
