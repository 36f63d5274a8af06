"""Which subcomponents belong together? Groups are merged as long as that shortens the description of who fires when.

A group fires on a datapoint when any of its members does. Saying which of k groups fired costs log2 k bits a firing, and saying what a
firing group does costs α for each member, whether that member was on or not:

    MDL = Σ_i s_i (log2 k + α r_i),    s_i: share of datapoints on which group i fires,  r_i: its members.

Subcomponents that fire together are cheaper as one name; ones that do not are dearer, since members are paid for while they are off.
Source: "Interpreting Language Model Parameters" (2026), clustering; the union of the firings, as the formula demands.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from scipy.special import betainc, ndtr

CHUNK = 4096  # datapoints that are turned into floats at a time
SLACK = 1e-9  # two shares of datapoints this near are equal
EVIDENCE = 5.0  # as improbable as so many standard deviations: of a million independent pairs, none is expected to reach it
ALIKE = 0.9  # two groups whose common firings are this share of all their firings are hardly ever apart


@dataclass(frozen=True)
class Grouping:
    """How subcomponents were grouped.

    Attributes:
        labels: The group of each subcomponent, numbered from 0 in the order of their first members.
        lengths: The description length in bits per datapoint, before the first merge and after each.
    """

    labels: Int[ndarray, " n"]
    lengths: tuple[float, ...]


def description_length(rates: Float[ndarray, " k"], sizes: Float[ndarray, " k"], alpha: float) -> float:
    """Return the bits per datapoint that groups with these firing rates and member counts cost; 0 for no group."""
    return float(rates @ (math.log2(max(len(rates), 1)) + alpha * sizes))


def merge_costs(
    rates: Float[ndarray, " k"], together: Float[ndarray, "k k"], sizes: Float[ndarray, " k"], alpha: float
) -> Float[ndarray, "k k"]:
    """Return by how many bits per datapoint the description grows when two groups become one, for all pairs; the diagonal means nothing.

    With s_∪ = s_i + s_j - s_∩ the change `(s_Σ - s_i - s_j) log2((k-1)/k) + s_∪ log2(k-1) - (s_i + s_j) log2 k + α [s_∪ (r_i + r_j) - s_i r_i - s_j r_j]`
    collects to `s_Σ log2((k-1)/k) - s_∩ log2(k-1) + α [r_i (s_j - s_∩) + r_j (s_i - s_∩)]`.

    Args:
        rates: Share of datapoints on which each group fires.
        together: Share on which both of a pair fire.
        sizes: Members of each group.
        alpha: Bits per member and firing.
    """
    k = len(rates)
    if k < 2:
        return np.zeros((k, k))
    idle = idle_members(rates, together, sizes)
    return rates.sum() * math.log2((k - 1) / k) - math.log2(k - 1) * together + alpha * idle


def idle_members(rates: Float[ndarray, " k"], together: Float[ndarray, "k k"], sizes: Float[ndarray, " k"]) -> Float[ndarray, "k k"]:
    """Return for each pair how many members a merged group would name in vain, per datapoint: r_i (s_j - s_∩) + r_j (s_i - s_∩)."""
    alone = sizes[:, None] * (rates[None, :] - together)
    return alone + alone.T


def belong(
    own: Float[ndarray, "#k #n"] | Float[ndarray, " 1"], rates: Float[ndarray, " n"], together: ndarray, datapoints: int, evidence: float
) -> ndarray:
    """Return for which pairs firing together says anything.

    Either chance would hardly bring the commoner one along so often when the rarer one fires (a binomial tail, as improbable as
    `evidence` standard deviations are), or there is hardly ever one without the other, as with pieces that are always on.
    The tail is exact because rare groups fire together a handful of times, where the bell curve's is a thousand times too small.
    """
    counts, rarer, commoner = np.rint(together * datapoints), np.rint(np.minimum(own, rates) * datapoints), np.maximum(own, rates)
    # P(X ≥ c) of a binomial with n draws is the incomplete beta function I_p(c, n - c + 1); at c = 0 it is 1.
    by_chance = np.where(counts > 0, betainc(np.maximum(counts, 1), np.maximum(rarer - counts, 0) + 1, np.minimum(commoner, 1.0)), 1.0)
    alike = together >= ALIKE * (own + rates - together) - SLACK
    return (by_chance < ndtr(-evidence)) | alike


def co_activation(activity: Bool[ndarray, "datapoints n"]) -> Float[ndarray, "n n"]:
    """Return on how many datapoints both of a pair fire, AᵀA; counts, exact, in float64."""
    counts = np.zeros((activity.shape[1], activity.shape[1]))
    for start in range(0, len(activity), CHUNK):
        part = activity[start : start + CHUNK].astype(np.float32)  # whole numbers up to 4096 are exact
        counts += part.T @ part
    return counts


def merge_by_length(
    activity: Bool[ndarray, "datapoints n"], alpha: float = 1.0, evidence: float | None = EVIDENCE, total: int | None = None
) -> Grouping:
    """Group subcomponents: always make the merge that shortens the description most, until none does.

    Args:
        activity: Where each subcomponent fires.
        alpha: Bits per member and firing: what is small merges more.
        evidence: Merge only what fires together more often than independent groups would, as improbably as so many standard deviations, or
            hardly ever apart; None leaves all to the formula. The formula alone also lumps together rare pieces that never
            fire at the same time, merely to have fewer names, joins frequent ones that are independent, and gives an always-on piece
            whatever fires often.
        total: How many datapoints there are, where silent ones were left out of `activity`.
    """
    active = np.array(activity)
    n = active.shape[1]
    datapoints = max(total or len(active), 1)
    together = co_activation(active) / datapoints
    state = _Groups(active, together, datapoints, alpha, evidence)
    lengths = [state.length]
    while (pair := state.best()) is not None:
        state.merge(*pair)
        lengths.append(state.length)
    labels = np.empty(n, dtype=np.int64)
    for label, members in enumerate(sorted(state.members)):
        labels[members] = label
    return Grouping(labels, tuple(lengths))


class _Groups:
    """The groups so far, with what each pair of them would cost; the first k rows and columns are alive."""

    def __init__(
        self, active: Bool[ndarray, "datapoints n"], together: Float[ndarray, "n n"], datapoints: int, alpha: float, evidence: float | None
    ) -> None:
        self.active, self.together, self.datapoints, self.alpha, self.evidence = active, together, datapoints, alpha, evidence
        self.k = active.shape[1]
        self.rates = together.diagonal().copy()
        self.sizes = np.ones(self.k)
        self.members = [[index] for index in range(self.k)]
        self.idle = alpha * idle_members(self.rates, together, self.sizes)
        if evidence is not None:
            self.idle[~belong(self.rates[:, None], self.rates, together, datapoints, evidence)] = np.inf
        np.fill_diagonal(self.idle, np.inf)
        self.bounds = np.array([self._costs(i).min() for i in range(self.k)])

    @property
    def length(self) -> float:
        """The present description length."""
        return description_length(self.rates[: self.k], self.sizes[: self.k], self.alpha)

    def best(self) -> tuple[int, int] | None:
        """Return the pair whose merge shortens the description most, or None when no merge does.

        `log2(k-1)` falls with every merge, and with it what firing together saves; so the best that a row had is a lower bound of the
        best that it has. Only rows whose bound is the lowest of all are looked at again.
        """
        k = self.k
        if k < 2:
            return None
        bounds = self.bounds[:k]
        while True:
            i = int(bounds.argmin())
            costs = self._costs(i)
            j = int(costs.argmin())
            bounds[i] = costs[j]
            if costs[j] <= bounds.min():
                break
        change = costs[j] + self.rates[:k].sum() * math.log2((k - 1) / k)
        return (min(i, j), max(i, j)) if change < -SLACK else None

    def _costs(self, i: int) -> Float[ndarray, " k"]:
        """Return what merging group i with each other one costs, without the part that all merges share."""
        return self.idle[i, : self.k] - math.log2(max(self.k - 1, 1)) * self.together[i, : self.k]

    def merge(self, i: int, j: int) -> None:
        """Put group j into group i; the last group takes j's place."""
        last = self.k - 1
        self.active[:, i] |= self.active[:, j]
        self.sizes[i] += self.sizes[j]
        self.members[i] = sorted(self.members[i] + self.members[j])
        for array in (self.rates, self.sizes, self.bounds):
            array[j] = array[last]
        self.members[j] = self.members[last]
        self.members.pop()
        self.active[:, j] = self.active[:, last]
        for matrix in (self.together, self.idle):
            matrix[j, : last + 1] = matrix[last, : last + 1]
            matrix[: last + 1, j] = matrix[: last + 1, last]
            matrix[j, j] = matrix[last, last]
        self.k = last
        self._refresh(i)

    def _refresh(self, i: int) -> None:
        """Compute anew what concerns group i, from the datapoints on which it fires."""
        k = self.k
        rows = np.flatnonzero(self.active[:, i])
        counts = np.zeros(k)
        for start in range(0, len(rows), CHUNK):
            counts += self.active[rows[start : start + CHUNK], :k].sum(axis=0, dtype=np.int64)
        both = counts / self.datapoints
        self.rates[i] = both[i]
        self.together[i, :k] = self.together[:k, i] = both
        row = self.alpha * (self.sizes[i] * (self.rates[:k] - both) + self.sizes[:k] * (self.rates[i] - both))
        if self.evidence is not None:
            row[~belong(self.rates[i : i + 1], self.rates[:k], both, self.datapoints, self.evidence)] = np.inf
        row[i] = np.inf
        self.idle[i, :k] = self.idle[:k, i] = row
        costs = self._costs(i)
        np.minimum(self.bounds[:k], costs, out=self.bounds[:k])
        self.bounds[i] = costs.min()
