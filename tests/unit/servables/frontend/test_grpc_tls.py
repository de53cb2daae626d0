"""TLS and mutual TLS on the gRPC port and the UNIX socket, with the stock stubs and with our own client."""

from __future__ import annotations

import http.client
from collections.abc import Iterator, Sequence
from pathlib import Path

import grpc
import pytest
from tensorflow_serving.apis import model_service_pb2_grpc
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest

from cluster.client import Client, RetryPolicy, TLSConfig, Unavailable
from cluster.config.ssl_config import SSLConfig
from tests.fakes.certificates import Certificate, CertificateAuthority
from tests.fakes.local_frontend import local_frontend

PATIENCE_S = 30.0
AUTHORITY = CertificateAuthority()
SERVER = AUTHORITY.issue("server")
CLIENT = AUTHORITY.issue("client")
STRANGER = CertificateAuthority().issue("stranger")


def ssl_config(*, client_verify: bool) -> SSLConfig:
    return SSLConfig(server_key=SERVER.key, server_cert=SERVER.cert, custom_ca=AUTHORITY.cert, client_verify=client_verify)


@pytest.fixture(scope="module", params=["native", "grpcio"])
def addresses(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sequence[str]]:
    """The port and the socket of a server that proves itself and asks nothing of clients."""
    path = tmp_path_factory.mktemp("tls") / "socket"
    with local_frontend(
        ssl_config=ssl_config(client_verify=False), grpc_socket_path=str(path), grpc_listener=request.param
    ) as server:
        yield f"127.0.0.1:{server.grpc_port}", f"unix:{path}"


@pytest.fixture(scope="module", params=["native", "grpcio"])
def mutual(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sequence[str]]:
    """The port and the socket of a server that lets in only clients with a certificate of its authority."""
    path = tmp_path_factory.mktemp("mutual") / "socket"
    with local_frontend(
        ssl_config=ssl_config(client_verify=True), grpc_socket_path=str(path), grpc_listener=request.param
    ) as server:
        yield f"127.0.0.1:{server.grpc_port}", f"unix:{path}"


def credentials(own: Certificate | None = None, trusted: str = AUTHORITY.cert) -> grpc.ChannelCredentials:
    key, cert = (own.key.encode(), own.cert.encode()) if own else (None, None)
    return grpc.ssl_channel_credentials(trusted.encode(), key, cert)


def versions(address: str, channel_credentials: grpc.ChannelCredentials | None) -> int:
    """How many versions of a model the stock client is told of."""
    if channel_credentials is None:
        channel = grpc.insecure_channel(address)
    else:
        # The name of a socket is in no certificate.
        options = [("grpc.ssl_target_name_override", "localhost")] if address.startswith("unix:") else None
        channel = grpc.secure_channel(address, channel_credentials, options)
    with channel:
        request = GetModelStatusRequest()
        request.model_spec.name = "half_plus_two"
        response = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(request, timeout=PATIENCE_S)
        return len(response.model_version_status)


def refused(address: str, channel_credentials: grpc.ChannelCredentials | None) -> bool:
    with pytest.raises(grpc.RpcError) as raised:
        versions(address, channel_credentials)
    return raised.value.code() is grpc.StatusCode.UNAVAILABLE


def test_clients_that_trust_the_authority_are_served(addresses: Sequence[str]) -> None:
    assert all(versions(address, credentials()) for address in addresses)


def test_plain_text_is_refused(addresses: Sequence[str]) -> None:
    assert all(refused(address, None) for address in addresses)


def test_a_client_that_trusts_another_authority_turns_away(addresses: Sequence[str]) -> None:
    assert refused(addresses[0], credentials(trusted=STRANGER.cert))


def test_clients_with_a_certificate_of_the_authority_are_let_in(mutual: Sequence[str]) -> None:
    assert all(versions(address, credentials(CLIENT)) for address in mutual)


@pytest.mark.parametrize("own", [None, STRANGER], ids=["none", "another authority's"])
def test_clients_with_no_such_certificate_are_kept_out(mutual: Sequence[str], own: Certificate | None) -> None:
    assert all(refused(address, credentials(own)) for address in mutual)


def test_rest_stays_in_plain_text() -> None:
    with local_frontend(ssl_config=ssl_config(client_verify=True)) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=PATIENCE_S)
        connection.request("GET", "/v1/models/half_plus_two")
        assert connection.getresponse().status == 200
        connection.close()


def test_our_client_shows_its_certificate(mutual: Sequence[str], tmp_path: Path) -> None:
    for name, text in {"ca": AUTHORITY.cert, "cert": CLIENT.cert, "key": CLIENT.key}.items():
        (tmp_path / name).write_text(text)
    files = {"ca_file": tmp_path / "ca", "cert_file": tmp_path / "cert", "key_file": tmp_path / "key"}
    with Client(f"grpcs://{mutual[0]}", tls=TLSConfig(**files)) as client:
        assert client.predict("half_plus_two", [1.0]).array.tolist() == [2.5]
    with (
        Client(f"grpcs://{mutual[0]}", tls=TLSConfig(ca_file=tmp_path / "ca"), retry=RetryPolicy(max_attempts=1)) as client,
        pytest.raises(Unavailable),
    ):
        client.predict("half_plus_two", [1.0])
