"""In which order are windows seen? A pseudo-random permutation that is computed where it is asked, never stored.

A Feistel network is a bijection whatever its round function, on a domain that is a power of four; indices that land outside the count are sent
through again until they land inside, which keeps it a bijection (cycle walking). The arithmetic is our own, so that an order does
not depend on the version of a library, and a resumed run on another machine goes on in the same one.

Source: Luby & Rackoff 1988; Black & Rogaway 2002, "Ciphers with Arbitrary Finite Domains".
"""

from __future__ import annotations

import hashlib

import numpy as np
from jaxtyping import Int64, UInt64

from unbraid.core.seeds import stream_seed

ROUNDS = 6


def place_in_epochs(first: int, count: int, total: int, seed: int) -> Int64[np.ndarray, " count"]:
    """Return which of `total` windows stand at positions first … first + count - 1 of an endless reading, epoch after epoch.

    Each epoch has every window once, in an order of its own that follows from the seed.
    """
    positions = np.arange(first, first + count, dtype=np.int64)
    epochs, within = positions // total, positions % total
    result = np.empty_like(positions)
    for epoch in np.unique(epochs):
        here = epochs == epoch
        result[here] = permute(within[here], total, stream_seed(seed, f"epoch {epoch}"))
    return result


def permute(indices: Int64[np.ndarray, " n"], total: int, key: int) -> Int64[np.ndarray, " n"]:
    """Return where a permutation of 0 … total - 1, chosen by `key`, sends each index."""
    half = max(3, (max(total - 1, 1).bit_length() + 1) // 2)
    keys = [hashlib.blake2b(f"{key}/{turn}".encode(), digest_size=8).digest() for turn in range(ROUNDS)]
    rounds = [int.from_bytes(digest, "little") for digest in keys]
    values = _feistel(indices.astype(np.uint64), half, rounds)
    while (outside := values >= total).any():
        values[outside] = _feistel(values[outside], half, rounds)
    return values.astype(np.int64)


def _feistel(values: UInt64[np.ndarray, " n"], half: int, rounds: list[int]) -> UInt64[np.ndarray, " n"]:
    bits, mask = np.uint64(half), np.uint64((1 << half) - 1)
    left, right = values >> bits, values & mask
    for key in rounds:
        left, right = right, left ^ (_mix(right ^ np.uint64(key)) >> np.uint64(64 - half))
    return (left << bits) | right


def _mix(values: UInt64[np.ndarray, " n"]) -> UInt64[np.ndarray, " n"]:
    """Scramble 64-bit words (the finaliser of splitmix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
