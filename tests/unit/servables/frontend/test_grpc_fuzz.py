"""What is no request, sent to every method of the gRPC port, and what is no HTTP/2, sent to the port itself.

The seeds are fixed: what fails once fails again.
"""

from __future__ import annotations

import logging
import random
import resource
import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest

from cluster.config.ssl_config import SSLConfig
from cluster.protos import (
    POOL,
    ClassificationRequest,
    Example,
    GetModelMetadataRequest,
    GetModelStatusRequest,
    HealthCheckRequest,
    ModelConfig,
    MultiInferenceRequest,
    PredictRequest,
    PredictResponse,
    ProfileRequest,
    RegressionRequest,
    ReloadConfigRequest,
    ServerReflectionRequest,
)
from tests.fakes.certificates import CertificateAuthority
from tests.fakes.local_frontend import LocalFrontend, local_frontend

PATIENCE_S = 30.0
WATCHED_S = 0.05
REQUESTS_PER_METHOD = 300
CONNECTIONS = 200
GROWTH_BYTES = 64 << 20
PREDICT = "/tensorflow.serving.PredictionService/Predict"
SERVICES = (
    "tensorflow.serving.PredictionService",
    "tensorflow.serving.ModelService",
    "tensorflow.ProfilerService",
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
)
METHODS = [f"/{service}/{method.name}" for service in SERVICES for method in POOL.FindServiceByName(service).methods]
WATCH = "/grpc.health.v1.Health/Watch"
ANSWERS = {
    WATCH: grpc.StatusCode.DEADLINE_EXCEEDED,
    "/tensorflow.ProfilerService/Monitor": grpc.StatusCode.UNIMPLEMENTED,
    "/tensorflow.ProfilerService/Terminate": grpc.StatusCode.UNIMPLEMENTED,
}
"""What a method says to a valid request that is not OK."""
BUGS = {grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL}

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADERS, SETTINGS, WINDOW_UPDATE = 1, 4, 8


@pytest.fixture(scope="module", params=["native", "grpcio"])
def server(request: pytest.FixtureRequest) -> Iterator[LocalFrontend]:
    with local_frontend(health_service=True, grpc_listener=request.param) as server:
        yield server


@pytest.fixture(autouse=True)
def nothing_goes_wrong_and_the_server_still_answers(
    server: LocalFrontend, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> Iterator[None]:
    yield
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        answer = channel.unary_unary(PREDICT, bytes, PredictResponse.FromString)(predict_request(), timeout=PATIENCE_S)
    assert list(answer.outputs["y"].float_val) == [2.5]
    # asyncio's logger tells of grpc's queue, which event loops of other tests share with this one.
    told = [record for record in caplog.records if record.levelno >= logging.WARNING and record.name != "asyncio"]
    assert [record.getMessage() for record in told] == []
    assert "Traceback" not in capfd.readouterr().err


def predict_request() -> bytes:
    request = PredictRequest()
    request.model_spec.name = "half_plus_two"
    request.model_spec.version.value = 1
    request.inputs["x"].dtype = 1
    request.inputs["x"].tensor_shape.dim.add(size=1)
    request.inputs["x"].float_val.append(1.0)
    request.output_filter.append("y")
    return bytes(request.SerializeToString())


def valid_requests() -> Mapping[str, Sequence[bytes]]:
    """Requests of every kind, by the name of their method, for the mutations to begin with."""
    classify, regress, multi = ClassificationRequest(), RegressionRequest(), MultiInferenceRequest()
    example = Example()
    example.features.feature["x"].float_list.value.append(1.0)
    for request, kind in ((classify, "classify"), (regress, "regress")):
        request.model_spec.name, request.model_spec.signature_name = "half_plus_two", f"{kind}_x_to_y"
        request.input.example_list.examples.append(example)
        task = multi.tasks.add(method_name=f"tensorflow/serving/{kind}")
        task.model_spec.CopyFrom(request.model_spec)
    multi.input.CopyFrom(classify.input)
    metadata, status, reload = (
        GetModelMetadataRequest(metadata_field=["signature_def"]),
        GetModelStatusRequest(),
        ReloadConfigRequest(),
    )
    metadata.model_spec.name = status.model_spec.name = "half_plus_two"
    reload.config.model_config_list.config.append(ModelConfig(name="m", base_path="/m", model_platform="tensorflow"))
    health = HealthCheckRequest(service="ModelService")
    requests: dict[str, list[Any]] = {
        "Predict": [predict_request()],
        "Classify": [classify],
        "Regress": [regress],
        "MultiInference": [multi],
        "GetModelMetadata": [metadata],
        "GetModelStatus": [status],
        "HandleReloadConfigRequest": [reload],
        "Check": [health],
        "List": [health],
        "Watch": [health],
        "Profile": [ProfileRequest(duration_ms=1, session_id="1", opts={"version": 1, "duration_ms": 1})],
        "Monitor": [ProfileRequest(duration_ms=1)],
        "Terminate": [ProfileRequest(session_id="1")],
        "ServerReflectionInfo": [
            ServerReflectionRequest(list_services="x"),
            ServerReflectionRequest(file_containing_symbol="tensorflow.serving.PredictionService.Predict"),
            ServerReflectionRequest(file_containing_extension={"containing_type": "tensorflow.serving.ModelSpec"}),
        ],
    }
    return {
        method: [each if isinstance(each, bytes) else each.SerializeToString() for each in some]
        for method, some in requests.items()
    }


def mutated(chance: random.Random, valid: bytes) -> bytes:
    """The bytes with a few of them changed, gone, twice there or new; now and then nothing of the old ones is left."""
    if chance.random() < 0.1:
        return chance.randbytes(chance.randrange(200))
    changed = bytearray(valid)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(changed) + 1)
        upto = min(len(changed), at + chance.randrange(8))
        match chance.randrange(4):
            case 0:
                changed[at:upto] = b""
            case 1:
                changed[at:at] = changed[at:upto] * chance.randint(1, 3)
            case 2:
                changed[at:at] = chance.randbytes(chance.randrange(8))
            case _:
                changed[at:upto] = chance.randbytes(upto - at)
    return bytes(changed)


