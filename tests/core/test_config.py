from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from pydantic import PositiveInt, ValidationError

from unbraid.core.config import Config, merge, parse_override, read_yaml
from unbraid.core.errors import UserError


class Inner(Config):
    learning_rate: float = 1e-5
    """How fast."""


class Outer(Config):
    steps: PositiveInt = 10
    inner: Inner = Inner()


def test_unknown_key_names_its_place_and_the_closest() -> None:
    with pytest.raises(UserError) as error:
        Outer.parse({"stps": 3}, "my.yaml")
    assert "my.yaml" in str(error.value)
    assert "unknown key 'stps'. Closest: 'steps'." in error.value.what


def test_unknown_nested_key_is_looked_up_where_it_stands() -> None:
    with pytest.raises(UserError) as error:
        Outer.parse({"inner": {"learning_rte": 3}})
    assert "unknown key 'inner.learning_rte'. Closest: 'learning_rate'. Allowed here: learning_rate." in error.value.what


def test_wrong_value_says_what_was_given() -> None:
    with pytest.raises(UserError, match=r"'steps' was given -1: Input should be greater than 0"):
        Outer.parse({"steps": -1})


def test_every_fault_is_named() -> None:
    with pytest.raises(UserError) as error:
        Outer.parse({"steps": 0, "inner": {"learning_rate": "fast"}})
    assert "'steps'" in error.value.what
    assert "'inner.learning_rate'" in error.value.what


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        Outer().steps = 3  # pyright: ignore[reportAttributeAccessIssue]


def test_yaml_keeps_small_floats_as_numbers_and_the_order_of_the_fields() -> None:
    text = Outer().to_yaml()
    assert yaml.safe_load(text) == {"steps": 10, "inner": {"learning_rate": 1e-5}}
    assert text.index("steps") < text.index("inner")


@pytest.mark.parametrize("value", [1e-5, 1e22, 1.5e-300, 0.1, 3.0, 1e7])
def test_yaml_floats_survive(value: float) -> None:
    back = yaml.safe_load(Inner(learning_rate=value).to_yaml())["learning_rate"]
    assert isinstance(back, float)
    assert back == value


def test_merge_goes_into_mappings_and_leaves_its_arguments_alone() -> None:
    base = {"a": {"x": 1, "y": 2}, "b": 3}
    changes = {"a": {"y": 5}}
    assert merge(base, changes) == {"a": {"x": 1, "y": 5}, "b": 3}
    assert base == {"a": {"x": 1, "y": 2}, "b": 3}
    assert changes == {"a": {"y": 5}}


def test_merge_null_is_a_value() -> None:
    assert merge({"losses": {"one": {"x": 1}, "two": {}}}, {"losses": {"one": None}}) == {"losses": {"one": None, "two": {}}}
    assert merge({"clip": 1.0}, {"clip": None}) == {"clip": None}


def test_merge_another_kind_replaces_the_settings_of_the_old_one() -> None:
    base = {"importance": {"kind": "component-mlp", "hidden": 16}}
    assert merge(base, {"importance": {"kind": "global-mlp"}}) == {"importance": {"kind": "global-mlp"}}
    assert merge(base, {"importance": {"kind": "component-mlp", "hidden": 8}}) == {"importance": {"kind": "component-mlp", "hidden": 8}}
    assert merge(base, {"importance": {"hidden": 8}}) == {"importance": {"kind": "component-mlp", "hidden": 8}}


def test_merge_the_name_of_a_loss_is_its_kind_where_none_is_given() -> None:
    base = {"minimality": {"coefficient": 1.0}}
    assert merge(base, {"minimality": {"kind": "minimality", "gamma_end": 0.1}}) == {
        "minimality": {"kind": "minimality", "coefficient": 1.0, "gamma_end": 0.1}
    }


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("steps=2000", {"steps": 2000}),
        ("losses.minimality.coefficient=1e-3", {"losses": {"minimality": {"coefficient": 1e-3}}}),
        ("a.b=2.5E4", {"a": {"b": 2.5e4}}),
        ("a=null", {"a": None}),
        ("a=true", {"a": True}),
        ("a=[1, 2]", {"a": [1, 2]}),
        ("a={x: 1}", {"a": {"x": 1}}),
        ("device=cuda:1", {"device": "cuda:1"}),
        ("name=a=b", {"name": "a=b"}),
    ],
)
def test_override(text: str, tree: object) -> None:
    assert parse_override(text) == tree


@pytest.mark.parametrize("text", ["steps", "=3", " =3", "a={", ""])
def test_override_that_says_nothing(text: str) -> None:
    with pytest.raises(UserError, match="--set"):
        parse_override(text)


def test_read_yaml(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("steps: 3")
    assert read_yaml(path) == {"steps": 3}
    path.write_text("a: [")
    with pytest.raises(UserError, match="is not YAML"):
        read_yaml(path)
    path.write_bytes(b"\xff\xfe\x00a")
    with pytest.raises(UserError, match="is not YAML"):
        read_yaml(path)
    path.write_text("- 1")
    with pytest.raises(UserError, match="holds list, not settings"):
        read_yaml(path)
    with pytest.raises(UserError, match="There is no file"):
        read_yaml(tmp_path / "none.yaml")
