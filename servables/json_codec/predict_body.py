"""The body of a `:predict` request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cluster.core.errors import AspiredError, InvalidArgument
from servables.json_codec.base64_objects import is_base64_object
from servables.json_codec.document import SIGNATURE_NAME, read_object, read_object_of_arrays, read_signature_name
from servables.json_codec.quotation import quoted
from servables.json_codec.reader import JsonValue
from servables.json_codec.tensor_values import Shape, dense_array, read_tensor, to_array
from servables.signatures import TensorInfo

_INSTANCES = "instances"
_INPUTS = "inputs"

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class PredictBody:
    """A parsed body. It becomes arrays only once a version, and so a signature, is known.

    body = PredictBody.parse(request)          # before the version is resolved
    body.decode(signature.inputs, "")          # again with another version's signature, if that one went away
    body.row_format                            # how the reply is to be laid out
    """

    signature_name: str
    """"" when the body names none."""
    _document: dict[str, Any]
    _body: bytes = b""
    """What was parsed, if the document holds NumberArrays."""

    @classmethod
    def parse(cls, body: bytes) -> PredictBody:
        """Raises InvalidArgument: malformed JSON, not an object, a `signature_name` that is not a string."""
        document = read_object_of_arrays(body)
        if document is not None and type(signature_name := document.get(SIGNATURE_NAME, "")) is str:
            return cls(signature_name, document, body)
        document = read_object(body)
        return cls(read_signature_name(document), document)

    @property
    def row_format(self) -> bool:
        """Whether the request lists its rows (`instances`) rather than its tensors; only meaningful once `decode` succeeded."""
        return _INSTANCES in self._document

    def decode(self, inputs: Mapping[str, TensorInfo], signature_name: str) -> Arrays:
        """The tensors by input alias, for a signature that takes `inputs`; `signature_name` is for the message alone.

        Shapes are those of the JSON, not checked against the signature. Raises InvalidArgument, or Unimplemented for a
        columnar input of a type that JSON has no values for.
        """
        if not inputs:
            raise InvalidArgument(f"Failed to get input map for signature: {signature_name or 'DEFAULT'}")
        if not self._body:
            return _decode_document(self._document, inputs)
        arrays = _decode_arrays(self._document, inputs)
        # What is not plainly right is read again, value by value.
        return _decode_document(read_object(self._body), inputs) if arrays is None else arrays


def _decode_arrays(document: dict[str, Any], inputs: Mapping[str, TensorInfo]) -> Arrays | None:
    """As `_decode_document`, with NumberArrays in the document; None unless all is well."""
    if (_INSTANCES in document) == (_INPUTS in document):
        return None
    if _INSTANCES in document:
        rows = document[_INSTANCES]
        if type(rows) is list:
            return _decode_columns(rows, inputs) if rows and _is_named(rows[0]) else None
        named = dict.fromkeys(inputs, rows) if type(rows) is np.ndarray and len(inputs) == 1 else {}
    else:
        value = document[_INPUTS]
        named = value if _is_named(value) else dict.fromkeys(inputs, value) if len(inputs) == 1 else {}
    arrays: Arrays = {}
    for alias, info in inputs.items():
        tensor = dense_array(named[alias], info.dtype) if alias in named else None
        if tensor is None:
            return None
        arrays[alias] = tensor
    return arrays


def _decode_document(document: dict[str, JsonValue], inputs: Mapping[str, TensorInfo]) -> Arrays:
    if _INSTANCES in document:
        instances = document[_INSTANCES]
        if _INPUTS in document:
            raise _format_error(
                document, "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist "
            )
        if type(instances) is not list:
            raise _format_error(document, "Expecting 'instances' to be an list/array")
        if not instances:
            raise _format_error(document, "No values in 'instances' array")
        return _decode_instances(instances, inputs)
    if _INPUTS in document:
        return _decode_inputs(document[_INPUTS], inputs)
    raise InvalidArgument("Missing 'inputs' or 'instances' key")


def _format_error(document: dict[str, JsonValue], problem: str) -> InvalidArgument:
    return InvalidArgument(f"JSON Value: {quoted(document)} {problem}")


def _decode_instances(instances: list[JsonValue], inputs: Mapping[str, TensorInfo]) -> Arrays:
    first = instances[0]
    if len(inputs) > 1 and type(first) is not dict:
        raise InvalidArgument(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per tensorinfo_map"
        )
    if _is_named(first):
        return _decode_columns(instances, inputs) or _RowReader(inputs).read_objects(instances)
    alias, info = next(iter(inputs.items()))
    tensor = dense_array(instances, info.dtype)
    return {alias: tensor} if tensor is not None else _RowReader(inputs).read_values(instances, alias)


def _decode_inputs(value: JsonValue, inputs: Mapping[str, TensorInfo]) -> Arrays:
    if type(value) is dict and not is_base64_object(value):
        arrays: Arrays = {}
        for alias, info in inputs.items():
            if alias not in value:
                raise InvalidArgument(f"Missing named input: {alias} in 'inputs' object.")
            arrays[alias] = _decode_tensor(value[alias], info)
        return arrays
    if len(inputs) > 1:
        raise InvalidArgument(
            "inputs is a plain value/list, but expecting an object as multiple input tensors required as per tensorinfo_map"
        )
    alias, info = next(iter(inputs.items()))
    return {alias: _decode_tensor(value, info)}


def _decode_tensor(value: JsonValue, info: TensorInfo) -> NDArray[Any]:
    tensor = dense_array(value, info.dtype)
    if tensor is None:
        shape, values = read_tensor(value, info.dtype)
        tensor = to_array(values, shape, info.dtype)
    return tensor


def _is_named(row: JsonValue) -> bool:
    """Whether a row is an object of named inputs, not a value: a base64 object is a value."""
    return type(row) is dict and not is_base64_object(row)


def _decode_columns(rows: list[Any], inputs: Mapping[str, TensorInfo]) -> Arrays | None:
    """The tensors of rows that are all well-formed objects, else None."""
    if set(map(type, rows)) != {dict} or set(map(len, rows)) != {len(inputs)}:
        return None
    columns: Arrays = {}
    for alias, info in inputs.items():
        try:
            column = dense_array([row[alias] for row in rows], info.dtype)
        except KeyError:
            return None
        if column is None:
            return None
        columns[alias] = column
    return columns


class _RowReader:
    """Reads `instances` value by value, and says which row is wrong and how."""

    def __init__(self, inputs: Mapping[str, TensorInfo]) -> None:
        self._inputs = inputs
        self._shapes: dict[str, Shape] = {}
        self._sizes: dict[str, int] = {}
        self._values: dict[str, list[Any]] = {}

    def read_values(self, rows: list[JsonValue], alias: str) -> Arrays:
        for index, row in enumerate(rows):
            if _is_named(row):
                raise InvalidArgument(f"Expecting value/list but got object at item {index} of input list")
            try:
                self._add(row, alias)
            except AspiredError as error:
                raise InvalidArgument(
                    f"Failed to process element: {index} of 'instances' list. Error: {error.code.name}: {error}"
                ) from error
        return self._arrays(len(rows))

    def read_objects(self, rows: list[JsonValue]) -> Arrays:
        for index, row in enumerate(rows):
            if type(row) is not dict or is_base64_object(row):
                raise InvalidArgument(f"Expecting object but got list at item {index} of input list")
            for alias, value in row.items():
                try:
                    self._add(value, alias)
                except AspiredError as error:
                    raise InvalidArgument(
                        f"Failed to process element: {index} key: {_printable(alias)} of 'instances' list. "
                        f"Error: {error.code.name}: {error}"
                    ) from error
            if row.keys() != self._inputs.keys():
                raise InvalidArgument(
                    f"Failed to process element: {index} of 'instances' list. JSON object: {quoted(row)} "
                    f"keys must be equal to: {','.join(sorted(self._inputs))}"
                )
        return self._arrays(len(rows))

    def _add(self, value: JsonValue, alias: str) -> None:
        info = self._inputs.get(alias)
        if info is None:
            raise InvalidArgument(f"JSON object: does not have named input: {_printable(alias)}")
        shape, values = read_tensor(value, info.dtype)
        if alias not in self._shapes:
            self._shapes[alias] = shape
            self._sizes[alias] = len(values)
            self._values[alias] = values
            return
        if len(values) != self._sizes[alias]:
            raise InvalidArgument(f"Expecting tensor size: {self._sizes[alias]} but got: {len(values)}")
        if shape != self._shapes[alias]:
            raise InvalidArgument(f"Expecting shape {_shape_text(self._shapes[alias])} but got: {_shape_text(shape)}")
        self._values[alias].extend(values)

    def _arrays(self, row_count: int) -> Arrays:
        return {
            alias: to_array(self._values[alias], (row_count, *self._shapes[alias]), info.dtype)
            for alias, info in self._inputs.items()
            if alias in self._values
        }


def _shape_text(shape: Shape) -> str:
    return f"[{','.join(map(str, shape))}]"


def _printable(name: str) -> str:
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
