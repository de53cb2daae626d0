"""What is wrong with a native config, in words: file, line, field, what was expected."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from cluster.config.native_fields import ModelFields, NativeConfigFields
from cluster.config.yaml_document import Place, YamlDocument


def problems(error: ValidationError, document: YamlDocument, path: str) -> tuple[str, ...]:
    """A line for each thing that pydantic has found wrong with the document of the file `path`, in its order."""
    return _told([(_place(details), _explanation(details)) for details in error.errors()], document, path)


def repeated_names(models: Sequence[ModelFields], document: YamlDocument, path: str) -> tuple[str, ...]:
    """A line for each model that has the name of one before it."""
    return _told(list(_repeated_names(models)), document, path)


def _repeated_names(models: Sequence[ModelFields]) -> Iterator[tuple[Place, str]]:
    first: dict[str, int] = {}
    for number, model in enumerate(models):
        if first.setdefault(model.name, number) != number:
            yield ("models", number, "name"), f"{model.name} is the name of models[{first[model.name]}] too"


def _told(found: list[tuple[Place, str]], document: YamlDocument, path: str) -> tuple[str, ...]:
    lines = sorted((document.line(place), f"{_written(place)}: {what}") for place, what in found)
    return tuple(" ".join(f"{path}:{line}: {problem}".split()) for line, problem in lines)


def _place(error: ErrorDetails) -> Place:
    return [step for step in error["loc"] if step != "[key]"]


def _written(place: Place) -> str:
    """`models[1].batching.max_batch_size`"""
    steps = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place)
    return steps.removeprefix(".") or "the file"


_EXPLANATIONS: Mapping[str, str] = {
    "missing": "missing; it has to be given",
    "string_too_short": "expected text that is not empty",
    "too_short": "expected a list that is not empty",
    "int_type": "expected a whole number",
    "int_from_float": "expected a whole number",
    "float_type": "expected a number",
    "finite_number": "expected a number",
    "bool_type": "expected true or false",
    "list_type": "expected a list",
    "tuple_type": "expected a list",
    "dict_type": "expected fields, each written name: value",
    "model_type": "expected fields, each written name: value",
    "greater_than_equal": "expected {ge} or more",
    "less_than_equal": "expected {le} or less",
    "literal_error": "expected {expected}",
}


def _explanation(error: ErrorDetails) -> str:
    match error["type"]:
        case "extra_forbidden":
            return _unknown(error)
        case "string_type":
            scalar = isinstance(error["input"], int | float)
            return "expected text" + (f'; write it in quotes: "{_scalar(error["input"])}"' if scalar else "")
        case kind:
            if kind not in _EXPLANATIONS:
                return error["msg"]
            limits = {name: _shortest(limit) for name, limit in error.get("ctx", {}).items()}
            return _EXPLANATIONS[kind].format(**limits)


def _shortest(limit: object) -> object:
    if isinstance(limit, str):
        return limit.replace("'", "")
    return int(limit) if isinstance(limit, float) and limit.is_integer() else limit


def _scalar(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _unknown(error: ErrorDetails) -> str:
    *above, name = error["loc"]
    known = _model_at(above).model_fields
    near = difflib.get_close_matches(str(name), known, n=1)
    return f"unknown field; did you mean {near[0]}?" if near else f"unknown field; expected one of {', '.join(known)}"


def _model_at(place: Place) -> type[BaseModel]:
    """The class of the mapping that is at `place` of a file."""
    found: Any = NativeConfigFields
    for step in place:
        found = typing.get_args(found)[0] if isinstance(step, int) else value_type(found.model_fields[step].annotation)
    model: type[BaseModel] = found
    return model


def value_type(annotation: Any) -> Any:
    """An annotation without its None."""
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        return next(kind for kind in typing.get_args(annotation) if kind is not type(None))
    return annotation
