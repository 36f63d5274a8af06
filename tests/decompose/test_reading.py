"""Do lookups and convolutions compute what their matrices written out compute?"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.models import decomposed
from unbraid.core.errors import UserError
from unbraid.decompose.masks import Mask, constant_masks
from unbraid.decompose.model import Clean, DecomposedModel
from unbraid.decompose.reading import Patches
from unbraid.targets.matrices import bias_of, scale_of, weight_of
from unbraid.targets.target import Target

CONVOLUTIONS: list[dict[str, Any]] = [
    {"kernel_size": 1},
    {"kernel_size": 3, "padding": 1, "bias": False},
    {"kernel_size": (2, 3), "stride": (2, 1)},
    {"kernel_size": 3, "stride": 2, "padding": (2, 1), "dilation": (1, 2)},
    {"kernel_size": (3, 4), "padding": "same", "dilation": 2},
    {"kernel_size": 3, "padding": "valid"},
    {"kernel_size": 3, "padding": 2, "padding_mode": "reflect"},
    {"kernel_size": 3, "padding": (1, 2), "padding_mode": "circular"},
    {"kernel_size": 3, "padding": 1, "padding_mode": "replicate"},
]


def like(model: DecomposedModel, clean: Clean) -> dict[str, Tensor]:
    """Return tensors of the importances' shape, [..., C] per site."""
    return {path: torch.rand(*site.x.shape[:-1], model.C[path]) for path, site in clean.sites.items()}


@pytest.mark.parametrize("settings", CONVOLUTIONS, ids=str)
@pytest.mark.parametrize("lead", [(3,), ()])
def test_patches_times_the_matrix_is_the_convolution(settings: dict[str, Any], lead: tuple[int, ...]) -> None:
    module, x = nn.Conv2d(2, 5, **settings), torch.randn(*lead, 2, 7, 9)
    reading, M, bias = Patches(module), weight_of(module), bias_of(module)
    own = module(x).movedim(-3, -1).detach()
    dense = reading.times(x, M)
    patches = reading.seen(x, dense)
    assert patches.shape == (*own.shape[:-1], M.shape[0])
    for product in (dense, patches @ M):
        torch.testing.assert_close(product if bias is None else product + bias, own)
    torch.testing.assert_close(reading.written(own), module(x))


