"""Were the planted mechanisms found? Pure functions that compare learned subcomponents and importances with the truth.

MMCS, ML2R and the identity and dense errors are those of Bushnaq et al. 2025 (SPD), with two changes: only alive subcomponents
are compared, and a column counts as always-on only if it is on for nearly every probe rather than for one.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from unbraid.targets.truth import SiteTruth


def matching(importance: Float[Tensor, "n C"]) -> Int[Tensor, " n"]:
    """Return for each probe the column that is its own, so that the sum over pairs is greatest (Hungarian); needs C ≥ n."""
    _, columns = linear_sum_assignment(importance.cpu().numpy(), maximize=True)
    return torch.as_tensor(columns)


def identity_error(importance: Float[Tensor, "n C"], tolerance: float = 0.1) -> int:
    """Count what keeps the importances on one-hot probes from being an identity.

    Columns are permuted to fit best; a diagonal entry below 1 - tolerance, or any other entry above tolerance, is one error.
    With fewer columns than probes, each missing column is one error as well.
    """
    n, C = importance.shape
    if n > C:
        importance = torch.cat([importance, importance.new_zeros(n, n - C)], dim=1)
    own = matching(importance)
    rows = torch.arange(n)
    weak = int((importance[rows, own] < 1 - tolerance).sum())
    others = importance.clone()
    others[rows, own] = 0
    return weak + int((others > tolerance).sum())


def dense_error(importance: Float[Tensor, "probes C"], rank: int, tolerance: float = 0.1, share: float = 0.95) -> int:
    """Count what keeps the importances from being `rank` always-on columns and nothing else.

    A column is always on if its importance is at least 1 - tolerance on at least `share` of the probes, and off if it is at
    most tolerance on as many; the error is how far the always-on columns are from `rank`, plus the columns that are neither.
    """
    on = always_on(importance, tolerance, share)
    off = (importance <= tolerance).float().mean(0) >= share
    return abs(int(on.sum()) - rank) + int((~on & ~off).sum())


def always_on(importance: Float[Tensor, "probes C"], tolerance: float = 0.1, share: float = 0.95) -> Bool[Tensor, " C"]:
    """Return which columns are on for at least `share` of the probes."""
    return (importance >= 1 - tolerance).float().mean(0) >= share


def co_active_error(
    importance: Float[Tensor, "probes C"], needed: Float[Tensor, "probes n"], own: Int[Tensor, " n"], tolerance: float = 0.1
) -> float:
    """Return the share of wrong entries on probes with several features on, by the columns that the one-hot probes gave.

    Counted are the entries where a piece is needed (wrong below 1 - tolerance), and, against the same number of them, those
    where it is not (wrong above tolerance); surplus columns are never needed. Entries where the truth says nothing are left out.
    """
    n_columns = importance.shape[1]
    wanted = importance.new_zeros(importance.shape[0], n_columns)
    known = own < n_columns
    wanted[:, own[known]] = needed[:, known].to(importance.dtype)
    missing = ((wanted == 1) & (importance < 1 - tolerance)).sum() + (needed[:, ~known] == 1).sum()
    stray = ((wanted == 0) & (importance > tolerance)).sum()
    return float((missing + stray) / (needed == 1).sum().clamp(min=1))


def column_match(
    V: Float[Tensor, "d_in C"], U: Float[Tensor, "C d_out"], truth: SiteTruth, alive: Bool[Tensor, " C"]
) -> tuple[float, float]:
    """Return MMCS and ML2R: for each planted piece, the best cosine of any alive subcomponent's part in it, and its size there.

    For feature j, `W_:,j` is what the true matrix writes (or reads) for it and `U_c V_cj` what subcomponent c does. MMCS
    is the mean over features of the best cosine, ML2R the mean over features of the length ratio at that best match.
    """
    if not bool(alive.any()):
        return 0.0, 0.0
    basis = truth.read_basis if truth.read_basis is not None else torch.eye(V.shape[0], dtype=V.dtype)
    vectors, scales, wanted = basis.T @ V[:, alive], U[alive], basis.T @ truth.V @ truth.U
    if truth.compare == "write":
        vectors, scales, wanted = U[alive].T, V[:, alive].T, wanted.T
    # Feature j of subcomponent c is scales[c] * vectors[j, c]: its direction is ±scales[c], its length |vectors[j, c]| ‖scales[c]‖.
    cosine = torch.nn.functional.normalize(wanted, dim=1) @ torch.nn.functional.normalize(scales, dim=1).T * vectors.sign()
    best, index = cosine.max(dim=1)
    length = vectors.abs().gather(1, index[:, None])[:, 0] * scales.norm(dim=1)[index]
    return float(best.mean()), float((length / wanted.norm(dim=1)).mean())


def piece_cosines(V: Float[Tensor, "d_in C"], U: Float[Tensor, "C d_out"], truth: SiteTruth) -> Float[Tensor, "pieces C"]:
    """Return the cosine of every planted piece with every subcomponent, both as matrices.

    `cos(U_c V_cᵀ, U*_j V*_jᵀ)` is the product of both directions' cosines.
    """
    basis = truth.read_basis if truth.read_basis is not None else torch.eye(V.shape[0], dtype=V.dtype)
    normalize = torch.nn.functional.normalize
    read = normalize(basis.T @ truth.V, dim=0).T @ normalize(basis.T @ V, dim=0)
    return read * (normalize(truth.U, dim=1) @ normalize(U, dim=1).T)


def piece_cosine(V: Float[Tensor, "d_in C"], U: Float[Tensor, "C d_out"], truth: SiteTruth, alive: Bool[Tensor, " C"]) -> float:
    """Return the mean over planted pieces of the best cosine with a whole alive subcomponent, as matrices.

    Stricter than MMCS, which does not see what else a subcomponent reads.
    """
    if not bool(alive.any()):
        return 0.0
    return float(piece_cosines(V[:, alive], U[alive], truth).max(dim=1).values.mean())


def two_ends_share(importance: Float[Tensor, "probes C"], margin: float = 0.05) -> float:
    """Return the share of nonzero importances within `margin` of 1; what is neither off nor on is undecided."""
    live = importance > margin
    if not bool(live.any()):
        return 0.0
    return float((importance[live] >= 1 - margin).float().mean())
