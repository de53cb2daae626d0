"""The bodies of `:classify` and `:regress` requests: tf.Examples written as JSON objects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cluster.core.errors import InvalidArgument
from cluster.protos import Example
from servables.json_codec.base64_objects import decode_base64_object, is_base64_object
from servables.json_codec.document import read_object, read_signature_name
from servables.json_codec.quotation import quoted, type_name
from servables.json_codec.reader import JsonValue
from servables.tensors import string_array

_CONTEXT = "context"
_EXAMPLES = "examples"
_INT64_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True)
class ExamplesBody:
    """A parsed body: what the signature's one input is fed with."""

    signature_name: str
    """"" when the body names none."""
    examples: NDArray[np.object_]
    """Serialized tf.Examples, each with the request's context merged into it."""


def decode_examples(body: bytes, method: str) -> ExamplesBody:
    """Reads the body of a request for `method`, which changes nothing: TF Serving's messages say "classify" for both.

    Raises InvalidArgument.
    """
    document = read_object(body)
    signature_name = read_signature_name(document)
    # Serialized messages one after the other parse as their merge, so the context is a prefix.
    context = _serialized_example(document[_CONTEXT]) if _CONTEXT in document else b""
    if _EXAMPLES not in document:
        raise _format_error(document, "When method is classify, key 'examples' is expected and was not found")
    examples = document[_EXAMPLES]
    if type(examples) is not list:
        raise _format_error(document, "Expecting 'examples' value to be an list/array")
    if not examples:
        raise _format_error(document, "'examples' value is an empty array")
    return ExamplesBody(signature_name, string_array([context + _serialized_example(example) for example in examples]))


def _format_error(document: dict[str, JsonValue], problem: str) -> InvalidArgument:
    return InvalidArgument(f"JSON Value: {quoted(document)} {problem}")


def _serialized_example(value: JsonValue) -> bytes:
    if type(value) is not dict:
        raise InvalidArgument(f"Example must be JSON object but got JSON {type_name(value)}")
    example = Example()
    features = example.features.feature
    for name, content in value.items():
        try:
            feature = features[name]
        except UnicodeEncodeError as error:
            raise InvalidArgument(f"Feature: {quoted(name)} has a name that is not UTF-8") from error
        _fill_feature(feature, name, content if type(content) is list else [content])
    serialized: bytes = example.SerializeToString(deterministic=True)
    return serialized


def _fill_feature(feature: Any, name: str, content: list[JsonValue]) -> None:
    """Puts the values into the list whose type the first of them has."""
    if set(map(type, content)) == {float}:
        feature.float_list.value.extend(content)
        return
    kind = ""
    values = []
    for element in content:
        element_kind, value = _read_element(name, element)
        if kind not in ("", element_kind):
            raise InvalidArgument(f"Unexpected element type in feature: {name} expecting type: {kind}")
        kind = element_kind
        values.append(value)
    if kind:
        getattr(feature, f"{kind}_list").value.extend(values)


def _read_element(name: str, element: JsonValue) -> tuple[str, bytes | float | int]:
    if type(element) is float:
        return "float", element
    if type(element) is bool:
        return "int64", int(element)
    if type(element) is int:
        if element > _INT64_MAX:
            raise InvalidArgument(f"Feature: {name} has uint64_t element. Only int64_t is supported.")
        return "int64", element
    if type(element) is str:
        return "bytes", element.encode("utf-8", "surrogateescape")
    if is_base64_object(element):
        return "bytes", decode_base64_object(element)
    raise InvalidArgument(f"Feature: {name} has element with unexpected JSON type: {type_name(element)}")
