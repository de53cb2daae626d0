"""TensorFlow's, TF Serving's and gRPC's messages, without their packages.

Importing TensorFlow's costs seconds and hundreds of megabytes, and the client must work where they are not installed. So
their names, numbers and types are written down in the `*_schema` modules, and become messages in a descriptor pool of
our own, where they never meet the real ones of the same process. On the wire and in text form both are the same.

Every top-level message and enum is here by its simple name (`from cluster.protos import PredictRequest`); nested ones hang on
theirs (`PredictRequest.RequestOptions`). `POOL` is for protobuf's functions that must look into an Any:
`text_format.Parse(text, message, descriptor_pool=POOL)`, `json_format.MessageToJson(message, descriptor_pool=POOL)`.
"""

from __future__ import annotations

from google.protobuf import any_pb2, message_factory, wrappers_pb2
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper

from cluster.protos import config_schema, grpc_schema, profiler_schema, serving_schema, session_schema, tensorflow_schema
from cluster.protos.schema import file_descriptors

POOL = DescriptorPool()


def _fill_pool() -> None:
    well_known = [FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb) for module in (any_pb2, wrappers_pb2)]
    schemas = (tensorflow_schema, session_schema, config_schema, serving_schema, profiler_schema, grpc_schema)
    files = [file for schema in schemas for file in schema.FILES]
    for descriptor in (*well_known, *file_descriptors(files, well_known)):
        POOL.AddSerializedFile(descriptor.SerializeToString())
    for file in files:
        descriptor = POOL.FindFileByName(file.path)
        for name, message in descriptor.message_types_by_name.items():
            globals()[name] = message_factory.GetMessageClass(message)
        for name, enum in descriptor.enum_types_by_name.items():
            globals()[name] = EnumTypeWrapper(enum)


_fill_pool()
