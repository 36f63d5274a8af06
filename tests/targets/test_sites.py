from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import nn

from tests.models import Conv1D, Pair, mlp, tied_pair
from unbraid.core.errors import UserError
from unbraid.targets.matrices import bias_of, weight_of
from unbraid.targets.sites import Site, Tie, find_sites, match_paths


def nested() -> nn.Module:
    return nn.ModuleDict({"a": nn.ModuleDict({"q": nn.Linear(3, 4), "k": nn.Linear(3, 4), "norm": nn.LayerNorm(4)}), "b": nn.Linear(4, 2)})


@pytest.mark.parametrize(
    ("patterns", "paths"),
    [
        (["*"], ["a.q", "a.k", "b"]),
        (["a.*"], ["a.q", "a.k"]),
        (["b", "a.q"], ["a.q", "b"]),  # in the model's own order
        (["a.[qk]"], ["a.q", "a.k"]),
    ],
)
def test_globs_choose_modules_in_the_models_order(patterns: Sequence[str], paths: list[str]) -> None:
    assert match_paths(nested(), patterns) == paths


def test_no_match_names_the_closest_and_all_sites() -> None:
    with pytest.raises(UserError, match=r"The glob 'a\.qq' matches no site\. Closest: 'a\.q', 'a\.k'\. Sites of this model: a\.q, a\.k, b\."):
        match_paths(nested(), ["a.qq"])


def test_double_match_names_both_globs() -> None:
    with pytest.raises(UserError, match=r"'a\.q' is matched twice, by 'a\.\*' and by '\*\.q'"):
        match_paths(nested(), ["a.*", "*.q"])


def test_module_that_cannot_be_decomposed_is_named() -> None:
    with pytest.raises(UserError, match=r"'a\.norm' matches only modules that cannot be decomposed \(LayerNorm\)"):
        match_paths(nested(), ["a.norm"])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(bad: float) -> None:
    module = mlp()
    with torch.no_grad():
        module.get_parameter("2.weight")[0, 0] = bad
    with pytest.raises(UserError, match="The weights of '2' hold NaN or infinity"):
        find_sites(module, ["*"])
    assert [site.path for site in find_sites(module, ["0"])] == ["0"]


def test_linear_and_conv1d_are_read_the_same_way_round() -> None:
    x = torch.randn(5, 3)
    for module in (nn.Linear(3, 4), Conv1D(4, 3)):
        bias = bias_of(module)
        assert bias is not None
        torch.testing.assert_close(x @ weight_of(module) + bias, module(x))
        assert find_sites(nn.ModuleDict({"layer": module}), ["layer"]) == (Site("layer", 3, 4),)


def test_other_classes_called_conv1d_are_not_taken() -> None:
    assert not hasattr(nn.Conv1d(1, 1, 1), "nf")
    with pytest.raises(UserError, match="cannot be decomposed"):
        match_paths(nn.ModuleDict({"c": nn.Conv1d(3, 3, 1)}), ["c"])


def test_bias_of_a_module_without_one() -> None:
    assert bias_of(nn.Linear(2, 2, bias=False)) is None


def test_declared_tie_transposed() -> None:
    sites = find_sites(tied_pair(), ["down", "up"], tied=[("down", "up")])
    assert [site.tie for site in sites] == [None, Tie("down", transposed=True)]


def test_declared_tie_same_way_round() -> None:
    module = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    with torch.no_grad():
        module.get_parameter("1.weight").copy_(module.get_parameter("0.weight"))
    assert find_sites(module, ["*"], tied=[("0", "1")])[1].tie == Tie("0", transposed=False)


def test_declared_tie_that_is_none_is_refused() -> None:
    with pytest.raises(UserError, match="declared tied, but their weights differ"):
        find_sites(Pair(5, 2), ["down", "up"], tied=[("down", "up")])
    with pytest.raises(UserError, match="names 'top', which is not a site"):
        find_sites(tied_pair(), ["down", "up"], tied=[("down", "top")])


def test_shared_storage_is_found() -> None:
    module = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    module[1].weight = module[0].weight
    assert find_sites(module, ["*"])[1].tie == Tie("0", transposed=False)


def test_shared_storage_is_found_across_layouts() -> None:
    linear, conv = nn.Linear(3, 4, bias=False), Conv1D(3, 4)
    conv.weight = linear.weight  # [4, 3]: linear reads it transposed, Conv1D as it is
    assert find_sites(nn.Sequential(linear, conv), ["*"])[1].tie == Tie("0", transposed=True)


def test_square_shared_storage_knows_which_way_round() -> None:
    linear, conv = nn.Linear(3, 3, bias=False), Conv1D(3, 3)
    conv.weight = linear.weight
    assert find_sites(nn.Sequential(linear, conv), ["*"])[1].tie == Tie("0", transposed=True)


def test_three_sites_in_one_storage_have_one_owner() -> None:
    module = nn.Sequential(*(nn.Linear(3, 3, bias=False) for _ in range(3)))
    module[1].weight = module[2].weight = module[0].weight
    assert [site.tie for site in find_sites(module, ["*"])] == [None, Tie("0", False), Tie("0", False)]


def test_identity_before_a_module() -> None:
    sites = find_sites(mlp(4, 6, 3), ["0"], identities=["2"])
    assert sites == (Site("0", 4, 6), Site("2.pre_identity", 6, 6))
    assert [site.is_identity for site in sites] == [False, True]
