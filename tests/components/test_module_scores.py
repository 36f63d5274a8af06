"""The scores praise what was planted and nothing else: split, merged, mixed and random groups each fail where they should."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from tests.components.conftest import OWN, QUICK, D, K, blocks_target, by_hand, full_marks, planted_pieces, scored
from unbraid.components.coverage import subspace_overlap
from unbraid.components.cross_talk import cross_talk
from unbraid.components.labelling import planted_modules
from unbraid.components.module_scores import ModuleScores, module_scores, permuted
from unbraid.components.probes import draw_probes
from unbraid.components.scorecard import scorecard
from unbraid.components.verb import group
from unbraid.core.errors import UserError
from unbraid.decompose.result import Decomposition
from unbraid.targets.target import Target

Perfect = Callable[..., Decomposition]


def values(scores: ModuleScores) -> dict[str, float]:
    return {line.key: line.value.value for line in scores.lines()}


def test_planted_pieces_score_full_marks() -> None:
    scores = full_marks()
    found = values(scores)
    full = ("module_ari", "module_nmi", "module_homogeneity", "module_completeness", "module_share", "group_count_ratio", "modules_found")
    full += ("piece_coverage", "piece_match", "piece_worst", "cross_talk_out_margin", "sufficiency", "necessity", "sufficiency_pgd_20")
    assert {key: found[key] for key in full} == pytest.approx(dict.fromkeys(full, 1.0), abs=1e-4)
    assert found["cross_talk_out"] == pytest.approx(0.0, abs=1e-5)
    assert found["cross_talk_in"] == pytest.approx(0.0, abs=1e-5)
    assert all(line.passed is not False for line in scores.lines())
    assert "subspace_overlap" not in found


def test_random_groups_fail_every_line_that_looks_at_groups() -> None:
    lines = {line.key: line for line in full_marks().lines()}
    assert abs(lines["module_ari"].nulls["random"]) < 0.1
    assert lines["module_ari"].failing_nulls == ["random", "untrained"]
    assert lines["piece_coverage"].failing_nulls == ["untrained"]
    assert lines["cross_talk_out"].nulls["random"] > 0.4
    assert lines["cross_talk_in"].nulls["random"] > 0.3
    assert lines["sufficiency"].nulls["random"] < 0.7
    assert lines["modules_found"].nulls["random"] < 0.5
    assert lines["module_ari"].oracle == pytest.approx(1.0)


def test_merged_modules_lose_homogeneity_and_cross_talk() -> None:
    target = blocks_target()
    both = {path: [[0, 1] if own[0] in (0, 1) else own for own in all_] for path, all_ in OWN.items()}
    found = values(scored(by_hand(target, planted_pieces(target), both)))
    assert found["module_homogeneity"] < 0.8
    assert found["module_completeness"] == pytest.approx(1.0)
    assert found["group_count_ratio"] == pytest.approx((K - 1) / K)
    assert found["module_ari"] < 0.95
    assert found["cross_talk_out"] == pytest.approx(1 / K, abs=0.05)
    assert found["cross_talk_out_margin"] <= 0


def test_merging_what_the_data_cannot_tell_apart_is_not_punished() -> None:
    target = blocks_target(unresolvable=(frozenset({"m0", "m1"}),))
    both = {path: [[0, 1] if own[0] in (0, 1) else own for own in all_] for path, all_ in OWN.items()}
    scores = scored(by_hand(target, planted_pieces(target), both))
    assert scores.names == ("m0 + m1", "m2", "m3")
    assert values(scores)["module_ari"] == pytest.approx(1.0)
    assert values(scores)["cross_talk_out"] == pytest.approx(0.0, abs=1e-5)


def test_groups_split_by_site_lose_completeness(perfect: Perfect) -> None:
    decomposition = perfect()
    modules = group(decomposition, QUICK)
    split = {path: tuple(label + K * (path == "write") for label in own) for path, own in modules.labels.items()}
    found = values(module_scores(decomposition, replace(modules, labels=split, group_rates=modules.group_rates * 2)))
    assert found["module_completeness"] < 0.8
    assert found["module_homogeneity"] == pytest.approx(1.0)
    assert found["group_count_ratio"] == pytest.approx(2.0)
    assert found["module_ari"] < 0.95
    assert found["cross_talk_out"] > 0.4


def test_missing_module_is_not_forgiven() -> None:
    target = blocks_target()
    pieces = {path: (V[:, D:], U[D:]) for path, (V, U) in planted_pieces(target).items()}
    found = values(scored(by_hand(target, pieces, {path: own[D:] for path, own in OWN.items()})))
    assert found["module_ari"] == pytest.approx(1.0)  # what is there is sorted well …
    assert found["piece_coverage"] == pytest.approx((K - 1) / K)  # … but not all is there
    assert found["modules_found"] == pytest.approx((K - 1) / K)
    assert found["piece_worst"] == 0.0
    assert found["cross_talk_out_margin"] <= 0


def test_a_piece_with_the_wrong_sign_is_no_match() -> None:
    target = blocks_target()
    pieces = dict(planted_pieces(target))
    V, U = pieces["read"]
    pieces["read"] = (torch.cat([-V[:, :1], V[:, 1:]], 1), U)
    assert values(scored(by_hand(target, pieces, OWN)))["piece_coverage"] == pytest.approx(1 - 1 / (2 * K * D))


def turned(target: Target) -> Decomposition:
    """The planted blocks, written in another basis of each."""
    R = torch.block_diag(*[torch.linalg.qr(torch.randn(D, D))[0] for _ in range(K)])
    return by_hand(target, {path: (V @ R, R.T @ U) for path, (V, U) in planted_pieces(target).items()}, OWN)


def test_where_only_subspaces_are_planted_any_basis_is_as_good() -> None:
    target = blocks_target()
    assert target.truth is not None
    single = values(scored(turned(target)))
    assert single["piece_coverage"] < 0.5
    target.truth = replace(target.truth, sites={path: replace(site, any_basis=True) for path, site in target.truth.sites.items()})
    found = values(scored(turned(target)))
    assert "piece_coverage" not in found
    assert found["subspace_overlap"] == pytest.approx(1.0, abs=1e-4)
    assert found["module_share"] == pytest.approx(1.0, abs=1e-4)
    assert found["module_ari"] == pytest.approx(1.0)


@pytest.mark.parametrize(("columns", "overlap"), [((0, 1), 1.0), ((0, 2), 0.5), ((2, 3), 0.0), ((0,), 0.5), ((0, 1, 2, 3), 0.5), ((), 0.0)])
def test_subspace_overlap(columns: tuple[int, ...], overlap: float) -> None:
    found = torch.eye(5)[:, list(columns)]
    assert subspace_overlap(found, torch.eye(5)[:, :2] @ torch.tensor([[1.0, 1.0], [0.0, 1.0]])) == pytest.approx(overlap, abs=1e-5)


def test_read_directions_are_compared_where_data_lets_them_be_read() -> None:
    target = blocks_target()
    assert target.truth is not None
    site = replace(target.truth.sites["read"], any_basis=True)
    V = site.V + torch.nn.functional.pad(torch.ones(1, K * D), (0, 0, 0, K * D - 1)) * 5  # every piece also reads input 0
    blind = replace(site, read_basis=torch.eye(K * D)[:, 1:])
    assert planted_modules(V, site.U, site, target.truth).share.min() < 0.5
    assert planted_modules(V, site.U, blind, target.truth).share.min() > 0.99


def test_cross_talk_of_a_known_matrix() -> None:
    talk = cross_talk(torch.tensor([[0.1, 0.9], [0.8, 0.0], [0.2, 0.0]]), ["a", "b", "c"], ["x", "y"])
    assert talk.pairs == ((0, 1), (1, 0))
    assert talk.share == pytest.approx(1 - 1.7 / 2.0)
    assert talk.margin == pytest.approx(0.6)
    assert cross_talk(torch.zeros(2, 2), "ab", "xy").share == 1.0
    assert cross_talk(torch.zeros(0, 2), "", "xy").margin == 0.0


def test_input_side_sees_coupling_that_the_output_side_does_not() -> None:
    target = blocks_target(coupling=0.3)
    found = values(scored(by_hand(target, planted_pieces(target), OWN)))
    assert found["cross_talk_in"] > 0.1


def test_probes_need_one_module_alone(perfect: Perfect) -> None:
    decomposition = perfect()
    assert decomposition.target.truth is not None
    probes = draw_probes(decomposition, decomposition.target.truth)
    assert probes.modules == list(range(K))
    for module, inputs in probes.inputs.items():
        on = inputs.unflatten(-1, (K, D)).ne(0).any(-1)
        assert on[:, module].all()
        assert on.sum() == len(inputs)


def test_groups_that_fire_are_counted_against_modules_that_are_needed() -> None:
    table = full_marks().calibration
    assert [row.planted for row in table] == list(range(len(table)))
    assert len(table) > 3
    assert all(row.groups == row.planted for row in table)


def test_permuted_groups_keep_their_sizes() -> None:
    labels = {"a": (0, 0, 1, -1), "b": (2, 1, -1)}
    other = permuted(labels, seed=3)
    assert sorted(label for own in other.values() for label in own) == sorted(label for own in labels.values() for label in own)
    assert other["a"][3] == other["b"][2] == -1


def test_toys_may_set_their_own_bars() -> None:
    target = blocks_target(bars={"module_ari": (None, None), "cross_talk_out": (None, 0.2)})
    lines = {line.key: line for line in scored(by_hand(target, planted_pieces(target), OWN)).lines()}
    assert lines["module_ari"].bar is None
    assert lines["cross_talk_out"].passed is True


def test_nothing_found_scores_nothing() -> None:
    target = blocks_target()
    never = {path: [list[int]() for _ in own] for path, own in OWN.items()}
    found = values(scored(by_hand(target, planted_pieces(target), never)))
    assert found["module_ari"] == found["piece_coverage"] == found["modules_found"] == found["group_count_ratio"] == 0.0
    assert found["cross_talk_out"] == 1.0


def test_without_planted_modules_there_is_nothing_to_score(target: Target) -> None:
    decomposition = Decomposition(target, *_untrained(target), 0)
    with pytest.raises(UserError, match="No modules are planted"):
        module_scores(decomposition)


def _untrained(target: Target):  # type: ignore[no-untyped-def]
    from unbraid.decompose.config import DecomposeConfig
    from unbraid.decompose.training import build

    config = DecomposeConfig.parse({"components": 3})
    return config, *build(target, config)


def test_scorecard_has_the_lines_on_modules(perfect: Perfect) -> None:
    decomposition = perfect()
    card = scorecard(decomposition, group(decomposition, QUICK))
    assert card["module_ari"].group == "modules"
    assert card["module_ari"].passed
    assert card["stoch_masked"].group == "behaviour"
    json.dumps(card.tree())


def test_scores_are_ready_for_json_and_reading(capsys: pytest.CaptureFixture[str]) -> None:
    scores = full_marks()
    json.dumps(scores.tree())
    scores.show()
    assert "groups against modules" in capsys.readouterr().out
    assert "<table>" in scores._repr_html_()


def alternating(inputs: torch.Tensor) -> torch.Tensor:
    """The first half of every module's pieces on some inputs, the others on the rest."""
    turn = (inputs.sum(-1, keepdim=True) * 1000).floor() % 2
    half = (torch.arange(K * D) % D >= 1).float()
    return (inputs != 0) * torch.where(turn == 0, half, 1 - half)


def test_oracle_is_what_perfect_pieces_would_give_not_what_was_planted() -> None:
    target = blocks_target()
    assert target.truth is not None
    target.truth = replace(target.truth, sites={path: replace(site, on=alternating) for path, site in target.truth.sites.items()})
    scores = scored(by_hand(target, planted_pieces(target), OWN))
    lines = {line.key: line for line in scores.lines()}
    assert lines["module_ari"].oracle is not None
    assert lines["module_ari"].oracle < 0.8  # pieces of one module that never fire together cannot be grouped by firing
    assert scores.planted.agreement.ari == pytest.approx(1.0)
