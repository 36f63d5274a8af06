"""What do measured radii say? Numbers with their intervals over anchors, computed from the raw arrays and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from unbraid.core.statistics import Estimate, bootstrap_mean, bootstrap_median
from unbraid.stability.radius.exponent import sign_flip_mean
from unbraid.stability.radius.gain import gains
from unbraid.stability.radius.radii import HALFWAY_OF_A_PLATEAU
from unbraid.stability.radius.survival import Interval

TIMES = "median / null's"
"""The row's name for how many times further the median radius is than the null's."""


def written(found: Mapping[str, Any] | None, form: str = "{:.3g}") -> str:
    """Write a number with its interval; a dash where it is undefined, and dots where an end of the interval is."""
    if found is None or found["value"] is None:
        return "–"
    low, high = ("…" if end is None else form.format(end) for end in (found["low"], found["high"]))
    return f"{form.format(found['value'])} [{low}, {high}]"


def interval_tree(found: Interval | Estimate | None) -> dict[str, Any] | None:
    """Return a number with its interval as JSON-ready values."""
    if found is None:
        return None
    count = found.anchors if isinstance(found, Interval) else found.n
    return {"value": found.value, "low": found.low, "high": found.high, "n": count}


def median_of(values: Float[ndarray, " n"]) -> Estimate | None:
    """Return the median of the values that are defined, with its interval; None where there is none."""
    there = values[np.isfinite(values)]
    if not there.size:
        return None
    return bootstrap_median(there.tolist())


def mean_of(values: Float[ndarray, " n"]) -> Estimate | None:
    """Return the mean of the values that are defined, with its interval; None where there is none."""
    there = values[np.isfinite(values)]
    return bootstrap_mean(there.tolist()) if there.size else None


def per_anchor(values: Float[ndarray, "anchors rays"]) -> Float[ndarray, " anchors"]:
    """Return the median over each anchor's rays; NaN where none of them is defined."""
    return np.array([np.median(row[np.isfinite(row)]) if np.isfinite(row).any() else np.nan for row in values])


def thickness_facts(thickness: Float[ndarray, "anchors rays"], radii: Float[ndarray, "anchors rays"]) -> tuple[Estimate | None, int, int]:
    """Return the mean thickness over anchors, how many crossings have none, and how many crossings were looked at.

    The mean is None where more than half have none: that of the others would be about walls where there are mostly slopes.
    """
    crossed, missing = int(np.isfinite(radii).sum()), int((np.isfinite(radii) & np.isnan(thickness)).sum())
    return (mean_of(per_anchor(thickness)) if 2 * missing <= crossed else None), missing, crossed


def plateau_share(halfway: Float[ndarray, "anchors rays"]) -> Estimate | None:
    """Return the share of the crossing rays that show a plateau, the mean over anchors of each anchor's own share."""
    shares = [float((row[np.isfinite(row)] < HALFWAY_OF_A_PLATEAU).mean()) for row in halfway if np.isfinite(row).any()]
    return bootstrap_mean(shares) if shares else None


def normal_cosines(normals: Float[ndarray, "anchors rays d"]) -> tuple[Estimate | None, Estimate | None]:
    """Return the mean cosine of the boundary's normals between rays of one anchor, and between rays of different anchors.

    1 says that all rays of an anchor meet one flat wall; the second number is what is shared by all anchors anyway.
    """
    means = [row[np.isfinite(row).all(axis=1)] for row in normals]
    means = [row for row in means if len(row) > 1]
    own = [float(((row @ row.T).sum() - len(row)) / (len(row) * (len(row) - 1))) for row in means]
    centres = [row.mean(axis=0) for row in means]
    # Disjoint pairs of anchors, so that each is independent of the others.
    others = [float(centres[i] @ centres[i + 1]) for i in range(0, len(centres) - 1, 2)]
    return (bootstrap_mean(own) if own else None), (bootstrap_mean(others) if others else None)


def plane_facts(planes: Float[ndarray, "planes facts"]) -> dict[str, Any]:
    """Return what the planes of a family say: the joint exponent, and beside it what one quadrant alone would have said."""
    p, c, alone = planes[:, 0], planes[:, 1], planes[:, 5:]
    flipped = sign_flip_mean(alone[:, 0], alone[:, 3])
    return {
        "p": interval_tree(median_of(p)),
        "cross term": interval_tree(median_of(np.abs(c))),
        "residual": interval_tree(median_of(planes[:, 2])),
        "one quadrant": interval_tree(median_of(alone[:, 0])),
        "sign flipped": interval_tree(median_of(alone[:, 3])),
        "harmonic mean of both": interval_tree(median_of(flipped)),
        "radius": interval_tree(mean_of(planes[:, 3])),
        "planes": len(planes),
        "undefined": int(np.isnan(p).sum()),
    }


def mixture_facts(mixtures: Float[ndarray, "anchors sizes"], sizes: Sequence[int]) -> list[dict[str, Any]]:
    """Return the exponent that mixtures of each number of directions say."""
    return [
        {"n": size, "p": interval_tree(median_of(column)), "undefined": int(np.isnan(column).sum())}
        for size, column in zip(sizes, mixtures.T, strict=True)
    ]


def nearest_facts(nearest: Float[ndarray, "anchors 2"]) -> dict[str, Any]:
    """Return the smallest radius that was found, the Fisher radius, and the first over the second."""
    with np.errstate(invalid="ignore"):
        ratio = nearest[:, 0] / nearest[:, 1]
    return {
        "found": interval_tree(median_of(nearest[:, 0])),
        "predicted": interval_tree(median_of(nearest[:, 1])),
        "found / predicted": interval_tree(median_of(ratio)),
        "anchors": len(nearest),
        "undefined": int((~np.isfinite(ratio)).sum()),
    }


def gain_facts(changes: Float[ndarray, "anchors rays stages"], stages: Sequence[str]) -> list[dict[str, Any]]:
    """Return κ of every stage, and of all of them together, from the medians over each anchor's rays."""
    with np.errstate(invalid="ignore", divide="ignore"):
        each, whole = gains(changes), changes[..., -1] / changes[..., 0]
    rows = [*zip(stages, np.moveaxis(each, -1, 0), strict=True), ("all", whole)]
    return [{"stage": name, "gain": interval_tree(mean_of(per_anchor(values)))} for name, values in rows]
