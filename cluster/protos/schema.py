"""A notation for .proto files, and the descriptors made of it.

    File(
        "tensorflow_serving/apis/model.proto",
        package="tensorflow.serving",
        messages={
            "ModelSpec": {
                1: "string name",
                2: "oneof version_choice: google.protobuf.Int64Value version",
                ...

A field is written as in a .proto file, its number in front: `[oneof NAME:] [optional|repeated] TYPE NAME`, or
`map<KEY, TYPE> NAME`. A nested message has a dotted name (`TensorShapeProto.Dim`) and comes after the one it is in. A service's
method is `[stream] REQUEST -> [stream] RESPONSE`. Types are looked up from the innermost scope outwards. All files are proto3.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto, ServiceDescriptorProto


@dataclass(frozen=True, slots=True)
class File:
    """One .proto file. `path` is what other files import it by; the names of messages and enums are relative to `package`."""

    path: str
    package: str
    messages: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    enums: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    services: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def file_descriptors(files: Iterable[File], well_known: Iterable[FileDescriptorProto]) -> list[FileDescriptorProto]:
    """The descriptors of `files`, in their order: a file comes after those whose types it uses, save for `well_known`."""
    types: dict[str, _Type] = {}
    for known in well_known:
        types.update({f"{known.package}.{message.name}": _Type(known.name, _MESSAGE) for message in known.message_type})
    files = list(files)
    for file in files:
        types.update({f"{file.package}.{name}": _Type(file.path, _MESSAGE) for name in file.messages})
        types.update({f"{file.package}.{name}": _Type(file.path, _ENUM) for name in file.enums})
    return [_FileBuilder(file, types).build() for file in files]


_MESSAGE = FieldDescriptorProto.TYPE_MESSAGE
_ENUM = FieldDescriptorProto.TYPE_ENUM
_SCALARS = {
    "double": FieldDescriptorProto.TYPE_DOUBLE,
    "float": FieldDescriptorProto.TYPE_FLOAT,
    "int64": FieldDescriptorProto.TYPE_INT64,
    "uint64": FieldDescriptorProto.TYPE_UINT64,
    "int32": FieldDescriptorProto.TYPE_INT32,
    "uint32": FieldDescriptorProto.TYPE_UINT32,
    "sint64": FieldDescriptorProto.TYPE_SINT64,
    "bool": FieldDescriptorProto.TYPE_BOOL,
    "string": FieldDescriptorProto.TYPE_STRING,
    "bytes": FieldDescriptorProto.TYPE_BYTES,
}
_FIELD = re.compile(r"(?:oneof (?P<oneof>\w+): )?(?:(?P<label>optional|repeated) )?(?P<type>map<.+>|[\w.]+) (?P<name>\w+)")
_MAP = re.compile(r"map<(?P<key>\w+), (?P<value>[\w.]+)>")
_METHOD = re.compile(r"(?P<request_stream>stream )?(?P<request>[\w.]+) -> (?P<response_stream>stream )?(?P<response>[\w.]+)")


@dataclass(frozen=True, slots=True)
class _Type:
    path: str
    kind: FieldDescriptorProto.Type.ValueType


class _FileBuilder:
    def __init__(self, file: File, types: Mapping[str, _Type]) -> None:
        self._file = file
        self._types = types
        self._descriptor = FileDescriptorProto(name=file.path, package=file.package, syntax="proto3")
        self._messages: dict[str, DescriptorProto] = {}

    def build(self) -> FileDescriptorProto:
        for name in self._file.messages:
            outer, _, simple = name.rpartition(".")
            siblings = self._messages[outer].nested_type if outer else self._descriptor.message_type
            self._messages[name] = siblings.add(name=simple)
        for name, values in self._file.enums.items():
            self._add_enum(name, values)
        for name, fields in self._file.messages.items():
            for number, text in fields.items():
                self._add_field(name, number, text)
            _add_oneofs_of_optional_fields(self._messages[name])
        for name, methods in self._file.services.items():
            service = self._descriptor.service.add(name=name)
            for method, text in methods.items():
                self._add_method(service, method, text)
        return self._descriptor

    def _add_enum(self, name: str, values: Mapping[str, int]) -> None:
        outer, _, simple = name.rpartition(".")
        siblings = self._messages[outer].enum_type if outer else self._descriptor.enum_type
        enum = siblings.add(name=simple)
        for value, number in values.items():
            enum.value.add(name=value, number=number)

    def _add_field(self, message_name: str, number: int, text: str) -> None:
        match = _FIELD.fullmatch(text)
        if match is None:
            raise ValueError(f"{self._file.package}.{message_name}: cannot read field {number}: {text!r}")
        message = self._messages[message_name]
        added = message.field.add(name=match["name"], number=number, label=FieldDescriptorProto.LABEL_OPTIONAL)
        if map_type := _MAP.fullmatch(match["type"]):
            self._set_map_type(added, message_name, map_type["key"], map_type["value"])
            return
        self._set_type(added, message_name, match["type"])
        if match["label"] == "repeated":
            added.label = FieldDescriptorProto.LABEL_REPEATED
        elif match["label"] == "optional":
            added.proto3_optional = True
        elif match["oneof"]:
            added.oneof_index = _oneof_index(message, match["oneof"])

    def _add_method(self, service: ServiceDescriptorProto, name: str, text: str) -> None:
        match = _METHOD.fullmatch(text)
        if match is None:
            raise ValueError(f"{self._file.package}.{service.name}: cannot read method {name}: {text!r}")
        method = service.method.add(name=name)
        method.input_type = self._declared_type(service.name, match["request"])
        method.output_type = self._declared_type(service.name, match["response"])
        if match["request_stream"]:
            method.client_streaming = True
        if match["response_stream"]:
            method.server_streaming = True

    def _set_map_type(self, of: FieldDescriptorProto, message_name: str, key: str, value: str) -> None:
        """What protoc makes of a map: a repeated nested message, its name made of the field's."""
        entry_name = "".join(part.capitalize() for part in of.name.split("_")) + "Entry"
        entry = self._messages[message_name].nested_type.add(name=entry_name)
        entry.options.map_entry = True
        for number, (name, type_name) in enumerate((("key", key), ("value", value)), start=1):
            part = entry.field.add(name=name, number=number, label=FieldDescriptorProto.LABEL_OPTIONAL)
            self._set_type(part, message_name, type_name)
        of.label = FieldDescriptorProto.LABEL_REPEATED
        of.type = _MESSAGE
        of.type_name = f".{self._file.package}.{message_name}.{entry_name}"

    def _set_type(self, of: FieldDescriptorProto, scope: str, name: str) -> None:
        if name in _SCALARS:
            of.type = _SCALARS[name]
            return
        of.type = self._types[self._full_name(scope, name)].kind
        of.type_name = self._declared_type(scope, name)

    def _declared_type(self, scope: str, name: str) -> str:
        """The absolute name of a message or enum; its file becomes a dependency."""
        full_name = self._full_name(scope, name)
        declared = self._types[full_name]
        if declared.path != self._file.path and declared.path not in self._descriptor.dependency:
            self._descriptor.dependency.append(declared.path)
        return f".{full_name}"

    def _full_name(self, scope: str, name: str) -> str:
        """Finds a type as protoc does: in the message, in what encloses it, in the package, in what encloses that."""
        outer = f"{self._file.package}.{scope}"
        while outer:
            if f"{outer}.{name}" in self._types:
                return f"{outer}.{name}"
            outer = outer.rpartition(".")[0]
        if name in self._types:
            return name
        raise ValueError(f"{self._file.package}.{scope}: unknown type {name}")


def _oneof_index(message: DescriptorProto, name: str) -> int:
    names = [oneof.name for oneof in message.oneof_decl]
    if name in names:
        return names.index(name)
    message.oneof_decl.add(name=name)
    return len(names)


def _add_oneofs_of_optional_fields(message: DescriptorProto) -> None:
    """A proto3 `optional` is a oneof of its own; these must come after the real ones."""
    for optional in message.field:
        if optional.proto3_optional:
            optional.oneof_index = _oneof_index(message, f"_{optional.name}")
