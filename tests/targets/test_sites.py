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
    with pytest.raises(
        UserError, match=r"The glob 'a\.qq' matches no site\. Closest: 'a\.q', 'a\.k'\. Sites of this model: a\.q, a\.k, b\."
    ):
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


class Config:
    """What says which family a model is of."""

    model_type, num_attention_heads, hidden_size = "gpt2", 2, 6


class Block(nn.Module):
    """A fused matrix, an embedding and a linear map."""

    def __init__(self) -> None:
        super().__init__()
        self.config = Config()
        self.embed = nn.Embedding(9, 6)
        self.c_attn = Conv1D(18, 6)
        self.mlp = nn.Linear(6, 6)


@pytest.mark.parametrize(
    ("patterns", "paths"),
    [
        (["*"], ["c_attn", "mlp"]),  # every matrix that is multiplied, and whole
        (["*attn:*"], ["c_attn:q", "c_attn:k", "c_attn:v"]),
        (["mlp", "*:[kq]", "embed"], ["embed", "c_attn:q", "c_attn:k", "mlp"]),
        (["e*"], ["embed"]),
    ],
)
def test_parts_and_embeddings_are_chosen_when_they_are_meant(patterns: Sequence[str], paths: list[str]) -> None:
    assert sorted(match_paths(Block(), patterns)) == sorted(paths)
    assert [path.partition(":")[0] for path in match_paths(Block(), patterns)] == [path.partition(":")[0] for path in paths]


def test_a_part_is_a_site_with_its_own_width() -> None:
    site = find_sites(Block(), ["c_attn:v"])[0]
    assert (site.path, site.module_path, site.d_in, site.d_out) == ("c_attn:v", "c_attn", 6, 6)
    assert site.part is not None and site.part.outputs() == list(range(12, 18))


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (["c_attn", "c_attn:q"], r"'c_attn' is chosen whole, by 'c_attn', and in part, by 'c_attn:q'\. Choose one or the other"),
        (["c_attn:*", "*:q"], r"'c_attn:q' is matched twice, by 'c_attn:\*' and by '\*:q'"),
        (["c_attn:z"], r"'c_attn:z' matches no part\. Parts: q, k, v"),
        (["mlp:q"], r"'mlp' is not a fused matrix\. Decompose it whole: 'mlp'"),
        (["attn:q"], r"'attn' matches no site\. Closest: 'c_attn'"),
    ],
)
def test_parts_that_do_not_fit(patterns: Sequence[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        match_paths(Block(), patterns)


def test_a_part_of_a_family_whose_order_is_not_known_is_refused() -> None:
    block = Block()
    block.config = type("Other", (Config,), {"model_type": "gpt_bigcode"})()
    with pytest.raises(UserError, match=r"'c_attn' is fused in an order that is not known for this model\. Decompose it whole"):
        match_paths(block, ["c_attn:q"])
    assert match_paths(block, ["c_attn"]) == ["c_attn"]


def test_convolutions_are_matrices_on_patches() -> None:
    module = nn.Sequential(nn.Conv2d(3, 5, (2, 4)), nn.Conv2d(6, 6, 3, groups=6), nn.Conv3d(1, 1, 1))
    assert find_sites(module, ["*"]) == (Site("0", 3 * 2 * 4, 5),)
    with pytest.raises(UserError, match=r"'1' cannot be decomposed: its channels are in 6 groups, each with a matrix of its own"):
        match_paths(module, ["1"])
    with pytest.raises(UserError, match=r"\(Conv3d\)\. Allowed: nn\.Linear, Hugging Face Conv1D, nn\.Conv2d, nn\.Embedding"):
        match_paths(module, ["2"])


class Looked(nn.Embedding):
    """An embedding that does something of its own."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(input + 1)


@pytest.mark.parametrize(
    ("module", "message"),
    [(nn.Embedding(4, 3, max_norm=1.0), "max_norm"), (Looked(4, 3), "Looked does more than look rows up")],
)
def test_embeddings_that_are_no_plain_tables_are_refused(module: nn.Module, message: str) -> None:
    with pytest.raises(UserError, match=f"'embed' cannot be decomposed: .*{message}"):
        match_paths(nn.ModuleDict({"embed": module}), ["embed"])


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.float8_e4m3fn])
def test_quantised_weights_are_refused(dtype: torch.dtype) -> None:
    module = nn.ModuleDict({"layer": nn.Linear(3, 3, bias=False)})
    module["layer"].weight = nn.Parameter(torch.ones(3, 3).to(dtype), requires_grad=False)
    with pytest.raises(UserError, match=r"The weights of 'layer' are quantised \(.*\)\. Load the model in float32"):
        find_sites(module, ["*"])
    module["plain"] = nn.Linear(3, 3)
    with pytest.raises(UserError, match="The weights of 'layer' are quantised"):
        find_sites(module, ["*"])
    assert [site.path for site in find_sites(module, ["plain"])] == ["plain"]


def test_tied_embedding_is_found_transposed() -> None:
    module = nn.ModuleDict({"embed": nn.Embedding(7, 7), "unembed": nn.Linear(7, 7, bias=False)})
    module["unembed"].weight = module["embed"].weight
    assert [site.tie for site in find_sites(module, ["embed", "unembed"])] == [None, Tie("embed", transposed=True)]
    assert [site.tie for site in find_sites(module, ["unembed"])] == [None]


def test_a_shared_matrix_whole_in_one_module_and_in_part_in_another_is_refused() -> None:
    model = nn.ModuleDict({"first": Block(), "second": Block()})
    model["second"].get_submodule("c_attn").weight = model["first"].get_submodule("c_attn").weight
    with pytest.raises(UserError, match="'first.c_attn' and 'second.c_attn:q' overlap in one parameter"):
        find_sites(model, ["first.c_attn", "second.c_attn:q"])
    assert [site.tie for site in find_sites(model, ["*.c_attn:q"])] == [None, Tie("first.c_attn:q", transposed=False)]


@pytest.mark.parametrize("path", ["embed", "c_attn:q"])
def test_an_identity_goes_before_a_linear_map_only(path: str) -> None:
    with pytest.raises(UserError, match=f"No identity can be inserted before '{path}'"):
        find_sites(Block(), ["mlp"], identities=[path])


def test_a_large_model_is_not_listed_whole() -> None:
    layers = {f"layer{name}": nn.ModuleList([nn.Linear(2, 2) for _ in range(30)]) for name in "abcdefghijkl"}
    with pytest.raises(UserError) as caught:
        match_paths(nn.ModuleDict(layers), ["layera.3x"])
    assert "Closest: 'layera.3', " in str(caught.value) and "layerb.*" in str(caught.value)
    assert "and 4 more; list them: unbraid sites MODEL" in str(caught.value)
    assert len(str(caught.value)) < 300
