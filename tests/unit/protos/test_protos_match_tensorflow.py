"""Our messages are TensorFlow's and TF Serving's, field by field.

The real descriptors come from a process of their own, where a bare stand-in for the package `tensorflow` lets its generated
messages be imported without the rest of it.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping

import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet

from cluster import protos
from cluster.protos import config_schema, serving_schema, session_schema, tensorflow_schema

_NOT_IN_THE_PIP_PACKAGE = {
    "tensorflow_serving/apis/internal/serialized_input.proto",
    "tensorflow_serving/config/monitoring_config.proto",
    "tensorflow_serving/config/ssl_config.proto",
    "tensorflow_serving/servables/tensorflow/saved_model_bundle_source_adapter.proto",
    "tensorflow_serving/servables/tensorflow/session_bundle_config.proto",
    "tensorflow_serving/servables/tensorflow/thread_pool_factory_config.proto",
}
_PATHS = [
    file.path
    for file in (*tensorflow_schema.FILES, *session_schema.FILES, *config_schema.FILES, *serving_schema.FILES)
    if file.path not in _NOT_IN_THE_PIP_PACKAGE
]
_LEFT_OUT = {"SessionRunLog": {"request", "response"}}

_DUMP = """
import importlib, importlib.util, sys, types
stand_in = types.ModuleType("tensorflow")
stand_in.__path__ = importlib.util.find_spec("tensorflow").submodule_search_locations
sys.modules["tensorflow"] = stand_in
from google.protobuf import descriptor_pb2, descriptor_pool
for path in sys.argv[1:]:
    if path.startswith("tensorflow"):
        importlib.import_module(path.removesuffix(".proto").replace("/", ".") + "_pb2")
files = descriptor_pb2.FileDescriptorSet()
for path in sys.argv[1:]:
    descriptor_pool.Default().FindFileByName(path).CopyToProto(files.file.add())
sys.stdout.buffer.write(files.SerializeToString())
"""


@pytest.fixture(scope="module")
def real_files() -> Mapping[str, FileDescriptorProto]:
    dumped = subprocess.run([sys.executable, "-c", _DUMP, *_PATHS], stdout=subprocess.PIPE, check=True).stdout
    return {file.name: file for file in FileDescriptorSet.FromString(dumped).file}


def our_file(path: str) -> FileDescriptorProto:
    ours = FileDescriptorProto()
    protos.POOL.FindFileByName(path).CopyToProto(ours)
    return ours


def field_facts(message: DescriptorProto, field: FieldDescriptorProto) -> tuple[object, ...]:
    oneof = message.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else None
    return field.name, field.number, field.type, field.type_name, field.label, field.proto3_optional, oneof


def assert_same_message(ours: DescriptorProto, real: DescriptorProto) -> None:
    left_out = _LEFT_OUT.get(real.name, set())
    expected = {field_facts(real, field) for field in real.field if field.name not in left_out}
    assert {field_facts(ours, field) for field in ours.field} == expected, real.name
    assert ours.options.map_entry == real.options.map_entry
    assert enum_facts(ours) == enum_facts(real)
    nested = {message.name: message for message in real.nested_type}
    assert {message.name for message in ours.nested_type} == nested.keys()
    for message in ours.nested_type:
        assert_same_message(message, nested[message.name])


def enum_facts(scope: DescriptorProto | FileDescriptorProto) -> dict[str, dict[str, int]]:
    return {enum.name: {value.name: value.number for value in enum.value} for enum in scope.enum_type}


@pytest.mark.parametrize("path", _PATHS)
def test_declares_the_same(path: str, real_files: Mapping[str, FileDescriptorProto]) -> None:
    ours, real = our_file(path), real_files[path]
    assert (ours.package, ours.syntax) == (real.package, real.syntax)
    real_messages = {message.name: message for message in real.message_type}
    for message in ours.message_type:
        assert_same_message(message, real_messages[message.name])
    real_enums = enum_facts(real)
    for name, values in enum_facts(ours).items():
        assert values == real_enums[name]