class Vision(nn.Module):
    """Two convolutions and a linear map."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 3, 3, stride=2, padding=1)
        self.second = nn.Conv2d(3, 4, 2)
        self.head = nn.Linear(4 * 2 * 3, 5)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(torch.relu(self.second(torch.relu(self.first(image)))).flatten(1))


def image_target(sites: str | tuple[str, ...] = "*") -> Target:
    return Target(Vision(), sites=sites, data=[torch.randn(4, 1, 6, 8)])


@pytest.mark.parametrize("delta", [True, False])
def test_each_pixel_of_a_convolution_has_its_own_mask(delta: bool) -> None:
    target = image_target("second")
    model, _ = decomposed(target)
    x = torch.randn(2, 1, 6, 8)
    clean = model.clean(x)
    assert clean.inputs["second"].shape == (2, 2, 3, 3 * 2 * 2)
    g, kept = like(model, clean)["second"], torch.rand(2, 2, 3) if delta else None
    site, module = model.sites["second"], target.module
    V, U = site.factors.views()
    patches = clean.inputs["second"]
    y = (patches @ V * g) @ U + site.bias
    if kept is not None:
        y = y + kept[..., None] * (patches @ site.delta())
    expected = module.get_submodule("head")(torch.relu(y.movedim(-1, 1)).flatten(1))
    torch.testing.assert_close(model.masked(clean, {"second": Mask(g, kept)}), expected)
    torch.testing.assert_close(model.masked(model.clean(x.clone()), {"second": Mask(g, kept)}), expected)


def test_everything_kept_is_the_vision_model() -> None:
    target = image_target()
    model, _ = decomposed(target)
    clean = model.clean(torch.randn(2, 1, 6, 8))
    assert [tuple(g.shape) for g in like(model, clean).values()] == [(2, 3, 4, 7), (2, 2, 3, 7), (2, 7)]
    torch.testing.assert_close(clean.output, target(clean.batch))
    torch.testing.assert_close(model.masked(clean, constant_masks(like(model, clean), 1.0, 1.0)), clean.output)
    some = torch.rand(2, 2, 3) < 0.5
    routed = {"second": Mask(torch.ones(2, 2, 3, 7), None, some)}
    assert not torch.allclose(model.masked(clean, routed), clean.output)
    nowhere = {"second": Mask(torch.ones(2, 2, 3, 7), None, torch.zeros_like(some))}
    torch.testing.assert_close(model.masked(clean, nowhere), clean.output)


class Words(nn.Module):
    """An embedding whose rows get a position added in place, and an unembedding that may be the same matrix."""

    def __init__(self, tied: bool = False, scale: float | None = None) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 4) if scale is None else TinyScaledWordEmbedding(11, 4, scale)
        self.place = nn.Embedding(5, 4)
        self.unembed = nn.Linear(4, 11, bias=False)
        if tied:
            self.unembed.weight = self.embed.weight

    def forward(self, ids: Tensor) -> Tensor:
        stream = self.embed(ids)
        stream += self.place(torch.arange(ids.shape[1])[None])
        return self.unembed(torch.tanh(stream))


class TinyScaledWordEmbedding(nn.Embedding):
    """As several families of transformers have it."""

    embed_scale: Tensor

    def __init__(self, n: int, d: int, scale: float) -> None:
        super().__init__(n, d)
        self.register_buffer("embed_scale", torch.tensor(scale))

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) * self.embed_scale


IDS = torch.tensor([[1, 4, 4, 0], [10, 2, 1, 3]])


@pytest.mark.parametrize("scale", [None, 2.5])
@pytest.mark.parametrize("delta", [True, False])
def test_an_embedding_is_its_one_hot_vectors_times_its_table(scale: float | None, delta: bool) -> None:
    target = Target(Words(scale=scale), sites="embed", data=[IDS], behaviour="kl")
    model, _ = decomposed(target)
    clean = model.clean(IDS)
    torch.testing.assert_close(clean.output, target(IDS))
    site = model.sites["embed"]
    torch.testing.assert_close(clean.inputs["embed"], site.weight[IDS])  # the row, without what was added to it later
    g, kept = like(model, clean)["embed"], torch.rand(2, 4) if delta else None
    V, U = site.factors.views()
    one_hot = nn.functional.one_hot(IDS, 11).float()
    stream = (one_hot @ V * g) @ U
    if kept is not None:
        stream = stream + kept[..., None] * (one_hot @ site.delta())
    stream = stream * (scale or 1.0) + target.module.get_parameter("place.weight")[:4]
    expected = target.module.get_submodule("unembed")(torch.tanh(stream))
    masked = model.masked(clean, {"embed": Mask(g, kept)})
    torch.testing.assert_close(masked, expected)
    assert scale_of(target.module.get_submodule("embed")) == scale
    mine = torch.autograd.grad(masked.square().sum(), [V, U], retain_graph=True)
    for one, other in zip(mine, torch.autograd.grad(expected.square().sum(), [V, U]), strict=True):
        torch.testing.assert_close(one, other)


def test_a_tied_unembedding_is_the_same_subcomponents_read_the_other_way() -> None:
    target = Target(Words(tied=True), sites=("embed", "unembed"), data=[IDS], behaviour="kl")
    model, _ = decomposed(target)
    assert sorted(name for name, _ in model.named_parameters()) == ["factors.embed.U", "factors.embed.V"]
    clean = model.clean(IDS)
    torch.testing.assert_close(model.masked(clean, constant_masks(like(model, clean), 1.0, 1.0)), target(IDS))
    torch.testing.assert_close(model.sites["unembed"].delta(), model.sites["embed"].delta().T)


@pytest.mark.parametrize(("chosen", "other"), [("unembed", "embed"), ("embed", "unembed")])
def test_one_of_two_tied_matrices_leaves_the_other_as_it_is(chosen: str, other: str) -> None:
    module = Words(tied=True)
    before = module.embed.weight.clone()
    model, _ = decomposed(Target(module, sites=chosen, data=[IDS], behaviour="kl"))
    clean = model.clean(IDS)
    gone = model.masked(clean, constant_masks(like(model, clean), 0.0, 0.0))
    stream = module.embed(IDS) + module.place.weight[:4] if chosen == "unembed" else module.place.weight[:4].expand(2, 4, 4)
    expected = torch.zeros(2, 4, 11) if chosen == "unembed" else module.unembed(torch.tanh(stream))
    torch.testing.assert_close(gone, expected)
    assert torch.equal(module.get_submodule(other).get_parameter("weight"), before)


class UsesTwice(nn.Module):
    """Multiplies by the weight of a module that it also calls."""

    def __init__(self, module: nn.Module, again: str) -> None:
        super().__init__()
        self.module, self.again = module, again

    def forward(self, x: Tensor) -> Tensor:
        return self.module(x) @ self.module.weight.T if self.again == "T" else self.module(x) @ self.module.weight


@pytest.mark.parametrize("kind", ["embedding", "conv1d"])
def test_a_weight_that_is_used_besides_calling_the_module_is_refused(kind: str) -> None:
    from tests.models import Conv1D
    from unbraid.decompose.config import DecomposeConfig
    from unbraid.decompose.training import prepare

    module, x = (nn.Embedding(11, 4), IDS) if kind == "embedding" else (Conv1D(4, 4), torch.randn(3, 4))
    target = Target(UsesTwice(module, "T" if kind == "embedding" else ""), sites="module", data=[x])
    with pytest.raises(UserError, match="does not give its own output any more when its sites are replaced"):
        prepare(target, DecomposeConfig.parse({"components": 3}))
