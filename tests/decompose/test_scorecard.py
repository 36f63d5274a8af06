"""The scorecard passes what was found and fails what was not: on lines made by hand, on planted truths, and on a real decomposition."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
import torch
from rich.console import Console

from tests.models import mlp
from unbraid.core.statistics import Estimate
from unbraid.decompose.bars import bars_for
from unbraid.decompose.config import DecomposeConfig
from unbraid.decompose.preset import resolve
from unbraid.decompose.result import Decomposition
from unbraid.decompose.score import Measured, measure
from unbraid.decompose.scorecard import NULLS, WIDE, Bar, Line, Scorecard
from unbraid.decompose.site import Factors
from unbraid.decompose.subject import Subject, oracle, shuffled, untrained, zeroed
from unbraid.decompose.training import build
from unbraid.decompose.verb import decompose
from unbraid.targets.data import SparseFeatures
from unbraid.targets.target import Target
from unbraid.targets.toy import load_target

TOYS = ("tms-5-2", "tms-5-2-id", "tms-40-10", "tms-40-10-id", "residual-mlp-1")


@pytest.mark.parametrize(
    ("bar", "met", "missed", "text"),
    [
        (Bar(low=0.99), (0.99, 1.0, 7.0), (0.98, -1.0), "≥ 0.99"),
        (Bar(high=1e-3), (1e-3, 0.0, -1.0), (1.1e-3, 5.0), "≤ 0.001"),
        (Bar(0.95, 1.05), (0.95, 1.0, 1.05), (0.94, 1.06), "0.95 – 1.05"),
        (Bar(5, 5), (5.0,), (4.0, 6.0), "5"),
        (Bar(high=0), (0.0,), (1.0,), "≤ 0"),
    ],
)
def test_bar(bar: Bar, met: tuple[float, ...], missed: tuple[float, ...], text: str) -> None:
    assert all(bar.met_by(value) for value in met)
    assert not any(bar.met_by(value) for value in missed)
    assert str(bar) == text


@pytest.mark.parametrize("bar", [Bar(low=0.5), Bar(high=0.5), Bar(0.1, 0.9)])
def test_what_is_no_number_meets_no_bar(bar: Bar) -> None:
    assert not bar.met_by(float("nan"))


def line(key: str = "mmcs", value: float = 1.0, bar: Bar | None = None, **rest: Any) -> Line:
    return Line(key, f"title of {key}", "truth", Estimate(value, value, value, 1), bar, **rest)


def card(*lines: Line, has_truth: bool = True) -> Scorecard:
    return Scorecard("toy", 3, 1000, lines, {"a": [0.5, 0.1]}, has_truth)


def test_line_passes_by_its_value() -> None:
    assert line(value=0.6, bar=Bar(low=0.5)).passed is True
    assert line(value=0.4, bar=Bar(low=0.5)).passed is False
    assert line(value=0.4).passed is None


def test_failing_nulls_are_those_that_miss_the_bar() -> None:
    nulls = {"untrained": 0.2, "shuffled": 0.7, "zero": 0.0}
    assert line(bar=Bar(low=0.5), nulls=nulls).failing_nulls == ["untrained", "zero"]
    assert line(nulls=nulls).failing_nulls == []


def test_scorecard_passes_when_no_bar_is_missed() -> None:
    good, bad, read = line("a", bar=Bar(low=0.5)), line("b", 0.1, Bar(low=0.5)), line("c", 99.0)
    assert card(good, read).passed
    assert not card(good, bad, read).passed
    assert card(good, bad, read).failures == [bad]
    assert card(good, bad)["b"] is bad


def test_verdict_of_what_was_found() -> None:
    opening, *_ = card(line("a", bar=Bar(low=0.5)), line("b", 0.0, Bar(high=0)), line("c")).verdict()
    assert opening.startswith("All 2 lines pass: the planted mechanisms were found")


def test_verdict_of_what_was_not_found_names_the_lines() -> None:
    opening, *_ = card(line("a", 0.4, Bar(low=0.5)), line("b", 0.0, Bar(high=0)), line("c", 7.0, Bar(high=1))).verdict()
    assert opening.startswith("2 of 3 lines miss their bar: title of a (0.4, bar ≥ 0.5); title of c (7, bar ≤ 1).")
    assert opening.endswith("Do not call these subcomponents mechanisms.")
    assert "found" not in opening


def test_verdict_without_truth_speaks_of_candidates() -> None:
    opening, *_ = card(line("a", bar=Bar(low=0.5)), has_truth=False).verdict()
    assert "candidates" in opening
    assert "planted" not in opening
    failed, *_ = card(line("a", 0.1, bar=Bar(low=0.5)), has_truth=False).verdict()
    assert "Do not call these subcomponents mechanisms" in failed


def test_verdict_says_the_adversary_and_the_limits() -> None:
    text = " ".join(card(line("pgd_20", 0.03, Bar(high=0.1)), line("pgd_320", 0.04)).verdict())
    assert "shared adversary of 20 steps; the share lost is 0.03 there, 0.04 at 320" in text
    assert "Not licensed" in text
    assert "adversary" not in card(line("a")).verdict()[0]


@pytest.mark.parametrize(("value", "null", "claimed"), [(0.2, 15.0, True), (0.2, 0.15, False), (2.0, 15.0, False)])
def test_robustness_of_a_language_model_is_claimed_in_nats_and_only_where_a_null_fails(value: float, null: float, claimed: bool) -> None:
    lines = line("pgd_20", 0.01), line("kl_pgd_20", value, Bar(high=1.0), nulls={"untrained": null})
    text = " ".join(card(*lines, has_truth=False).verdict())
    assert ("Robustness is claimed against a shared adversary of 20 steps" in text) is claimed
    assert ("No robustness is claimed" in text) is not claimed


def test_verdict_names_the_lines_that_no_null_fails() -> None:
    blind, seen = (line(key, bar=Bar(low=0.5), nulls={"zero": value}) for key, value in (("a", 0.9), ("b", 0.1)))
    last = card(blind, seen).verdict()[-1]
    assert last.startswith("No null fails these lines")
    assert "title of a" in last
    assert "title of b" not in last
    assert not any("No null" in text for text in card(seen, line("c", bar=Bar(low=0.5))).verdict())


def test_tree_is_json_and_holds_every_line() -> None:
    scorecard = card(line("a", 0.4, Bar(0.5, 1.0, "why"), nulls={"zero": 0.0}, oracle=1.0), line("b"))
    tree = json.loads(json.dumps(scorecard.tree(), allow_nan=False))
    assert {key: tree[key] for key in ("target", "seed", "step", "passed")} == {"target": "toy", "seed": 3, "step": 1000, "passed": False}
    first, second = tree["lines"]
    assert first["bar"] == {"low": 0.5, "high": 1.0, "why": "why", "text": "0.5 – 1"}
    assert first["value"] == {"value": 0.4, "low": 0.4, "high": 0.4, "n": 1}
    assert (first["passed"], first["nulls"], first["oracle"]) == (False, {"zero": 0.0}, 1.0)
    assert (second["passed"], second["bar"]) == (None, None)
    assert tree["spectrum"] == {"a": [0.5, 0.1]}
    assert tree["verdict"] == scorecard.verdict()


@pytest.mark.parametrize("width", [80, WIDE, 200])
def test_summary_shows_every_line_and_the_verdict(width: int) -> None:
    scorecard = card(line("a", 0.4, Bar(low=0.5), nulls={"shuffled": 0.123}), line("b", 7.0))
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(scorecard.summary(width))
    text = " ".join(console.export_text().split())
    assert "title of a" in text
    assert "title of b" in text
    assert "1 of 1 lines miss their bar" in text
    assert ("0.123" in text) is (width >= WIDE)


QUICK = ("evaluation.batches=2", "evaluation.ladder_batches=1", "evaluation.adversary_steps=[20]", "evaluation.batch_size=512")
BEHAVIOUR = ("stoch_masked", "pgd_20")


@pytest.fixture(scope="module", params=TOYS)
def planted(request: pytest.FixtureRequest) -> tuple[Target, DecomposeConfig, Subject, Measured]:
    """A toy with its planted truth in the place of a decomposition."""
    target, config = load_target(request.param), resolve(request.param, overrides=QUICK)
    assert target.truth is not None
    subject = oracle(target, target.truth)
    return target, config, subject, measure(subject, target, config, full=True)


def means(measured: Measured) -> dict[str, float | None]:
    return {key: measured.mean(key) for key in measured.values}


def missed(target: Target, truth: Measured, measured: Measured) -> set[str]:
    """The keys whose bar, set by this truth, is missed."""
    values = means(measured)
    bars = {spec.key: spec.bar for spec in bars_for(target, means(truth), measured) if spec.bar is not None}
    return {key for key, bar in bars.items() if (value := values.get(key)) is not None and not bar.met_by(value)}


def test_planted_truth_is_scored_as_found(planted: tuple[Target, DecomposeConfig, Subject, Measured]) -> None:
    target, _, _, truth = planted
    values = means(truth)
    assert target.truth is not None
    for key in ("mmcs", "ml2r", "piece_cosine"):
        assert values[key] == pytest.approx(1.0, abs=1e-4), key
    assert values["identity_error"] == 0
    assert values["decided"] == 1
    dense = any(site.pattern == "always_on" for site in target.truth.sites.values())
    assert values.get("dense_error") == (0 if dense else None)
    for path, site in target.truth.sites.items():
        assert values[f"alive/{path}"] == site.rank
    # Its importances go by features, the co-active line by what the model answers. And it holds what the data lets a site read, so
    # a matrix that could read more is not the sum of its pieces.
    apart = {"co_active_error"} | ({"faithfulness"} if any(site.read_basis is not None for site in target.truth.sites.values()) else set())
    assert missed(target, truth, truth) - apart == set()


@pytest.mark.parametrize("null", NULLS)
def test_null_of_a_planted_truth_fails(null: str, planted: tuple[Target, DecomposeConfig, Subject, Measured]) -> None:
    target, config, subject, truth = planted
    made = {"untrained": lambda: untrained(target, config), "shuffled": lambda: shuffled(subject, 0), "zero": lambda: zeroed(subject)}
    result = measure(made[null](), target, config, full=False)
    assert {"identity_error", "co_active_error", *BEHAVIOUR} <= missed(target, truth, result)
    if null == "zero":
        assert {"mmcs", "decided", *(f"alive/{site.path}" for site in target.sites)} <= missed(target, truth, result)


def test_merged_pair_fails_the_truth_lines_alone() -> None:
    """Two pieces that always come together are told from two that are found by the truth, not by the behaviour."""
    target, config = load_target("tms-5-2"), resolve("tms-5-2", overrides=QUICK)
    assert target.truth is not None
    subject = oracle(target, target.truth)

    def merged(clean: Any) -> dict[str, torch.Tensor]:
        importance = {path: g.clone() for path, g in subject.importance(clean).items()}
        for g in importance.values():
            g[:, :2] = g[:, :2].amax(1, keepdim=True)
        return importance

    truth = measure(subject, target, config, full=True)
    failed = missed(target, truth, measure(Subject(subject.model, merged), target, config, full=True))
    assert "identity_error" in failed
    assert failed.isdisjoint({*BEHAVIOUR, "unmasked", "faithfulness", "mmcs"})


def test_nulls_of_a_shuffle_keep_how_often_each_piece_is_on(planted: tuple[Target, DecomposeConfig, Subject, Measured]) -> None:
    target, _, subject, _ = planted
    batch = target.data.batch(0, 64, torch.Generator().manual_seed(0))
    before = subject.importance(subject.model.clean(batch))
    after = shuffled(subject, 1).importance(subject.model.clean(batch))
    assert any(not torch.equal(after[path], g) for path, g in before.items())
    for path, g in before.items():
        torch.testing.assert_close(after[path].sort(0).values, g.sort(0).values)
    nothing = zeroed(subject).importance(subject.model.clean(batch))
    assert all(bool((g == 0).all()) for g in nothing.values())


def written_out(target: Target) -> Decomposition:
    """A decomposition without training that adds up to its target: every input direction is a subcomponent."""
    config = DecomposeConfig.parse({"components": 8, "evaluation": {"batches": 2, "batch_size": 64, "adversary_steps": [2, 4]}})
    model, function = build(target, config)
    with torch.no_grad():
        for site in model.sites.values():
            assert isinstance(site.factors, Factors)
            d_in = site.weight.shape[0]
            site.factors.V.zero_()[:, :d_in] = torch.eye(d_in)
            site.factors.U.zero_()[:d_in] = site.weight
    return Decomposition(target, config, model.eval(), function.eval(), 0)


def test_target_without_truth_has_no_lines_about_it() -> None:
    scorecard = written_out(Target(mlp(), sites="*", data=SparseFeatures(4, 0.5), name="unknown")).scorecard()
    assert not scorecard.has_truth
    keys = {line.key for line in scorecard.lines}
    assert not {line.key for line in scorecard.lines if line.group == "truth"}
    assert {"unmasked", "stoch_masked", "pgd_2", "pgd_4", "pgd_ratio", "l0/0", "alive/0", "l0/2", "alive/2", "faithfulness"} <= keys
    assert {line.key for line in scorecard.lines if line.bar is not None} == {"unmasked", "faithfulness"}
    assert all(line.oracle is None for line in scorecard.lines)
    assert scorecard.passed
    assert "candidates for mechanisms, not proven ones" in scorecard.verdict()[0]
    assert json.loads(json.dumps(scorecard.tree()))["passed"] is True


def test_target_without_truth_that_lost_its_behaviour_is_no_candidate() -> None:
    decomposition = written_out(Target(mlp(), sites="*", data=SparseFeatures(4, 0.5)))
    with torch.no_grad():
        for parameter in decomposition.model.parameters():
            parameter.mul_(0.5)
    scorecard = decomposition.scorecard()
    assert {line.key for line in scorecard.failures} == {"unmasked", "faithfulness"}
    assert "candidates" not in " ".join(scorecard.verdict())


def test_same_decomposition_same_scorecard() -> None:
    decomposition = written_out(Target(mlp(), sites="*", data=SparseFeatures(4, 0.5)))
    assert decomposition.scorecard().tree() == decomposition.scorecard().tree()


@pytest.mark.parametrize(("factor", "wrong"), [(30.0, "few"), (1 / 30, "many")])
def test_wrong_pressure_leaves_too_few_or_too_many_pieces(factor: float, wrong: str) -> None:
    coefficient = 8e-4 * factor
    config = resolve(
        "tms-5-2", overrides=[*QUICK, "steps=400", "starts=null", "components=30", f"losses.minimality.coefficient={coefficient}"]
    )
    scorecard = decompose(load_target("tms-5-2"), config).scorecard()
    failed = {line.key for line in scorecard.failures}
    assert "identity_error" in failed
    for path in ("linear1", "linear2"):
        alive = scorecard[f"alive/{path}"]
        assert alive.passed is False
        assert (alive.value.value < 4) is (wrong == "few")
    assert failed.issuperset(BEHAVIOUR) is (wrong == "few")


@pytest.fixture(scope="session")
def found() -> Scorecard:
    """The smallest toy, taken apart by its shipped recipe and scored as shipped."""
    return decompose(load_target("tms-5-2"), resolve("tms-5-2")).scorecard()


def test_shipped_recipe_passes_every_line(found: Scorecard) -> None:
    assert {line.key: (line.value.value, str(line.bar)) for line in found.failures} == {}
    assert found.passed
    assert "the planted mechanisms were found" in found.verdict()[0]


def test_scorecard_of_the_shipped_recipe_has_every_kind_of_line(found: Scorecard) -> None:
    assert {line.group for line in found.lines} == {"truth", "behaviour", "minimality", "faithfulness"}
    ladder = [found[f"pgd_{steps}"] for steps in (20, 40, 80, 160, 320)]
    assert [line.bar is None for line in ladder] == [False, True, True, True, True]
    assert [line.value.n for line in ladder] == [10, 2, 2, 2, 2]
    assert found["stoch_masked"].value.low < found["stoch_masked"].value.value < found["stoch_masked"].value.high
    assert list(found.spectrum) == ["linear1", "linear2"]
    assert all(len(values) == 80 and values == sorted(values, reverse=True) for values in found.spectrum.values())
    json.dumps(found.tree(), allow_nan=False)


@pytest.mark.parametrize("null", NULLS)
@pytest.mark.parametrize("key", ["identity_error", *BEHAVIOUR])
def test_nulls_of_the_shipped_recipe_fail(null: str, key: str, found: Scorecard) -> None:
    assert null in found[key].failing_nulls
