from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.config.yaml_document import MAX_DEPTH, parse_yaml, yaml_text
from cluster.core.errors import ConfigError


def refusal(text: str) -> str:
    with pytest.raises(ConfigError) as refused:
        parse_yaml(text, "f.yaml")
    assert "\n" not in refused.value.message
    return refused.value.message


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("# nothing", None),
        ("a: 1\nb: -2.5\nc: 1e3\nd: true\ne: ~\nf:", {"a": 1, "b": -2.5, "c": 1000.0, "d": True, "e": None, "f": None}),
        ("'5'", "5"),
        ('"\\u00e9"', "é"),
        ("a: &batching {x: 1, y: 2}\nb: {<<: *batching, y: 3}", {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}}),
    ],
)
def test_reads(text: str, value: object) -> None:
    assert parse_yaml(text, "f.yaml").value == value


@pytest.mark.parametrize("text", ["on", "no", "010", "0x10", "1_000", "12:30", "2024-01-01", ".inf", "99999999999999999999"])
def test_what_is_no_scalar_of_the_core_schema_is_text(text: str) -> None:
    assert parse_yaml(text, "f.yaml").value == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb:\n  c: 1\n  c: 2", "f.yaml:4: c is here a second time; it is on line 3 too"),
        ("a: 1\n1: 2", 'f.yaml:2: key 1: expected text, as in "1"'),
        ("? [a]\n: 1", "f.yaml:1: a list or mapping as a key: expected text"),
        ("a:\n  - !secret x", "f.yaml:2: tag !secret: expected a value without a tag"),
        ("a: !!int nine", "f.yaml:1: tag tag:yaml.org,2002:int: expected a value without a tag"),
        ("a: !!python/object/apply:os.getcwd []", "f.yaml:1: tag tag:yaml.org,2002:python/object/apply:os.getcwd: expected a"),
        ("a: 1\nb: [1, 2", "f.yaml:3: not valid YAML: while parsing a flow sequence:"),
        ("a: 1\n\tb: 2", "f.yaml:2: not valid YAML: "),
        ("a: 1\n---\nb: 2", "f.yaml:2: not valid YAML: expected a single document"),
        ("a: *missing", "f.yaml:1: not valid YAML: found undefined alias"),
        ("a: \x07", "f.yaml: not valid YAML: "),
        ("a: {<<: 3}", "f.yaml:1: not valid YAML: "),
        ("\n" + "[" * 100_000, "f.yaml:2: not a config: nested too deeply"),
    ],
)
def test_refuses_what_is_no_config_with_the_line(text: str, message: str) -> None:
    assert refusal(text).startswith(message)


def test_depth_is_bounded_and_not_length() -> None:
    assert parse_yaml("[" * MAX_DEPTH + "]" * MAX_DEPTH, "f.yaml").value is not None
    assert len(parse_yaml("[" + "[], " * 1000 + "]", "f.yaml").value) == 1000


def test_a_structure_that_holds_itself_is_read_once() -> None:
    value = parse_yaml("a: &a [*a]", "f.yaml").value
    assert value["a"][0] is value["a"]


def test_tells_the_line_of_every_value_and_of_what_is_above_one_that_is_missing() -> None:
    document = parse_yaml(
        "models:\n  - name: a\n    batching: &b\n      max_batch_size: 1\n  - {name: b,\n     batching: {<<: *b}}\n", "f.yaml"
    )
    assert document.line(["models"]) == 1
    assert document.line(["models", 0]) == 2
    assert document.line(["models", 0, "batching", "max_batch_size"]) == 4
    assert document.line(["models", 1, "batching"]) == 6
    assert document.line(["models", 1, "batching", "max_batch_size"]) == 4, "where it is merged from"
    assert document.line(["models", 1, "base_path"]) == 5
    assert document.line(["models", 7]) == 1
    assert parse_yaml("", "f.yaml").line(["models"]) == 1


SCALARS = st.none() | st.booleans() | st.integers(-(10**18), 10**18) | st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text(max_size=20) | st.sampled_from(
    ["on", "null", "1e3", "010", "<<", "true", "-", "12:30", "0x1", "", " a", "a: b", "é"]
)


@given(st.recursive(SCALARS | TEXT, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3)))
def test_what_is_written_is_read_back(value: Any) -> None:
    assert parse_yaml(yaml_text(value), "f.yaml").value == value
