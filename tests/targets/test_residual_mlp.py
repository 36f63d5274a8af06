from __future__ import annotations

from typing import cast

import pytest
import torch

from unbraid.targets.matrices import weight_of
from unbraid.targets.toy import find_toy
from unbraid.targets.toy_kit.residual_mlp import ResidualMLP, ResidualMLPModule, arrivals

DEEP = ("residual-mlp-2", "residual-mlp-3")


def small(n_layers: int = 2) -> ResidualMLP:
    return ResidualMLP(kind="small", n_features=6, d_model=40, d_mlp=3, n_layers=n_layers)


def test_stream_is_embedded_by_unit_directions_and_read_by_their_transpose() -> None:
    module = ResidualMLPModule(n_features=6, d_model=40, d_mlp=3, n_layers=2)
    torch.testing.assert_close(module.embed.weight.norm(dim=0), torch.ones(6))
    assert torch.equal(module.embed.weight.T, module.unembed.weight)
    assert sorted(name for name, parameter in module.named_parameters() if parameter.requires_grad) == [
        f"blocks.{layer}.mlp_{side}.weight" for layer in range(2) for side in ("in", "out")
    ]


def test_forward_is_the_written_formula() -> None:
    module = ResidualMLPModule(n_features=6, d_model=8, d_mlp=3, n_layers=1)
    x = torch.randn(4, 6)
    stream = x @ module.embed.weight.T
    read, write = weight_of(module.get_submodule("blocks.0.mlp_in")), weight_of(module.get_submodule("blocks.0.mlp_out"))
    torch.testing.assert_close(module(x), (stream + torch.relu(stream @ read) @ write) @ module.embed.weight)


def test_truth_does_what_the_matrices_do_on_the_embedded_data() -> None:
    toy = find_toy("residual-mlp-1")
    module = toy.build()
    truth = toy.truth(module)
    stream = module.get_submodule("embed")(torch.rand(5, 100)).detach()
    site = truth.sites["blocks.0.mlp_in"]
    torch.testing.assert_close(stream @ site.V @ site.U, stream @ weight_of(module.get_submodule("blocks.0.mlp_in")), rtol=1e-3, atol=1e-4)
    out = truth.sites["blocks.0.mlp_out"]
    torch.testing.assert_close(out.V @ out.U, weight_of(module.get_submodule("blocks.0.mlp_out")))


def test_reading_pieces_answer_one_feature_each() -> None:
    toy = find_toy("residual-mlp-1")
    module = toy.build()
    site = toy.truth(module).sites["blocks.0.mlp_in"]
    stream = module.get_submodule("embed")(torch.eye(100)).detach()
    torch.testing.assert_close(stream @ site.V, torch.eye(100), rtol=0, atol=1e-4)


def test_features_arrive_at_a_later_block_with_what_earlier_ones_wrote() -> None:
    module = small().build()
    first, second = arrivals(module, n_features=6, n_layers=2)
    torch.testing.assert_close(first, module.get_parameter("embed.weight").detach())
    torch.testing.assert_close(second.T, module.get_submodule("blocks.0")(first.T).detach())
    half = module.get_submodule("blocks.0")(0.5 * first.T).detach()
    torch.testing.assert_close(half, 0.5 * second.T)


def test_one_positive_feature_is_read_by_its_own_piece_alone_in_every_block() -> None:
    toy = small(n_layers=3)
    module = toy.build()
    sites = toy.truth(module).sites
    for layer, arriving in enumerate(arrivals(module, n_features=6, n_layers=3)):
        site = sites[f"blocks.{layer}.mlp_in"]
        torch.testing.assert_close(arriving.T @ site.V, torch.eye(6), rtol=0, atol=1e-4)
        torch.testing.assert_close(
            site.V @ site.U, weight_of(module.get_submodule(f"blocks.{layer}.mlp_in")).detach(), rtol=1e-3, atol=1e-4
        )


def test_the_pieces_of_a_feature_in_all_blocks_are_one_module_and_all_writing_is_another() -> None:
    toy = small()
    truth = toy.truth(toy.build())
    features = tuple(f"feature {i}" for i in range(6))
    assert truth.sites["blocks.0.mlp_in"].modules == truth.sites["blocks.1.mlp_in"].modules == features
    assert truth.sites["blocks.0.mlp_out"].modules == truth.sites["blocks.1.mlp_out"].modules == ("write",) * 3


def test_every_block_has_an_identity_error_of_its_own_to_keep() -> None:
    toy = small()
    truth = toy.truth(toy.build())
    assert truth.bars == {f"identity_error/blocks.{layer}.mlp_in": (None, 4) for layer in range(2)}
    assert truth.identity_error_bar == 8


def test_wanted_adds_the_positive_part_and_dedicated_neurons_do_so_for_as_many_features_as_there_are_neurons() -> None:
    toy = ResidualMLP(kind="small", n_features=4, d_model=8, d_mlp=1, n_layers=2)
    x = torch.tensor([[1.0, -1.0, 0.5, -0.5]])
    assert torch.equal(toy.wanted(x), torch.tensor([[2.0, -1.0, 1.0, -0.5]]))
    assert torch.equal(toy.naive(x), torch.tensor([[2.0, -1.0, 0.5, -0.5]]))


def test_a_block_that_reads_nothing_is_needed_by_no_feature() -> None:
    toy = small()
    module = toy.build()
    with torch.no_grad():
        module.get_parameter("blocks.1.mlp_in.weight").zero_()
    torch.testing.assert_close(toy.needed_in(module)[1], torch.zeros(6))


def test_an_untrained_model_is_not_real() -> None:
    toy = small()
    assert not toy.is_real(toy.build())


@pytest.mark.parametrize("name", DEEP)
def test_bundled_features_outnumber_the_neurons_and_each_is_computed_in_every_block(name: str) -> None:
    toy = cast(ResidualMLP, find_toy(name))
    checks = toy.checks(toy.load())
    assert [check.name for check in checks if not check.passed] == []
    assert toy.n_features > toy.neurons
    assert toy.n_layers > 1


@pytest.mark.parametrize("name", DEEP)
def test_published_size_can_be_set(name: str) -> None:
    toy = cast(ResidualMLP, find_toy(name))
    published = type(toy).parse({**toy.tree(), **toy.published["target"]})
    assert (published.d_model, published.neurons) == (1000, {2: 50, 3: 51}[toy.n_layers])
    assert published.n_features >= 100
