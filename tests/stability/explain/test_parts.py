"""Are parts numbered as they are named, and are random sets like the set that they stand beside?"""

from __future__ import annotations

import torch

from unbraid.stability.explain.parts import Parts, draw_alike

PARTS = Parts(("a", "b"), (3, 20), torch.cat([torch.tensor([1.0, 2.0, 3.0, 9.0]), torch.linspace(0, 19, 20), torch.tensor([9.0])]))


def test_a_row_is_taken_apart_as_it_was_put_together() -> None:
    values = {"a": torch.rand(2, 3), "b": torch.rand(2, 20)}
    row = PARTS.joined(values)
    assert row.shape == (2, PARTS.count)
    split = PARTS.split(row)
    assert all(torch.equal(split[path][0], values[path]) for path in values)
    assert all(torch.equal(split[path][1], torch.zeros(2)) for path in values)
    assert [PARTS.name(index) for index in (0, 3, 4, 24)] == ["a 0", "a Δ", "b 0", "b Δ"]
    assert PARTS.is_delta.nonzero()[:, 0].tolist() == [3, 24]
    assert PARTS.of_site("a").nonzero()[:, 0].tolist() == [0, 1, 2, 3]


def test_random_sets_have_the_size_the_sites_and_nearly_the_norms(generator: torch.Generator) -> None:
    chosen = torch.zeros(PARTS.count, dtype=torch.bool)
    chosen[[5, 10, 15]] = True
    pool = ~chosen & ~PARTS.is_delta
    sets = [draw_alike(chosen, pool, PARTS, True, True, generator) for _ in range(20)]
    assert all(int(drawn.sum()) == 3 and not bool((drawn & ~pool).any()) for drawn in sets)
    assert not bool((torch.stack(sets) & PARTS.of_site("a")).any())
    assert all(abs(float(PARTS.norms[drawn].sum()) - 18) <= 9 for drawn in sets)
    far = [draw_alike(chosen, pool, PARTS, False, True, generator) for _ in range(50)]
    assert max(abs(float(PARTS.norms[drawn].sum()) - 18) for drawn in far) > 9
    assert len({tuple(drawn.tolist()) for drawn in sets}) > 5


def test_where_too_few_are_left_all_are_taken(generator: torch.Generator) -> None:
    chosen = PARTS.of_site("a")
    pool = torch.zeros(PARTS.count, dtype=torch.bool)
    pool[[0, 7]] = True
    assert torch.equal(draw_alike(chosen, pool, PARTS, False, False, generator), pool)
    assert draw_alike(chosen, pool, PARTS, False, True, generator).nonzero()[:, 0].tolist() == [0]
