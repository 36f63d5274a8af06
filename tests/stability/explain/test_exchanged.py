"""Is the exchanged activation the same in the twin as in the model, in the clean pass and in every masked one?"""

from __future__ import annotations

import copy
from functools import cache

import pytest
import torch
from torch import Tensor, nn

import unbraid
from tests.models import decomposed, mlp
from unbraid.core.errors import UserError
from unbraid.decompose.masks import Mask
from unbraid.decompose.result import Decomposition
from unbraid.decompose.subject import Subject, learned
from unbraid.stability.engine.carrier import Carrier
from unbraid.stability.engine.paths import linear
from unbraid.stability.engine.places import INPUT, Place, place_named
from unbraid.stability.explain.exchanged import DecomposedCarrier
from unbraid.targets.target import Target

PROMPT = torch.tensor([187, 4, 738, 199, 3, 4, 597, 246])
OTHER = torch.tensor([300, 915, 633, 194, 647, 11, 642, 161])
T = torch.linspace(0, 1, 7)
PLACES = ("model.embed_tokens", "0", "model.layers.0.self_attn.o_proj", "model.layers.1.mlp.up_proj")


@cache
def carroll() -> Decomposition:
    return unbraid.load("carroll")


def subject() -> Subject:
    return learned(carroll().model, carroll().function)


def both(place: str, position: int = -1) -> tuple[DecomposedCarrier, Carrier, Tensor]:
    """Return the prompt in the decomposed model and in the model, and points between two of their activations."""
    where = place_named(carroll().target.module, place)
    carrier = DecomposedCarrier(subject(), PROMPT, where, position)
    points = linear(carrier.anchor, DecomposedCarrier(subject(), OTHER, where, position).anchor, T)
    return carrier, Carrier(carroll().target.module, PROMPT, where, position), points


def close(found: Tensor, wanted: Tensor) -> bool:
    """Whether two answers agree to 1e-5 of their size."""
    return bool((found - wanted).norm() <= 1e-5 * wanted.norm())


# What the last block's MLP does at an earlier position reaches no later one.
@pytest.mark.parametrize(("place", "position"), [*((place, -1) for place in PLACES), *((place, 3) for place in PLACES[:3])])
def test_with_everything_kept_the_answers_are_the_models_own(place: str, position: int) -> None:
    carrier, plain, points = both(place, position)
    run = carrier.along(points)
    wanted = plain.read(points, ["logits", "final"])
    assert close(carrier.anchor, plain.anchor)
    assert not close(wanted["logits"][0], wanted["logits"][-1])
    assert close(run.answers(), wanted["logits"])
    assert close(run.answers(torch.ones(carrier.parts.count)), wanted["logits"])
    assert close(run.answers(torch.ones(len(points), carrier.parts.count), "final"), wanted["final"])


def test_masked_answers_are_those_of_a_model_with_other_weights() -> None:
    """Position 0 of a prompt: every position is masked, so that weights without the removed parts say the same."""
    where = place_named(carroll().target.module, "0")
    carrier = DecomposedCarrier(subject(), PROMPT, where, 0)
    points = linear(carrier.anchor, carrier.anchor.flip(0), T)
    kept = (torch.rand(carrier.parts.count, generator=torch.Generator().manual_seed(0)) > 0.3).float()
    changed = copy.deepcopy(carroll().target.module)
    for path, (component, delta) in carrier.parts.split(kept).items():
        site = carroll().model.sites[path]
        V, U = site.factors.views()
        with torch.no_grad():
            changed.get_parameter(f"{path}.weight").copy_((V * component @ U + delta * site.delta()).T)
    wanted = Carrier(changed, PROMPT, where, 0).read(points)["logits"]
    found = carrier.along(points).answers(kept)
    assert (found - wanted).norm() <= 1e-4 * wanted.norm()
    assert not torch.allclose(found, carrier.along(points).answers(), atol=0.1)


