"""Is the optimiser's step of several ranks, each with its slices, that of one process; and is less kept on each?"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from tests.decompose.rank_worker import sequences
from tests.decompose.sharded_worker import HALF, config, from_starts, tensors, trained
from tests.ranks import begin, finish
from unbraid.core.errors import UserError
from unbraid.core.ranks import ALONE, Ranks
from unbraid.decompose.checkpoint import load_state, save_state
from unbraid.decompose.config import DecomposeConfig
from unbraid.decompose.on_paper import Memory, PaperRanks, memory_on_paper
from unbraid.decompose.sharded import Shards
from unbraid.decompose.training import prepare
from unbraid.targets.behaviour import behaviour_named
from unbraid.targets.data import as_data
from unbraid.targets.target import Target

WORKER = str(Path(__file__).with_name("sharded_worker.py"))


def assert_close(found: dict[str, Tensor], wanted: dict[str, Tensor], name: str, tolerance: float = 1e-5) -> None:
    assert found.keys() == wanted.keys()
    for key in wanted.keys() - {"held"}:
        torch.testing.assert_close(
            found[key], wanted[key], rtol=tolerance, atol=tolerance, msg=lambda text, at=(name, key): f"{at}: {text}"
        )


def ended(folder: Path, name: str, rank: int) -> dict[str, Tensor]:
    return load_file(folder / f"{name}-{rank}.safetensors")


def launch(count: int, folder: Path, *states: Path) -> None:
    folder.mkdir()
    for told in finish(begin(count, [WORKER, str(folder), *map(str, states)], folder)):
        assert told.code == 0, told.err


def test_slices_train_save_and_go_on_as_one_process_does(tmp_path: Path) -> None:
    """Two ranks and then three; each also goes on, divided and not, from the state of one process and from the two ranks' state."""
    alone, chosen = tensors(trained(True)), from_starts()
    assert_close(tensors(trained(False)), alone, "one rank is the whole share", 0)
    one = save_state(trained(False, until=HALF), tmp_path / "one", "print")
    launch(2, tmp_path / "two", one)
    both = tmp_path / "two" / "state" / one.name
    launch(3, tmp_path / "three", one, both)
    for count, folder, saved in ((2, tmp_path / "two", 1), (3, tmp_path / "three", 2)):
        for rank in range(count):
            ends = ["whole", "sharded", *(f"{name} from {index}" for index in range(saved) for name in ("whole", "sharded"))]
            for name in ends:
                end = ended(folder, name, rank)
                assert_close(end, alone, f"{count} ranks, {name}")
                share = int(end["held"]) / int(alone["held"])
                assert share == 1 if name.startswith("whole") else share < 1 / count + 0.05, (name, share)
            assert_close(ended(folder, "starts", rank), chosen, f"{count} ranks, starts")
    # Two ranks' sums are the same whatever is summed with what, and Adam sees one number at a time.
    assert_close(ended(tmp_path / "two", "sharded", 1), ended(tmp_path / "two", "whole", 1), "two ranks", 1e-7)
    for state in (both, tmp_path / "three" / "state" / one.name):
        assert_close(load_file(state / "tensors.safetensors"), load_file(one / "tensors.safetensors"), str(state))
        assert {path.suffix for path in state.iterdir()} == {".safetensors", ".json"}
    assert_close(tensors(trained(False, both)), alone, "one process from two ranks' state")


def test_slices_make_up_every_parameter_and_share_its_memory() -> None:
    parameters = [nn.Parameter(torch.randn(shape)) for shape in ((5, 3), (1,), (2, 2, 2))]
    shards = [Shards(parameters, Ranks(rank, 4)) for rank in range(4)]
    for parameter in parameters:
        assert torch.equal(torch.cat([each.own(parameter) for each in shards]), parameter.detach().flatten())
    assert [shard.own(parameters[0]).numel() for shard in shards] == [4, 4, 4, 3]
    assert [shard.own(parameters[1]).numel() for shard in shards] == [1, 0, 0, 0]
    shards[3].own(parameters[0]).fill_(9.0)
    assert parameters[0].flatten()[12:].tolist() == [9.0] * 3


