from __future__ import annotations

import torch

from unbraid.targets.toy_kit.probes import co_active_probes, one_hot_probes


def test_one_hot() -> None:
    assert torch.equal(one_hot_probes(3, 0.5), 0.5 * torch.eye(3))


def test_co_active_probes_have_two_or_more_distinct_features() -> None:
    probes = co_active_probes(5, count=300)
    counts = (probes != 0).sum(1)
    assert set(counts.tolist()) == {2, 3}
    assert set(probes.unique().tolist()) == {0.0, 0.75}
    assert bool(((probes != 0).float().mean(0) > 0.3).all())  # every feature takes part
    assert torch.equal(probes, co_active_probes(5, count=300))
