"""From `Input` to serialized examples."""

from __future__ import annotations

import pytest

from cluster.core.errors import InvalidArgument
from cluster.protos import Example, Input
from servables.examples import input_to_examples


def example(**floats: float) -> Example:
    message = Example()
    for name, value in floats.items():
        message.features.feature[name].float_list.value.append(value)
    return message


def features(serialized: bytes) -> dict[str, list[float]]:
    return {name: list(feature.float_list.value) for name, feature in Example.FromString(serialized).features.feature.items()}


def test_examples_come_out_serialized_in_order() -> None:
    request_input = Input()
    request_input.example_list.examples.extend([example(x=1.0), example(x=2.0, y=3.0), Example()])
    examples = input_to_examples(request_input)
    assert [features(serialized) for serialized in examples] == [{"x": [1.0]}, {"x": [2.0], "y": [3.0]}, {}]


def test_context_is_merged_into_each_example_which_wins() -> None:
    request_input = Input()
    request_input.example_list_with_context.context.CopyFrom(example(c=9.0, x=0.0))
    request_input.example_list_with_context.examples.extend([example(x=1.0), example(y=2.0)])
    examples = input_to_examples(request_input)
    assert [features(serialized) for serialized in examples] == [{"c": [9.0], "x": [1.0]}, {"c": [9.0], "x": [0.0], "y": [2.0]}]


def test_an_empty_context_changes_nothing() -> None:
    request_input = Input()
    request_input.example_list_with_context.examples.append(example(x=1.0))
    assert [features(serialized) for serialized in input_to_examples(request_input)] == [{"x": [1.0]}]


@pytest.mark.parametrize("kind", [None, "example_list", "example_list_with_context"])
def test_no_examples_are_refused(kind: str | None) -> None:
    request_input = Input()
    if kind:
        getattr(request_input, kind).SetInParent()
    with pytest.raises(InvalidArgument, match=r"^Input is empty\.$"):
        input_to_examples(request_input)
