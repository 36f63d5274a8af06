"""Does the path that a user takes in Python hold, on modules and batches of their own?"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import unbraid
from tests.models import Conv1D
from unbraid.targets.data import Batch

QUICK = {
    "steps": 5,
    "components": 6,
    "warmup": {"steps": 3},
    "evaluation": {"batches": 2, "batch_size": 8, "adversary_steps": [2, 4], "ladder_batches": 1},
}


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear1 = nn.Linear(5, 7)
        self.linear2 = nn.Linear(7, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear2(torch.relu(self.linear1(x)))


class Model(nn.Module):
    """Tokens to logits; the unembedding is the embedding again, read as a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 5)
        self.block = Block()
        self.norm = nn.LayerNorm(4)
        self.out = nn.Linear(4, 5)

    def forward(self, tokens: Tensor, keep: Tensor | None = None) -> Tensor:
        h = self.norm(self.block(self.embed(tokens)))
        h = h if keep is None else h * keep[..., None]
        return self.out(h) @ self.embed.weight.T


def tokens() -> list[Tensor]:
    return [torch.randint(0, 11, (4, 6)) for _ in range(3)]


def keep() -> Tensor:
    return torch.ones(4, 6)


TARGETS: dict[str, Callable[[], unbraid.Target]] = {
    "tensors": lambda: unbraid.Target(
        nn.Sequential(Block()), sites="*.linear*", data=[torch.randn(16, 5) for _ in range(3)], behaviour="mse"
    ),
    "tokens": lambda: unbraid.Target(Model(), sites="*.linear*", data=tokens(), behaviour="kl"),
    "mappings": lambda: unbraid.Target(Model(), sites="*.linear*", data=[{"tokens": t, "keep": keep()} for t in tokens()], behaviour="kl"),
    "tuples": lambda: unbraid.Target(Model(), sites=["*.linear1", "out"], data=[(t, keep()) for t in tokens()], behaviour="kl"),
    "list(loader)": lambda: unbraid.Target(Block(), sites="*", data=list(DataLoader(TensorDataset(torch.randn(16, 5)), 8))),
    "function": lambda: unbraid.Target(Block(), sites="*", data=lambda size, generator: torch.randn(size, 5, generator=generator)),
    "Conv1D": lambda: unbraid.Target(nn.Sequential(Conv1D(6, 5), nn.GELU(), Conv1D(3, 6)), sites="*", data=[torch.randn(4, 2, 5)]),
    "torch's transformer": lambda: unbraid.Target(
        nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), sites="linear*", data=[torch.randn(4, 3, 8)]
    ),
}


