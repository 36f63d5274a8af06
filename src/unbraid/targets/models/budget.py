"""How many subcomponents is a matrix given to start with, and how much memory does that take?"""

from __future__ import annotations

C_RULE = (
    "the larger of d_in and d_out, as in the newest published 4-layer runs (one per neuron). "
    "Published language-model runs use 0.3 to 1.8 of it; in the end C should be within twice what is alive."
)
"""What `suggested_C` does, and where it comes from.

Sources: the runs of Bushnaq et al. 2025 (SPD) and of the adversarial recipe for language models (VPD). 0.33 is GPT-2's fused c_attn (768 for
768 → 2,304), 1.82 the value matrices of the 4-layer model of width 192 (350). The 67M model has 1.0 for c_fc, 1.17 for down, 0.67 for
q and k, 1.33 for v and o; an 8B model 0.5 for q and k, 1.0 for v and o, 0.57 for gate and up, 0.71 for down.
"""

MEMORY_FORMULA = "16·C·(d_in + d_out) + 4·d_in·d_out bytes per site"
MEMORY_RULE = (
    f"{MEMORY_FORMULA}: V and U, their gradients and Adam's two averages in fp32, and Δ. Sites that share weights share V and U. "
    "The model, activations, the importance function and adversaries come on top."
)


def suggested_C(d_in: int, d_out: int) -> int:
    """Return a number of subcomponents to start with; see `C_RULE`."""
    return max(d_in, d_out)


def training_bytes(d_in: int, d_out: int, C: int, shares_factors: bool = False) -> int:
    """Return the bytes that training one site's factors takes; see `MEMORY_RULE`.

    Args:
        d_in: Width of what the matrix reads.
        d_out: Width of what it writes.
        C: Number of subcomponents.
        shares_factors: Whether V and U are those of another site, and counted there.
    """
    factors = 0 if shares_factors else 4 * 4 * C * (d_in + d_out)
    return factors + 4 * d_in * d_out
