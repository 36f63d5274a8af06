"""How does a decomposition compare with the planted truth? Importances where the truth says what is needed, and the pieces themselves."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import torch
from jaxtyping import Bool
from torch import Tensor

from unbraid.decompose.recovery import (
    co_active_error,
    column_match,
    dense_error,
    identity_error,
    matching,
    piece_cosine,
    piece_cosines,
    two_ends_share,
)
from unbraid.decompose.subject import Subject
from unbraid.targets.data import Batch, move
from unbraid.targets.truth import SiteTruth, Truth


def compare(
    subject: Subject, truth: Truth, alive: Mapping[str, Bool[Tensor, " C"]], fresh: Tensor, device: torch.device
) -> dict[str, float]:
    """Return the lines of the scorecard that ask for the truth, over all sites.

    Args:
        subject: What is scored.
        truth: The planted mechanisms.
        alive: Site → which subcomponents are alive.
        fresh: Inputs, for what no probe asks.
        device: Where the subject lives.

    Returns:
        `identity_error` (also per site, as `identity_error/PATH`), `co_active_error`, `mmcs`, `ml2r` and `decided` where pieces belong to features; `needed_error` where a
        piece's need is decided otherwise; `dense_error` where pieces are always on; `piece_cosine` where single pieces are planted.
    """
    values: dict[str, list[float]] = defaultdict(list)
    inputs = _Asked(subject, truth, fresh, device)
    for path, site in truth.sites.items():
        V, U = (factor.detach().cpu() for factor in subject.model.sites[path].factors.views())
        on = alive[path].cpu()
        if site.pattern == "always_on":
            values["dense_error"].append(dense_error(inputs.needing_all(path, site), site.rank, truth.tolerance))
        elif site.pattern == "per_feature":
            _compare_features(values, inputs, path, site)
            mmcs, ml2r = column_match(V, U, site, on)
            values["mmcs"].append(mmcs)
            values["ml2r"].append(ml2r)
        elif not site.any_basis:
            values["needed_error"].append(_needed_error(inputs.fresh[path], V, U, on, site, fresh, truth.tolerance))
        if truth.one_hot is not None and site.pattern != "sparse":
            values["decided"].append(two_ends_share(inputs.one_hot[path]))
        if site.pattern != "always_on" and not site.any_basis:
            values["piece_cosine"].append(piece_cosine(V, U, site, on))
    return {key: _over_sites(key, of_sites) for key, of_sites in values.items()}


class _Asked:
    """The importances on each kind of input, flattened over positions; each kind is asked once, when it is first needed."""

    def __init__(self, subject: Subject, truth: Truth, fresh: Tensor, device: torch.device) -> None:
        self.truth, self.inputs = truth, fresh
        self._subject, self._device = subject, device
        self._known: dict[str, dict[str, Tensor]] = {}

    def _ask(self, kind: str, inputs: Batch) -> dict[str, Tensor]:
        if kind not in self._known:
            clean = self._subject.model.clean(move(inputs, self._device))
            self._known[kind] = {path: g.flatten(0, -2).cpu() for path, g in self._subject.importance(clean).items()}
        return self._known[kind]

    @property
    def one_hot(self) -> dict[str, Tensor]:
        """With one feature on."""
        return self._ask("one_hot", self.truth.probes[0])

    @property
    def co_active(self) -> dict[str, Tensor]:
        """With several features on."""
        return self._ask("co_active", self.truth.probes[1])

    @property
    def fresh(self) -> dict[str, Tensor]:
        """As the data has them."""
        return self._ask("fresh", self.inputs)

    def needing_all(self, path: str, site: SiteTruth) -> Tensor:
        """Return the importances of a site on inputs that need all of its pieces: the probes, or fresh inputs without any."""
        if self.truth.one_hot is not None:
            return torch.cat([self.one_hot[path], self.co_active[path]])
        return self.fresh[path][(site.needed(self.inputs).flatten(0, -2) == 1).all(-1)]


def _compare_features(values: dict[str, list[float]], inputs: _Asked, path: str, site: SiteTruth) -> None:
    """Compare the importances of a site whose pieces belong to features, with the features on alone and together."""
    truth = inputs.truth
    alone, several = inputs.one_hot[path], inputs.co_active[path]
    error = identity_error(alone, truth.tolerance)
    values["identity_error"].append(error)
    values[f"identity_error/{path}"].append(error)
    own = matching(_padded(alone, site.rank))
    values["co_active_error"].append(co_active_error(several, site.needed(truth.probes[1]), own, truth.tolerance))


def _needed_error(g: Tensor, V: Tensor, U: Tensor, alive: Tensor, site: SiteTruth, inputs: Tensor, tolerance: float) -> float:
    """Return the share of wrong entries on fresh inputs, where each planted piece's own column is the one that fits it as a matrix."""
    cosines = piece_cosines(V, U, site).clamp(min=0) * alive
    own = matching(_padded(cosines, site.rank))
    return co_active_error(g, site.needed(inputs).flatten(0, -2), own, tolerance)


def _padded(matrix: Tensor, n: int) -> Tensor:
    """Add columns of zeros, so that each of `n` rows can have one of its own."""
    missing = n - matrix.shape[1]
    return matrix if missing <= 0 else torch.cat([matrix, matrix.new_zeros(len(matrix), missing)], dim=1)


def _over_sites(key: str, of_sites: list[float]) -> float:
    """Put the sites together: errors are added, the pieces' likeness is that of the worst site, shares are averaged."""
    if key in ("identity_error", "dense_error"):
        return float(sum(of_sites))
    if key in ("mmcs", "piece_cosine"):
        return min(of_sites)
    if key == "ml2r":
        return max(of_sites, key=lambda value: abs(value - 1))
    return sum(of_sites) / len(of_sites)