def test_nothing_is_remembered_of_another_exchange() -> None:
    carrier, _, points = both("model.embed_tokens")
    kept = (torch.rand(carrier.parts.count, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    first = carrier.along(points)
    before = first.answers(kept)
    other = carrier.along(points.flip(0))
    _ = carroll().importance(PROMPT[None])  # and one of no exchange
    assert torch.equal(other.answers(kept), carrier.along(points.flip(0)).answers(kept))
    assert torch.equal(first.answers(kept), before)
    assert torch.allclose(other.answers(kept).flip(0), before, atol=1e-4)
    assert not torch.allclose(before[0], before[-1], atol=0.1)
    assert torch.equal(carroll().clean(PROMPT[None]).output, carroll().clean(PROMPT[None]).output)
    assert close(carroll().clean(PROMPT[None]).output, carroll().target(PROMPT[None]))


def test_points_may_be_run_in_several_batches_and_each_with_its_own_masks() -> None:
    carrier, _, points = both("model.embed_tokens")
    kept = (torch.rand(len(points), carrier.parts.count, generator=torch.Generator().manual_seed(0)) > 0.2).float()
    run = carrier.along(points)
    wanted = torch.cat([carrier.along(points[i : i + 1]).answers(kept[i]) for i in range(len(points))])
    carrier.at_once = 3
    in_parts = carrier.along(points)
    assert torch.allclose(run.answers(kept), wanted, atol=1e-4)
    assert torch.allclose(in_parts.answers(kept), wanted, atol=1e-4)
    assert torch.allclose(in_parts.importance, run.importance, atol=1e-5)


def test_importance_is_that_of_the_exchanged_activation() -> None:
    carrier, _, points = both("model.embed_tokens")
    run = carrier.along(points)
    own = carrier.parts.joined({path: carroll().importance(PROMPT[None])[path][0, -1] for path in carrier.parts.sites})
    # The context is the first prompt's, the last token the second one's.
    swapped = torch.cat([PROMPT[:-1], OTHER[-1:]])
    end = carrier.parts.joined({path: carroll().importance(swapped[None])[path][0, -1] for path in carrier.parts.sites})
    assert torch.allclose(run.importance[0], own, atol=1e-4)
    assert torch.allclose(run.importance[-1], end, atol=1e-4)
    assert (own - end).abs().max() > 0.5


def test_only_sites_after_the_exchange_are_parts_and_positions_before_it_stay() -> None:
    after = [DecomposedCarrier(subject(), PROMPT, place_named(carroll().target.module, place)).parts.sites for place in PLACES]
    assert [len(sites) for sites in after] == [12, 6, 8, 1]
    assert after[3] == ("model.layers.1.mlp.down_proj",)
    carrier, _, points = both("0", 5)
    run, seen = carrier.along(points), list[Tensor]()
    value = carrier.subject.model.sites["model.layers.1.self_attn.v_proj"]

    def note(_module: nn.Module, _args: object, output: Tensor) -> None:
        seen.append(output)

    handle = value.register_forward_hook(note)
    run.answers()
    run.answers(torch.zeros(carrier.parts.count))
    handle.remove()
    assert torch.allclose(seen[0][:, :5], seen[1][:, :5], atol=1e-5)
    assert not torch.allclose(seen[0][:, 5:], seen[1][:, 5:], atol=1e-2)


def test_a_model_of_vectors_is_exchanged_at_its_input_and_inside() -> None:
    target = Target(mlp(), sites="*", data=[torch.randn(8, 4)])
    model, function = decomposed(target)
    points = torch.randn(5, 4)
    carrier = DecomposedCarrier(learned(model, function), points[0], Place(INPUT))
    kept = (torch.rand(carrier.parts.count) > 0.5).float()
    masks = {path: Mask(c.expand(5, -1), d.expand(5)) for path, (c, d) in carrier.parts.split(kept).items()}
    assert torch.allclose(carrier.along(points).answers(), target(points), atol=1e-6)
    assert torch.allclose(carrier.along(points).answers(kept), model.masked(model.clean(points), masks), atol=1e-6)
    inside = DecomposedCarrier(learned(model, function), points[0], Place("0"))
    assert inside.parts.sites == ("2",)
    hidden = torch.randn(5, 6)
    rest = nn.Sequential(*list(target.module.children())[1:])
    assert torch.allclose(inside.along(hidden).answers(), rest(hidden), atol=1e-6)


def test_what_cannot_be_is_told() -> None:
    with pytest.raises(UserError, match="Position 9"):
        DecomposedCarrier(subject(), PROMPT, Place("model.embed_tokens"), 9)
    with pytest.raises(UserError, match="No decomposed site runs after"):
        DecomposedCarrier(subject(), PROMPT, Place("model.norm"))
    with pytest.raises(UserError, match="cannot be moved a little"):
        DecomposedCarrier(subject(), PROMPT, Place(INPUT))
    target = Target(nn.Sequential(nn.Linear(3, 3)), sites="*", data=[torch.randn(8, 3)])
    carrier = DecomposedCarrier(learned(*decomposed(target)), torch.randn(3), Place(INPUT))
    with pytest.raises(UserError, match="no blocks"):
        carrier.along(torch.randn(2, 3)).answers(what="final")
