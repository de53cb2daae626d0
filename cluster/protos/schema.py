"""A small notation for protobuf messages, and the classes made from it.

A message is a name and its fields, one a line: `number name type`, where a type is a scalar, `Name` of a message or enum of the
schema, `google.protobuf.Name`, or `map<key, value>`. `*` behind a type is for repeated, `| group` puts the field in a oneof.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory, wrappers_pb2
from google.protobuf.internal import enum_type_wrapper

_FIELD = re.compile(r"(?P<number>\d+) (?P<name>\w+) (?P<type>map<\w+, [\w.]+>|[\w.]+)(?P<repeated>\*?)(?: \| (?P<oneof>\w+))?")
_MAP = re.compile(r"map<(?P<key>\w+), (?P<value>[\w.]+)>")
_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    name: getattr(_Field, f"TYPE_{name.upper()}")
    for name in ("double", "float", "int64", "uint64", "int32", "uint32", "bool", "string", "bytes")
}


class Schema:
    """Messages and enums, in a descriptor pool of their own.

    The pool is private so that the stock definitions (`tensorflow`, `tensorflow_serving`) may be imported in the same process,
    whatever their version: two pools never clash, and the bytes on the wire are the same. Packages are declared in the order in
    which they depend on each other.
    """

    def __init__(self) -> None:
        self._files: dict[str, descriptor_pb2.FileDescriptorProto] = {}
        self._messages: dict[str, descriptor_pb2.DescriptorProto] = {}
        self._fields: list[tuple[descriptor_pb2.DescriptorProto, str, str]] = []
        self._enums: set[str] = set()

    def package(self, name: str) -> Package:
        known = list(self._files)
        file = self._files[name] = _file(name)
        file.dependency.extend([*known, "google/protobuf/any.proto", "google/protobuf/wrappers.proto"])
        return Package(self, name)

    def add_message(self, package: str, name: str, fields: str) -> None:
        outer, _, short = name.rpartition(".")
        siblings = self._messages[f"{package}.{outer}"].nested_type if outer else self._files[package].message_type
        message = self._messages[f"{package}.{name}"] = siblings.add(name=short)
        self._fields.append((message, f"{package}.{name}", fields))

    def add_enum(self, package: str, name: str, values: Mapping[str, int]) -> None:
        outer, _, short = name.rpartition(".")
        siblings = self._messages[f"{package}.{outer}"].enum_type if outer else self._files[package].enum_type
        enum = siblings.add(name=short)
        for value, number in values.items():
            enum.value.add(name=value, number=number)
        self._enums.add(f"{package}.{name}")

    def build(self) -> dict[str, Any]:
        """Message classes and enum wrappers by their full names."""
        for message, full_name, fields in self._fields:
            for line in filter(None, map(str.strip, fields.splitlines())):
                self._add_field(message, full_name, line)
        pool = descriptor_pool.DescriptorPool()
        for known in (any_pb2, wrappers_pb2):
            pool.AddSerializedFile(known.DESCRIPTOR.serialized_pb)
        for file in self._files.values():
            pool.AddSerializedFile(file.SerializeToString())
        built: dict[str, Any] = {
            name: message_factory.GetMessageClass(pool.FindMessageTypeByName(name)) for name in self._messages
        }
        for name in self._enums:
            built[name] = enum_type_wrapper.EnumTypeWrapper(pool.FindEnumTypeByName(name))
        return built

    def _add_field(self, message: descriptor_pb2.DescriptorProto, full_name: str, line: str) -> None:
        match = _FIELD.fullmatch(line)
        if match is None:
            raise ValueError(f"{full_name}: not a field: {line}")
        field = message.field.add(name=match["name"], number=int(match["number"]))
        field.label = _Field.LABEL_REPEATED if match["repeated"] else _Field.LABEL_OPTIONAL
        entry = _MAP.fullmatch(match["type"])
        if entry is not None:
            self._add_map(message, full_name, field, entry["key"], entry["value"])
        else:
            self._set_type(field, full_name, match["type"])
        if match["oneof"]:
            groups = [group.name for group in message.oneof_decl]
            if match["oneof"] not in groups:
                message.oneof_decl.add(name=match["oneof"])
                groups.append(match["oneof"])
            field.oneof_index = groups.index(match["oneof"])
            field.proto3_optional = match["oneof"] == f"_{match['name']}"

    def _add_map(self, message: descriptor_pb2.DescriptorProto, full_name: str, field: Any, key: str, value: str) -> None:
        # What protoc makes of a map: a repeated nested message with two fields.
        name = "".join(part.capitalize() for part in field.name.split("_")) + "Entry"
        entry = message.nested_type.add(name=name)
        entry.options.map_entry = True
        for number, (field_name, type_name) in enumerate((("key", key), ("value", value)), 1):
            part = entry.field.add(name=field_name, number=number, label=_Field.LABEL_OPTIONAL)
            self._set_type(part, full_name, type_name)
        field.label, field.type, field.type_name = _Field.LABEL_REPEATED, _Field.TYPE_MESSAGE, f".{full_name}.{name}"

    def _set_type(self, field: Any, full_name: str, type_name: str) -> None:
        if type_name in _SCALARS:
            field.type = _SCALARS[type_name]
            return
        resolved = self._resolve(full_name, type_name)
        field.type = _Field.TYPE_ENUM if resolved in self._enums else _Field.TYPE_MESSAGE
        field.type_name = f".{resolved}"

    def _resolve(self, scope: str, type_name: str) -> str:
        """The full name: looked for in the message itself, then outwards, as protobuf does."""
        while True:
            candidate = f"{scope}.{type_name}" if scope else type_name
            if candidate in self._messages or candidate in self._enums or not scope:
                return candidate
            scope = scope.rpartition(".")[0]


class Package:
    """One package of a schema, for declaring what is in it; nested names are written `Outer.Inner`, after their outer one."""

    def __init__(self, schema: Schema, name: str) -> None:
        self._schema = schema
        self._name = name

    def message(self, name: str, fields: str = "") -> None:
        self._schema.add_message(self._name, name, fields)

    def enum(self, name: str, **values: int) -> None:
        self._schema.add_enum(self._name, name, values)


def _file(package: str) -> descriptor_pb2.FileDescriptorProto:
    # A file may only depend on files that it names, so each package's file is called after the package.
    return descriptor_pb2.FileDescriptorProto(name=package, package=package, syntax="proto3")
