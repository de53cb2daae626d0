"""gRPC's own services: health and reflection.

Their packages, grpcio-health-checking and grpcio-reflection, would tie the release of protobuf to that of grpcio.
"""

from __future__ import annotations

from dataclasses import replace

from cluster.protos.schema import File

_REFLECTION = File(
    "grpc/reflection/v1/reflection.proto",
    package="grpc.reflection.v1",
    messages={
        "ServerReflectionRequest": {
            1: "string host",
            3: "oneof message_request: string file_by_filename",
            4: "oneof message_request: string file_containing_symbol",
            5: "oneof message_request: ExtensionRequest file_containing_extension",
            6: "oneof message_request: string all_extension_numbers_of_type",
            7: "oneof message_request: string list_services",
        },
        "ExtensionRequest": {1: "string containing_type", 2: "int32 extension_number"},
        "ServerReflectionResponse": {
            1: "string valid_host",
            2: "ServerReflectionRequest original_request",
            4: "oneof message_response: FileDescriptorResponse file_descriptor_response",
            5: "oneof message_response: ExtensionNumberResponse all_extension_numbers_response",
            6: "oneof message_response: ListServiceResponse list_services_response",
            7: "oneof message_response: ErrorResponse error_response",
        },
        "FileDescriptorResponse": {1: "repeated bytes file_descriptor_proto"},
        "ExtensionNumberResponse": {1: "string base_type_name", 2: "repeated int32 extension_number"},
        "ListServiceResponse": {1: "repeated ServiceResponse service"},
        "ServiceResponse": {1: "string name"},
        "ErrorResponse": {1: "int32 error_code", 2: "string error_message"},
    },
    services={
        "ServerReflection": {"ServerReflectionInfo": "stream ServerReflectionRequest -> stream ServerReflectionResponse"}
    },
)

FILES = (
    File(
        "grpc/health/v1/health.proto",
        package="grpc.health.v1",
        messages={
            "HealthCheckRequest": {1: "string service"},
            "HealthCheckResponse": {1: "ServingStatus status"},
            "HealthListRequest": {},
            "HealthListResponse": {1: "map<string, HealthCheckResponse> statuses"},
        },
        enums={
            "HealthCheckResponse.ServingStatus": {"UNKNOWN": 0, "SERVING": 1, "NOT_SERVING": 2, "SERVICE_UNKNOWN": 3},
        },
        services={
            "Health": {
                "Check": "HealthCheckRequest -> HealthCheckResponse",
                "List": "HealthListRequest -> HealthListResponse",
                "Watch": "HealthCheckRequest -> stream HealthCheckResponse",
            }
        },
    ),
    # The same messages under the older name, which many clients still ask for. What comes later gives its simple names.
    replace(_REFLECTION, path="grpc/reflection/v1alpha/reflection.proto", package="grpc.reflection.v1alpha"),
    _REFLECTION,
)
