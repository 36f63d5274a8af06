from __future__ import annotations

import torch

from unbraid.core.seeds import Streams, stream_seed


def test_streams_do_not_shift_each_other() -> None:
    alone, beside = Streams(3), Streams(3)
    torch.rand(100, generator=beside["data"])
    torch.testing.assert_close(torch.rand(5, generator=alone["masks"]), torch.rand(5, generator=beside["masks"]), rtol=0, atol=0)


def test_names_and_seeds_give_other_numbers() -> None:
    assert len({stream_seed(seed, name) for seed in range(3) for name in ("data", "masks", "routing")}) == 9
    assert not torch.equal(torch.rand(5, generator=Streams(0)["a"]), torch.rand(5, generator=Streams(0)["b"]))


def test_stream_seeds_are_fixed() -> None:
    """A change here would change every published run."""
    assert stream_seed(0, "data") == 454179170045371426


def test_state_is_restored_exactly() -> None:
    streams = Streams(1)
    torch.rand(7, generator=streams["a"])
    torch.randn(3, generator=streams["b"])
    state = streams.state()
    expected = torch.rand(4, generator=streams["a"]), torch.randn(4, generator=streams["b"])
    fresh = Streams(1)
    fresh.restore(state)
    assert torch.equal(torch.rand(4, generator=fresh["a"]), expected[0])
    assert torch.equal(torch.randn(4, generator=fresh["b"]), expected[1])
