from __future__ import annotations

import torch

from unbraid.targets.residual_mlp import ResidualMLPModule
from unbraid.targets.sites import weight_of
from unbraid.targets.toy import find_toy


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
