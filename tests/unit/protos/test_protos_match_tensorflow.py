"""Our messages and services are TensorFlow's, TF Serving's and gRPC's, field by field.

The real descriptors come from a process of their own, where a bare stand-in for the package `tensorflow` lets its generated
messages be imported without the rest of it.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping

import pytest
from google.protobuf import text_format
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from cluster import protos
from cluster.protos import config_schema, profiler_schema, serving_schema, session_schema, tensorflow_schema

_NOT_IN_THE_PIP_PACKAGE = {
    "tsl/profiler/protobuf/profiler_service.proto",
    "tsl/profiler/protobuf/profiler_service_monitor_result.proto",
    "tensorflow_serving/apis/internal/serialized_input.proto",
    "tensorflow_serving/config/monitoring_config.proto",
    "tensorflow_serving/config/ssl_config.proto",
    "tensorflow_serving/servables/tensorflow/saved_model_bundle_source_adapter.proto",
    "tensorflow_serving/servables/tensorflow/session_bundle_config.proto",
    "tensorflow_serving/servables/tensorflow/thread_pool_factory_config.proto",
}
_PATHS = [
    file.path
    for schema in (tensorflow_schema, session_schema, config_schema, serving_schema, profiler_schema)
    for file in schema.FILES
    if file.path not in _NOT_IN_THE_PIP_PACKAGE
]
_LEFT_OUT = {
    "SessionRunLog": {"request", "response"},
    "XSpace": {"planes", "errors", "warnings", "hostnames"},
    "NodeDef": {
        "input",
        "device",
        "attr",
        "AttrEntry",
        "experimental_debug_info",
        "ExperimentalDebugInfo",
        "experimental_type",
    },
    "GraphDef": {"versions", "version", "library", "debug_info"},
    "MetaGraphDef": {"saver_def", "collection_def", "CollectionDefEntry", "object_graph_def"},
    "MetaInfoDef": {
        "meta_graph_version",
        "stripped_op_list",
        "any_info",
        "tensorflow_version",
        "tensorflow_git_version",
        "stripped_default_attrs",
        "function_aliases",
        "FunctionAliasesEntry",
    },
}

_DUMP = """
import importlib, importlib.util, sys, types
stand_in = types.ModuleType("tensorflow")
stand_in.__path__ = importlib.util.find_spec("tensorflow").submodule_search_locations
sys.modules["tensorflow"] = stand_in
from google.protobuf import descriptor_pb2, descriptor_pool
for path in sys.argv[1:]:
    if path.startswith(("tensorflow", "tsl")):
        module = path.removesuffix(".proto").replace("/", ".") + "_pb2"
        importlib.import_module(f"tensorflow.{module}" if path.startswith("tsl") else module)
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
    nested = {message.name: message for message in real.nested_type if message.name not in left_out}
    assert {message.name for message in ours.nested_type} == nested.keys()
    for message in ours.nested_type:
        assert_same_message(message, nested[message.name])


def enum_facts(scope: DescriptorProto | FileDescriptorProto) -> dict[str, dict[str, int]]:
    return {enum.name: {value.name: value.number for value in enum.value} for enum in scope.enum_type}


def service_facts(file: FileDescriptorProto) -> set[tuple[object, ...]]:
    return {
        (service.name, method.name, method.input_type, method.output_type, method.client_streaming, method.server_streaming)
        for service in file.service
        for method in service.method
    }


@pytest.mark.parametrize("path", _PATHS)
def test_declares_the_same(path: str, real_files: Mapping[str, FileDescriptorProto]) -> None:
    assert_same_file(our_file(path), real_files[path])


def test_declares_the_same_health_service() -> None:
    assert_same_file(
        our_file("grpc/health/v1/health.proto"), FileDescriptorProto.FromString(health_pb2.DESCRIPTOR.serialized_pb)
    )


def test_declares_the_same_reflection_service_in_both_of_its_packages() -> None:
    real = FileDescriptorProto.FromString(reflection_pb2.DESCRIPTOR.serialized_pb)
    assert_same_file(our_file("grpc/reflection/v1alpha/reflection.proto"), real)
    newer = str(our_file("grpc/reflection/v1/reflection.proto")).replace("grpc.reflection.v1", "grpc.reflection.v1alpha")
    assert_same_file(text_format.Parse(newer, FileDescriptorProto()), real)


def assert_same_file(ours: FileDescriptorProto, real: FileDescriptorProto) -> None:
    assert (ours.package, ours.syntax) == (real.package, real.syntax)
    assert service_facts(ours) == service_facts(real)
    real_messages = {message.name: message for message in real.message_type}
    for message in ours.message_type:
        assert_same_message(message, real_messages[message.name])
    real_enums = enum_facts(real)
    for name, values in enum_facts(ours).items():
        assert values == real_enums[name]