@pytest.mark.parametrize("path", METHODS)
def test_no_message_is_the_servers_fault(server: LocalFrontend, path: str) -> None:
    chance = random.Random(path)
    valid = valid_requests()[path.rpartition("/")[2]]
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        call: Any = channel.stream_stream(path, bytes, bytes)

        def ask(request: bytes) -> grpc.StatusCode:
            # A watch goes on until its deadline, and one request says all that a stream of them could.
            responses: Any = call(iter([request]), timeout=WATCHED_S if path == WATCH else PATIENCE_S)
            with suppress(grpc.RpcError):
                for _ in responses:
                    pass
            code: grpc.StatusCode = responses.code()
            return code

        requests = [mutated(chance, chance.choice(valid)) for _ in range(REQUESTS_PER_METHOD)]
        with ThreadPoolExecutor(16) as pool:
            codes = list(pool.map(ask, [*valid, b"", *requests]))
    assert set(codes[: len(valid)]) == {ANSWERS.get(path, grpc.StatusCode.OK)}
    assert [request.hex() for request, code in zip(requests, codes[len(valid) + 1 :], strict=True) if code in BUGS] == []
    assert grpc.StatusCode.INVALID_ARGUMENT in codes or path.endswith("List")


@pytest.mark.parametrize("path", ["/tensorflow.serving.PredictionService/Other", "/other.Service/Predict", "/", "no path", ""])
def test_an_unknown_method_is_unimplemented(server: LocalFrontend, path: str) -> None:
    with (
        grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel,
        pytest.raises(grpc.RpcError) as raised,
    ):
        channel.unary_unary(path, bytes, bytes)(predict_request(), timeout=PATIENCE_S)
    assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED


def frame(kind: int, flags: int, stream: int, payload: bytes, length: int | None = None) -> bytes:
    """An HTTP/2 frame, which may lie about its length."""
    return (
        struct.pack(">I", len(payload) if length is None else length)[1:] + struct.pack(">BBI", kind, flags, stream) + payload
    )


def garbage(chance: random.Random) -> bytes:
    """What a broken or hostile client might send on a connection."""
    noise = chance.randbytes(chance.randrange(1, 3000))
    frames = b"".join(
        frame(chance.randrange(16), chance.randrange(256), chance.randrange(8), chance.randbytes(chance.randrange(60)))
        for _ in range(chance.randrange(1, 30))
    )
    settings = frame(SETTINGS, 0, 0, b"")
    return chance.choice(
        [
            noise,
            PREFACE + noise,
            PREFACE + settings + frames,
            PREFACE + settings + frame(HEADERS, 4, 1, noise),
            PREFACE + settings + frame(HEADERS, 0, 1, b"\x00" * 16, length=(1 << 24) - 1) + noise,
            PREFACE + settings + frame(WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff") * 50,
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" + noise,
            b"\x16\x03\x01\x02\x00\x01" + noise,
        ]
    )


def send_garbage(port: int, seed: int) -> None:
    chance = random.Random(seed)
    with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as connection, suppress(OSError):
        connection.sendall(garbage(chance))
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(1 << 16):
            pass


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def test_garbage_ends_its_own_connection_and_is_not_kept(server: LocalFrontend) -> None:
    for seed in range(CONNECTIONS):
        send_garbage(server.grpc_port, seed)
    before = resident_bytes()
    for seed in range(CONNECTIONS, 4 * CONNECTIONS):
        send_garbage(server.grpc_port, seed)
    assert resident_bytes() - before < GROWTH_BYTES


def test_a_port_with_tls_takes_garbage_too() -> None:
    authority = CertificateAuthority()
    own = authority.issue("server")
    with local_frontend(ssl_config=SSLConfig(server_key=own.key, server_cert=own.cert)) as server:
        for seed in range(CONNECTIONS):
            send_garbage(server.grpc_port, seed)
        credentials = grpc.ssl_channel_credentials(authority.cert.encode())
        with grpc.secure_channel(f"127.0.0.1:{server.grpc_port}", credentials) as channel:
            assert channel.unary_unary(PREDICT, bytes, bytes)(predict_request(), timeout=PATIENCE_S)


def test_a_message_that_never_comes_takes_no_room(server: LocalFrontend) -> None:
    """A gRPC message says its length in front: 2 GB of it are not set aside before they come."""
    literal = b"".join(
        b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value
        for name, value in (
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", PREDICT.encode()),
            (b":authority", b"a"),
            (b"te", b"trailers"),
            (b"content-type", b"application/grpc"),
        )
    )
    opening = PREFACE + frame(SETTINGS, 0, 0, b"") + frame(HEADERS, 4, 1, literal)
    before = resident_bytes()
    connections = [socket.create_connection(("127.0.0.1", server.grpc_port), PATIENCE_S) for _ in range(100)]
    try:
        for connection in connections:
            connection.sendall(opening + frame(0, 0, 1, b"\x00\x7f\xff\xff\xff" + b"a" * 100))
            assert connection.recv(9)
        assert resident_bytes() - before < GROWTH_BYTES
    finally:
        for connection in connections:
            connection.close()
