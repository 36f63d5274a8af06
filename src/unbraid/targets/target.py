"""What is being studied? A `Target` is a frozen model, its sites, its inputs and its behaviour; nothing else knows the architecture."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unbraid.core.errors import UserError
from unbraid.targets.behaviour import Behaviour, behaviour_named
from unbraid.targets.data import Batch, Data, as_data, check_finite
from unbraid.targets.sites import Site, find_sites
from unbraid.targets.truth import Truth


class Target:
    """A trained model together with everything that a question about it needs.

    Args:
        module: Any `nn.Module`; it is put in evaluation mode and otherwise never changed.
        sites: Glob or globs over module paths that choose the weight matrices to study; `PATH:NAME` is a part of a fused one, as `*.c_attn:q`.
        data: A list of batches (tensors, tuples or keyword mappings), a function `(size, generator) -> batch`, or a source.
        held_out: Inputs that training never sees, on which results are measured; by default other draws of the same data.
        elsewhere: Other inputs, on which the subcomponents must change nothing (targeted decomposition; see the loss "elsewhere").
        behaviour: "mse", "kl", or a `Behaviour` of your own.
        identities: Globs of modules before which an identity is inserted and studied.
        tied: Pairs (owner, other) of sites that are one parameter; shared storage is recognised by itself.
        name: How reports call the target.
        truth: The planted mechanisms, when they are known.
        source: The settings that rebuild this target; kept in the run folder.
        training: (tokens, cross-entropy) of stages of the model's own training, where they are known, for what a loss is worth in compute.
        keeps_weights: Whether a run folder keeps the weights beside those settings; not where the settings name a model on disk.

    Raises:
        UserError: A glob matches nothing or something twice, weights or data are not finite, the data is empty.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        sites: str | Sequence[str],
        data: object,
        held_out: object = None,
        elsewhere: object = None,
        behaviour: Literal["mse", "kl"] | Behaviour = "mse",
        identities: str | Sequence[str] = (),
        tied: Sequence[tuple[str, str]] = (),
        name: str | None = None,
        truth: Truth | None = None,
        source: Mapping[str, Any] | None = None,
        training: Sequence[tuple[float, float]] = (),
        keeps_weights: bool = True,
    ) -> None:
        self.module = module.eval()
        self.sites: tuple[Site, ...] = find_sites(module, _as_list(sites), _as_list(identities), tied)
        _check_parameters(module)
        self.data: Data = as_data(data)
        self.fresh: Data = self.data if held_out is None else as_data(held_out)
        self.elsewhere: Data | None = None if elsewhere is None else as_data(elsewhere)
        self.behaviour = behaviour_named(behaviour) if isinstance(behaviour, str) else behaviour
        self.name = name or type(module).__name__
        self.truth = truth
        self.source = dict(source) if source else None
        self.training = tuple(training)
        self.keeps_weights = keeps_weights
        check_finite(self.data.batch(0, 2, torch.Generator().manual_seed(0)))

    def __call__(self, batch: Batch) -> Tensor:
        """Return the model's own output for a batch, without gradient."""
        with torch.no_grad():
            return apply(self.module, batch)

    def fingerprint(self) -> str:
        """Return a hash of every parameter and buffer, which tells a checkpoint of another model apart."""
        digest = hashlib.blake2b(digest_size=16)
        for name, tensor in sorted(self.module.state_dict().items()):
            values = tensor.detach().cpu().contiguous()
            digest.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
            digest.update(values.flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()


def _check_parameters(module: nn.Module) -> None:
    """Raise a UserError when a parameter that is no site's weight, such as a bias, holds NaN or infinity."""
    for name, parameter in module.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            raise UserError(f"The parameter {name!r} holds NaN or infinity.", "Load the model again.")


def apply(module: nn.Module, batch: Batch) -> Float[Tensor, "*batch d"]:
    """Run a module on a batch however the batch is packed, and return its output tensor (or its `.logits`, or its first element).

    Raises:
        UserError: The output holds no tensor that could be compared.
    """
    if isinstance(batch, Tensor):
        output: object = module(batch)
    elif isinstance(batch, Mapping):
        output = module(**batch)
    else:
        output = module(*batch)
    if isinstance(output, Tensor):
        return output
    logits = getattr(output, "logits", None)
    if isinstance(logits, Tensor):
        return logits
    if isinstance(output, (tuple, list)) and output and isinstance(output[0], Tensor):
        return output[0]
    raise UserError(
        f"The model returned {type(output).__name__}.",
        "Wrap it so that it returns a tensor, an object with .logits, or a tuple that starts with a tensor.",
    )


def _as_list(globs: str | Sequence[str]) -> list[str]:
    return [globs] if isinstance(globs, str) else list(globs)