def test_one_rank_has_the_parameters_themselves() -> None:
    parameter = nn.Parameter(torch.randn(3, 2).T)
    shards = Shards([parameter], ALONE)
    assert shards.own(parameter) is parameter
    assert shards.part(parameter) is parameter


def test_what_cannot_be_sliced_is_refused() -> None:
    with pytest.raises(UserError, match=r"A parameter of shape \[2, 3\] is no contiguous block of memory"):
        Shards([nn.Parameter(torch.randn(3, 2).T)], Ranks(0, 2))


class Twins(PaperRanks):
    """Two ranks with equal gradients and equal parts."""

    def _sum(self, tensor: Tensor) -> None:
        tensor *= 2


def test_whole_gradients_are_gone_once_the_owner_has_its_part() -> None:
    parameter, unused = nn.Parameter(torch.zeros(5)), nn.Parameter(torch.zeros(2))
    shards = Shards([parameter, unused], Twins(1, 2))
    parameter.grad = torch.arange(5.0)
    shards.take_gradients()
    assert parameter.grad is None
    own = shards.own(parameter).grad
    assert own is not None
    assert own.tolist() == [3.0, 4.0]
    assert shards.own(unused).grad is None


def test_clipping_takes_the_norm_of_all_ranks() -> None:
    parameter = nn.Parameter(torch.zeros(4))
    shards = Shards([parameter], Twins(0, 2))
    parameter.grad = torch.tensor([3.0, 4.0, 3.0, 4.0])
    shards.take_gradients()
    shards.clip([shards.own(parameter)], 1.0)
    own = shards.own(parameter).grad
    assert own is not None
    torch.testing.assert_close(own, torch.tensor([3.0, 4.0]) / 50**0.5)


def test_a_loaded_rank_does_not_keep_the_whole_averages(tmp_path: Path) -> None:
    one = trained(True, until=HALF)
    path = save_state(one, tmp_path, "print")
    half = prepare(sequences(), config(True), ranks=PaperRanks(1, 2))
    load_state(half, path, "print")
    for mine, whole in zip([*half.model.parameters()], [*one.model.parameters()], strict=True):
        entry = half.optimizer.state[half.shards.own(mine)]
        rest = -(-whole.numel() // 2)
        for name, value in one.optimizer.state[whole].items():
            assert torch.equal(entry[name], value if name == "step" else value.flatten()[rest:])
            assert name == "step" or entry[name].untyped_storage().nbytes() == (whole.numel() - rest) * 4


def test_the_estimate_counts_a_share_of_the_averages() -> None:
    """Two matrices 4 → 6 → 3, C 5, five ranks: V and U have 20, 30, 30 and 15 numbers, of which a rank has 4, 6, 6 and 3, each with two averages of 4 bytes."""
    with torch.device("meta"):
        module = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    target = Target(nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)), sites="*", data=[torch.randn(10, 4)])

    def counted(sharded: bool, ranks: int) -> Memory:
        settings = DecomposeConfig.parse(
            {
                "components": 5,
                "batch_size": 10,
                "importance": {"kind": "attribution-top-k", "k": 1.0},
                "losses": {"faithfulness": {}, "m": {"kind": "importance-masked"}},
                "optimizer": {"sharded": sharded},
            }
        )
        return memory_on_paper(module, target.sites, as_data([torch.randn(10, 4)]), behaviour_named("mse"), settings, ranks)

    whole, shared = counted(False, 5), counted(True, 5)
    assert whole.moments == (20 + 30 + 30 + 15) * 2 * 4
    assert shared.moments == (4 + 6 + 6 + 3) * 2 * 4
    assert shared.gradients == whole.gradients == (20 + 30 + 30 + 15) * 4
    assert shared.factors == whole.factors
    assert whole.warmup - shared.warmup > 0
    assert counted(True, 1) == counted(False, 1)
