"""The facade of `cluster.protos`."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import json_format, text_format, wrappers_pb2
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from google.protobuf.message import DecodeError, Message

from cluster import protos
from cluster.protos.schema import File, file_descriptors


def exported_names() -> set[str]:
    return {
        name
        for name, value in vars(protos).items()
        if isinstance(value, EnumTypeWrapper) or (isinstance(value, type) and issubclass(value, Message))
    }


def stub_names() -> set[str]:
    tree = ast.parse(Path(protos.__file__).with_suffix(".pyi").read_text())
    names = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
    names |= {node.target.id for node in tree.body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)}
    return names


def test_type_checkers_see_what_there_is() -> None:
    assert exported_names() - {"FileDescriptorProto"} == stub_names() - {"_Message", "POOL"}


def test_imports_neither_tensorflow_nor_grpc() -> None:
    script = (
        "import sys, cluster.protos; print({'tensorflow', 'tensorflow_serving', 'grpc', 'numpy', 'ray'} & sys.modules.keys())"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"


def test_stays_apart_from_messages_of_the_same_name_in_the_default_pool() -> None:
    spec = protos.ModelSpec(name="m")
    spec.version.value = 3
    assert not isinstance(spec.version, wrappers_pb2.Int64Value)
    assert protos.POOL.FindMessageTypeByName("tensorflow.serving.ModelSpec") is protos.ModelSpec.DESCRIPTOR


def test_a_request_survives_the_wire() -> None:
    request = protos.PredictRequest(model_spec=protos.ModelSpec(name="m", version_label="canary"), output_filter=["y"])
    request.inputs["x"].dtype = protos.DataType.Value("DT_FLOAT")
    request.inputs["x"].float_val.extend([1.0, 2.0])
    request.request_options.handshake.estimated_payload_bytes = 5
    parsed = protos.PredictRequest.FromString(request.SerializeToString())
    assert parsed == request
    assert parsed.model_spec.WhichOneof("version_choice") == "version_label"
    assert not parsed.HasField("client_id")
    assert parsed.request_options.HasField("handshake")


def test_malformed_bytes_are_refused() -> None:
    with pytest.raises(DecodeError):
        protos.PredictRequest.FromString(b"\xff")


def test_reads_a_model_config_file() -> None:
    config = text_format.Parse(
        """
        model_config_list {
          config {
            name: "m", base_path: "/models/m", model_platform: "tensorflow",
            model_version_policy { specific { versions: 1 versions: 2 } }
            version_labels { key: "stable" value: 1 }
            logging_config { sampling_config { sampling_rate: 0.5 } }
          }
        }
        """,
        protos.ModelServerConfig(),
    )
    (model,) = config.model_config_list.config
    assert list(model.model_version_policy.specific.versions) == [1, 2]
    assert dict(model.version_labels) == {"stable": 1}
    assert model.model_type == protos.ModelType.Value("MODEL_TYPE_UNSPECIFIED")


def test_reads_a_batching_parameters_file() -> None:
    parameters = text_format.Parse(
        """
        max_batch_size { value: 128 } batch_timeout_micros { value: 0 } thread_pool_name { value: "pool" }
        allowed_batch_sizes: 8 allowed_batch_sizes: 128 pad_variable_length_inputs: true
        enable_large_batch_splitting { value: true } max_execution_batch_size { value: 64 }
        """,
        protos.BatchingParameters(),
    )
    assert parameters.max_batch_size.value == 128
    assert parameters.HasField("batch_timeout_micros")
    assert not parameters.HasField("num_batch_threads")
    assert parameters.enable_large_batch_splitting.value


def test_reads_monitoring_ssl_and_platform_files() -> None:
    monitoring = text_format.Parse('prometheus_config { enable: true path: "/m" }', protos.MonitoringConfig())
    assert monitoring.prometheus_config.path == "/m"
    ssl = text_format.Parse('server_key: "k" server_cert: "c" client_verify: true', protos.SSLConfig())
    assert ssl.client_verify
    platforms = text_format.Parse(
        """
        platform_configs { key: "tensorflow" value { source_adapter_config {
          [type.googleapis.com/tensorflow.serving.BatchingParameters] { allowed_batch_sizes: 4 }
        } } }
        """,
        protos.PlatformConfigMap(),
        descriptor_pool=protos.POOL,
    )
    unpacked = protos.BatchingParameters()
    assert platforms.platform_configs["tensorflow"].source_adapter_config.Unpack(unpacked)
    assert list(unpacked.allowed_batch_sizes) == [4]


def test_metadata_packs_into_an_any_and_prints_as_json() -> None:
    response = protos.GetModelMetadataResponse()
    signatures = protos.SignatureDefMap()
    signatures.signature_def["serving_default"].method_name = "tensorflow/serving/predict"
    response.metadata["signature_def"].Pack(signatures)
    printed = json_format.MessageToDict(response, preserving_proto_field_name=True, descriptor_pool=protos.POOL)
    assert printed["metadata"]["signature_def"] == {
        "@type": "type.googleapis.com/tensorflow.serving.SignatureDefMap",
        "signature_def": {"serving_default": {"method_name": "tensorflow/serving/predict"}},
    }


def test_a_session_run_log_is_known_by_name_and_kept_as_it_is() -> None:
    # log_type 5, in it request 1 with fetch 3 = "y"
    encoded = bytes([5 << 3 | 2, 5, 1 << 3 | 2, 3, 3 << 3 | 2, 1]) + b"y"
    log = protos.PredictionLog.FromString(encoded)
    assert log.WhichOneof("log_type") == "session_run_log"
    assert log.SerializeToString() == encoded


@pytest.mark.parametrize(
    ("fields", "problem"),
    [({1: "string"}, "cannot read field 1"), ({1: "Missing x"}, "unknown type Missing")],
)
def test_a_mistake_in_a_schema_is_named(fields: dict[int, str], problem: str) -> None:
    with pytest.raises(ValueError, match=f"a.B: {problem}"):
        file_descriptors([File("b.proto", package="a", messages={"B": fields})], [])


def test_a_type_is_found_in_the_innermost_scope() -> None:
    file = File("f.proto", package="p", messages={"T": {}, "M": {1: "T inner", 2: "p.T outer"}, "M.T": {}})
    (descriptor,) = file_descriptors([file], [])
    outer = next(message for message in descriptor.message_type if message.name == "M")
    assert [field.type_name for field in outer.field] == [".p.M.T", ".p.T"]


def test_a_method_says_which_sides_stream() -> None:
    file = File("f.proto", package="p", messages={"M": {}}, services={"S": {"A": "M -> stream M", "B": "stream M -> M"}})
    (descriptor,) = file_descriptors([file], [])
    assert [(method.client_streaming, method.server_streaming) for method in descriptor.service[0].method] == [
        (False, True),
        (True, False),
    ]
    with pytest.raises(ValueError, match=r"p\.S: cannot read method A: 'M'"):
        file_descriptors([File("f.proto", package="p", messages={"M": {}}, services={"S": {"A": "M"}})], [])
