"""Groups are made from what fires together on fresh data, say what they left out, and come back from their folder as they were."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import unbraid
from tests.components.conftest import OWN, QUICK, D, K, blocks_target, by_hand, planted_pieces
from unbraid.components.result import Modules
from unbraid.components.verb import flat_activity, harvest
from unbraid.core.errors import UserError
from unbraid.decompose.result import Decomposition

Perfect = Callable[..., Decomposition]


def test_modules_are_found_over_both_sites(perfect: Perfect) -> None:
    modules = unbraid.group(perfect(), QUICK)
    assert modules.count == K
    assert modules.labels == {path: tuple(unit // D for unit in range(K * D)) for path in ("read", "write")}
    assert modules.sizes == (2 * D,) * K
    assert modules.members[1] == {"read": (3, 4, 5), "write": (3, 4, 5)}
    assert modules.group_rates == pytest.approx([0.3] * K, abs=0.05)
    assert modules.ignored == modules.silent == 0
    assert modules.sensitivity == ((0.25, 1.0), (1.0, 1.0))


def test_same_seed_same_groups(perfect: Perfect) -> None:
    assert unbraid.group(perfect(), QUICK) == unbraid.group(perfect(), QUICK)
    other = unbraid.group(perfect(), QUICK.model_copy(update={"seed": 1}))
    assert other.rates != unbraid.group(perfect(), QUICK).rates


def test_silent_and_rare_subcomponents_are_left_out() -> None:
    target = blocks_target()
    first = {path: [list[int](), *own[1:]] for path, own in OWN.items()}
    decomposition = by_hand(target, planted_pieces(target), first)
    modules = unbraid.group(decomposition, QUICK)
    assert modules.silent == 2
    assert modules.labels["read"][0] == -1
    rare = unbraid.group(decomposition, QUICK.model_copy(update={"min_density": 0.9}))
    assert (rare.count, rare.ignored, rare.silent) == (0, 2 * K * D - 2, 2)


def test_harvest_counts_every_datapoint_and_keeps_those_that_speak(perfect: Perfect) -> None:
    decomposition = perfect()
    activity, datapoints = harvest(decomposition.importance, decomposition.target.data, QUICK, decomposition.device)
    assert datapoints >= QUICK.datapoints
    assert len(activity["read"]) / datapoints == pytest.approx(1 - 0.7**K, abs=0.05)
    assert (activity["read"].any(1) | activity["write"].any(1)).all()


def test_positions_are_datapoints_where_all_sites_see_them() -> None:
    g = torch.tensor([[[0.0, 0.2], [0.05, 0.0]], [[1.0, 0.0], [0.0, 0.0]]])
    flat = flat_activity({"a": g, "b": g}, 0.1)
    assert flat["a"].tolist() == [[False, True], [False, False], [True, False], [False, False]]
    mixed = flat_activity({"a": g, "b": g[:, 0]}, 0.1)
    assert mixed["a"].tolist() == [[False, True], [True, False]]
    assert mixed["b"].tolist() == [[False, True], [True, False]]


def test_groups_come_back_from_their_folder(perfect: Perfect, tmp_path: Path) -> None:
    modules = unbraid.group(perfect(), QUICK)
    modules.save_pretrained(tmp_path / "modules")
    assert Modules.from_pretrained(tmp_path / "modules") == modules
    (tmp_path / "modules" / "modules.json").write_text("{}")
    with pytest.raises(UserError, match="damaged"):
        Modules.from_pretrained(tmp_path / "modules")
    with pytest.raises(UserError, match="There is no grouping"):
        Modules.from_pretrained(tmp_path / "nothing")


def test_groups_are_shown(perfect: Perfect, capsys: pytest.CaptureFixture[str]) -> None:
    modules = unbraid.group(perfect(), QUICK)
    modules.show()
    assert "24 subcomponents in 4 groups" in " ".join(capsys.readouterr().out.split())
    assert "<caption>blocks: 4 groups</caption>" in modules._repr_html_()