@pytest.mark.parametrize("name", list(TARGETS))
def test_the_whole_path(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = TARGETS[name]()
    before = {key: value.clone() for key, value in target.module.state_dict().items()}
    result = unbraid.decompose(target, unbraid.preset("vpd", **QUICK))
    assert isinstance(result.summary(), Table)
    result.show()
    assert target.sites[0].path in capsys.readouterr().out
    result.save_pretrained(tmp_path / "mine")

    batch: Batch = target.data.batch(0, 4, torch.Generator().manual_seed(0))
    own = target(batch)
    importance = result.importance(batch)
    assert set(importance) == {site.path for site in target.sites}
    for g in importance.values():
        assert g.shape == (*own.shape[:-1], 6)
        assert bool(((g >= 0) & (g <= 1)).all())

    ones = {site.path: torch.ones(6) for site in target.sites}
    torch.testing.assert_close(result.masked_forward(batch, ones), own, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(result.masked_forward(batch, {}), own, rtol=1e-4, atol=1e-5)
    first = target.sites[0].path
    ablated = result.masked_forward(batch, {first: torch.zeros(6)}, delta=0.0)
    assert not torch.allclose(ablated, own)
    one_off = torch.ones(6)
    one_off[0] = 0
    assert not torch.allclose(result.masked_forward(batch, {first: one_off}), own, rtol=1e-6, atol=1e-7)

    again = unbraid.Decomposition.from_pretrained(tmp_path / "mine", target=target)
    for path, g in again.importance(batch).items():
        assert torch.equal(g, importance[path])
    card = result.scorecard()
    assert not card.has_truth
    card.show()
    for key, value in target.module.state_dict().items():
        assert torch.equal(value, before[key])


ORDERS = {
    "the recipe first": "import unbraid; config = unbraid.preset('spd', steps=1); unbraid.decompose(target(), config)",
    "the verb first": "import unbraid; verb = unbraid.decompose; verb(target(), unbraid.preset('spd', steps=1))",
    "a file of the room first": "import unbraid.decompose.plots; import unbraid; unbraid.decompose(target(), unbraid.preset('spd', steps=1))",
    "from": "from unbraid import decompose, preset; decompose(target(), preset('spd', steps=1))",
    "star": "from unbraid import *; decompose(target(), preset('spd', steps=1))",
}
SETUP = """
def target():
    import torch, unbraid
    return unbraid.Target(torch.nn.Sequential(torch.nn.Linear(3, 2)), sites="*", data=[torch.randn(4, 3)])
"""


@pytest.mark.parametrize("order", list(ORDERS))
def test_the_room_stays_callable_in_any_order(order: str) -> None:
    done = subprocess.run([sys.executable, "-c", SETUP + ORDERS[order]], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((torch.randn(4, 5) for _ in range(3)), "The data is generator. Give a list of batches"),
        (iter([torch.randn(4, 5)]), "The data is list_iterator"),
        (DataLoader(TensorDataset(torch.randn(8, 5)), 4), r"The data is DataLoader.*use list\(...\) on a loader"),
        ({"x": torch.randn(4, 5)}, "The data is dict"),
        ([torch.randn(4, 5).numpy()], "A batch of the data holds ndarray"),
        ([{"x": [1.0, 2.0]}], "A batch of the data holds list"),
    ],
)
def test_data_that_cannot_be_read_again(data: object, message: str) -> None:
    with pytest.raises(unbraid.UserError, match=message):
        unbraid.Target(Block(), sites="*", data=data)


def test_a_weight_that_is_read_besides_its_site() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.enc = nn.Linear(4, 4, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            return F.linear(torch.relu(self.enc(x)), self.enc.weight.T)

    target = unbraid.Target(Tied(), sites="*", data=[torch.randn(6, 4)])
    with pytest.raises(unbraid.UserError, match="'Tied' does not give its own output any more"):
        unbraid.decompose(target, unbraid.preset("spd", **QUICK))


def test_a_model_in_another_precision() -> None:
    target = unbraid.Target(Block().double(), sites="*", data=[torch.randn(4, 5, dtype=torch.float64)])
    with pytest.raises(unbraid.UserError, match=r"The weights of 'linear1' are float64.*module.float\(\)"):
        unbraid.decompose(target, unbraid.preset("spd", **QUICK))


def test_masks_that_do_not_fit() -> None:
    target = TARGETS["tensors"]()
    result = unbraid.decompose(target, unbraid.preset("spd", **QUICK))
    batch = target.data.batch(0, 4, torch.Generator())
    with pytest.raises(unbraid.UserError, match=r"Unknown site '0.linear3'. Closest: '0.linear"):
        result.masked_forward(batch, {"0.linear3": torch.ones(6)})
    with pytest.raises(unbraid.UserError, match="Its last axis is the 6 subcomponents"):
        result.masked_forward(batch, {"0.linear1": torch.ones(5)})


def test_a_folder_for_another_target(tmp_path: Path) -> None:
    result = unbraid.decompose(TARGETS["tensors"](), unbraid.preset("spd", **QUICK))
    result.save_pretrained(tmp_path)
    with pytest.raises(unbraid.UserError, match="with other weights than this target's"):
        unbraid.Decomposition.from_pretrained(tmp_path, target=TARGETS["tensors"]())
    with pytest.raises(unbraid.UserError, match="was made on a model given in Python"):
        unbraid.Decomposition.from_pretrained(tmp_path)
