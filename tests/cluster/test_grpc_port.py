"""The gRPC port of a whole server with mutual TLS: its health, and a profile of its replica."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow.tsl.profiler.protobuf.xplane_pb2 import XSpace

from cluster.client import Client, TLSConfig
from cluster.protos import ProfileRequest, ProfileResponse
from tests.cluster.aspired_server import AspiredServer
from tests.fakes.certificates import CertificateAuthority, ssl_config_text

pytestmark = pytest.mark.timeout(300)

PATIENCE_S = 60.0
PROFILE = "/tensorflow.ProfilerService/Profile"
AUTHORITY = CertificateAuthority()
SERVER, CLIENT = AUTHORITY.issue("server"), AUTHORITY.issue("client")


@pytest.fixture(scope="module", params=["native", "grpcio"])
def guarded(request: pytest.FixtureRequest, exports: Path, models: Path, state: Path) -> Iterator[AspiredServer]:
    shutil.copytree(exports / "1", models / "half_plus_two" / "1", dirs_exist_ok=True)
    ssl_config = models / "ssl.txt"
    ssl_config.write_text(
        ssl_config_text(server_key=SERVER.key, server_cert=SERVER.cert, custom_ca=AUTHORITY.cert, client_verify=True)
    )
    server = AspiredServer(
        state,
        "--model_name=half_plus_two",
        f"--model_base_path={models / 'half_plus_two'}",
        f"--ssl_config_file={ssl_config}",
        f"--grpc_listener={request.param}",
        "--enable_grpc_healthcheck_service",
        "--drain_timeout_s=300",
    )
    try:
        server.wait_ready()
        yield server
    finally:
        server.stop()


@pytest.fixture
def channel(guarded: AspiredServer) -> Iterator[grpc.Channel]:
    credentials = grpc.ssl_channel_credentials(AUTHORITY.cert.encode(), CLIENT.key.encode(), CLIENT.cert.encode())
    unlimited = (("grpc.max_receive_message_length", -1),)
    with grpc.secure_channel(f"127.0.0.1:{guarded.grpc_port}", credentials, unlimited) as channel:
        yield channel


def test_clients_show_their_certificates(guarded: AspiredServer, tmp_path: Path) -> None:
    for name, text in {"ca": AUTHORITY.cert, "cert": CLIENT.cert, "key": CLIENT.key}.items():
        (tmp_path / name).write_text(text)
    tls = TLSConfig(ca_file=tmp_path / "ca", cert_file=tmp_path / "cert", key_file=tmp_path / "key")
    with Client(f"grpcs://127.0.0.1:{guarded.grpc_port}", tls=tls) as client:
        assert client.predict("half_plus_two", [2.0]).array.tolist() == [2.0]
    stranger = grpc.insecure_channel(f"127.0.0.1:{guarded.grpc_port}")
    with stranger, pytest.raises(grpc.RpcError) as raised:
        health_pb2_grpc.HealthStub(stranger).Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE_S)
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_replica_records_itself(channel: grpc.Channel) -> None:
    method = channel.unary_unary(PROFILE, bytes, ProfileResponse.FromString)
    response = method(ProfileRequest(duration_ms=500).SerializeToString(), timeout=PATIENCE_S)
    (file,) = response.tool_data
    assert file.name == "half_plus_two.1.xplane.pb"
    assert XSpace.FromString(file.data).planes


def test_the_key_is_written_nowhere(guarded: AspiredServer, state: Path) -> None:
    secret = SERVER.key.splitlines()[1]
    logs = [path for path in state.rglob("*") if path.is_file()]
    assert logs
    assert [path for path in logs if secret in path.read_text(errors="replace")] == []
    assert secret not in guarded.output


def test_who_watches_is_told_that_the_server_stops(guarded: AspiredServer, channel: grpc.Channel) -> None:
    watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service="ModelService"))
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    guarded.process.send_signal(signal.SIGTERM)
    assert [response.status for response in watch] == [health_pb2.HealthCheckResponse.NOT_SERVING]
    guarded.process.wait(PATIENCE_S)
