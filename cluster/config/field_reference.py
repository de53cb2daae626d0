"""The tables of docs/configuration.md, made from the native config's fields: `python -m cluster.config.field_reference`."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from cluster.config.native_config_problems import value_type
from cluster.config.native_fields import NativeConfigFields, SizeBytes, VersionNumber

_TYPES: dict[Any, str] = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    SizeBytes: "size: bytes, or as in `512MiB`",
    VersionNumber: "whole number",
}


def field_reference() -> str:
    """One section for each mapping of the file, in the file's order."""
    return "\n".join(_section(path, fields) for path, fields in _mappings("", NativeConfigFields))


def _mappings(path: str, fields: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    yield path, fields
    for name, field in fields.model_fields.items():
        inner = _element(field)
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            listed = "[]" if typing.get_origin(value_type(field.annotation)) is list else ""
            yield from _mappings(f"{path}.{name}{listed}".removeprefix("."), inner)


def _section(path: str, fields: type[BaseModel]) -> str:
    title = f"`{path}`" if path else "The file"
    own_words = inspect.cleandoc(fields.__doc__ or "")
    rows = "".join(_row(name, field) for name, field in fields.model_fields.items())
    return f"### {title}\n\n{own_words}\n\n| field | type | unit | default | meaning |\n|---|---|---|---|---|\n{rows}"


def _row(name: str, field: FieldInfo) -> str:
    unit, default = _extra(field, "unit"), _extra(field, "default") or _default(field)
    flags = ", ".join(f"`{part}`" if part.startswith("--") else part for part in default.split(", "))
    return f"| `{name}` | {_type(field)} | {unit} | {flags} | {field.description} |\n"


def _extra(field: FieldInfo, key: str) -> str:
    extra = field.json_schema_extra
    return str(extra.get(key, "")) if isinstance(extra, dict) else ""


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    if field.default is None:
        return ""
    return f"`{str(field.default).lower() if isinstance(field.default, bool) else field.default}`"


def _element(field: FieldInfo) -> Any:
    """The type of a field's values, or of what they list."""
    kind = value_type(field.annotation)
    return typing.get_args(kind)[0] if typing.get_origin(kind) in (list, tuple) else kind


def _type(field: FieldInfo) -> str:
    kind = value_type(field.annotation)
    origin = typing.get_origin(kind)
    if origin is Literal:
        return " or ".join(f"`{choice}`" for choice in typing.get_args(kind))
    if origin is dict:
        return f"names; each: {_TYPES[typing.get_args(kind)[1]]}"
    element = _element(field)
    named = "fields, see below" if isinstance(element, type) and issubclass(element, BaseModel) else _TYPES[element]
    return f"list; each: {named}" if origin in (list, tuple) else named + _limits(field)


def _limits(field: FieldInfo) -> str:
    lowest = next((str(limit.ge) for limit in field.metadata if hasattr(limit, "ge")), "")
    highest = next((str(limit.le) for limit in field.metadata if hasattr(limit, "le")), "")
    if lowest and highest:
        return f", {lowest} to {highest}"
    return f", {lowest} or more" if lowest else ""


if __name__ == "__main__":
    print(field_reference(), end="")
