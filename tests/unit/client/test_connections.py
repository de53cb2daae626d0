"""What the transports make of servers that are absent, hang, hang up, or want a certificate and a token."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from cluster.client import (
    AsyncClient,
    Client,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    RetryPolicy,
    TLSConfig,
    Unauthenticated,
    Unavailable,
)
from tests.fakes.scripted_http_server import http_reply, scripted_http_server
from tests.fakes.stock_server import StockServer, stock_server
from tests.unit.client.client_conformance import blocking

NO_RETRY = RetryPolicy(max_attempts=1)
NO_STATUS = http_reply(b'{"model_version_status": []}')

both_kinds = pytest.mark.parametrize("kind", ["Client", "AsyncClient"])
both_protocols = pytest.mark.parametrize("scheme", ["grpc", "http"])


@pytest.fixture
def dead_port() -> Iterator[int]:
    """A port that refuses connections, and that nobody else gets meanwhile."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def address(server: StockServer, scheme: str) -> str:
    return f"{scheme}://127.0.0.1:{server.grpc_port if scheme.startswith('grpc') else server.rest_port}"


@both_kinds
@both_protocols
def test_a_server_that_is_absent_is_unavailable(kind: str, scheme: str, dead_port: int) -> None:
    with blocking(kind, f"{scheme}://127.0.0.1:{dead_port}", retry=NO_RETRY, timeout_s=30.0) as client:
        with pytest.raises(Unavailable, match=rf"^Cannot connect to {scheme}://127.0.0.1:{dead_port}: .*(refused|failed)"):
            client.status("half_plus_two")
        with pytest.raises(DeadlineExceeded, match="UNAVAILABLE: Cannot connect to"):
            client.wait_until_available("half_plus_two", timeout_s=0.2)


@both_kinds
@both_protocols
def test_what_never_reached_a_server_is_sent_to_the_next_even_if_nothing_may_run_twice(
    kind: str, scheme: str, dead_port: int, stock: StockServer
) -> None:
    targets = [f"{scheme}://127.0.0.1:{dead_port}", address(stock, scheme)]
    with blocking(kind, targets, retry=RetryPolicy(max_attempts=1, resend=False), timeout_s=30.0) as client:
        assert client.predict("half_plus_two", [1.0]).array.tolist() == [2.5]


@both_kinds
def test_a_connection_is_used_again(kind: str) -> None:
    with (
        scripted_http_server(lambda connection: connection.sendall(NO_STATUS)) as server,
        blocking(kind, f"http://127.0.0.1:{server.port}", timeout_s=30.0) as client,
    ):
        for _ in range(3):
            assert client.status("m") == []
        assert (server.connections, len(server.requests)) == (1, 3)


@both_kinds
def test_a_server_that_hangs_up_is_unavailable_and_asked_again(kind: str) -> None:
    hang_ups = iter([True, False])

    def behaviour(connection: socket.socket) -> None:
        if next(hang_ups):
            raise ConnectionError
        connection.sendall(NO_STATUS)

    with (
        scripted_http_server(behaviour) as server,
        blocking(kind, f"http://127.0.0.1:{server.port}", timeout_s=30.0) as client,
    ):
        assert client.status("m") == []
    assert len(server.requests) == 2


@both_kinds
def test_a_request_that_was_sent_is_not_sent_again_if_nothing_may_run_twice(kind: str) -> None:
    def behaviour(connection: socket.socket) -> None:
        raise ConnectionError

    with (
        scripted_http_server(behaviour) as server,
        blocking(kind, f"http://127.0.0.1:{server.port}", retry=RetryPolicy(resend=False), timeout_s=30.0) as client,
        pytest.raises(Unavailable, match=f"^The connection to http://127.0.0.1:{server.port} failed: "),
    ):
        client.status("m")
    assert len(server.requests) == 1


@both_kinds
@pytest.mark.parametrize("first", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"], ids=["silent", "endless"])
def test_the_timeout_is_that_of_the_whole_reply(kind: str, first: bytes) -> None:
    over = threading.Event()

    def behaviour(connection: socket.socket) -> None:
        connection.sendall(first)
        while not over.wait(0.02):
            if first:
                connection.sendall(b" ")

    with scripted_http_server(behaviour) as server:
        reason = rf"^No reply from http://127.0.0.1:{server.port} within 0.3 s$"
        try:
            with (
                blocking(kind, f"http://127.0.0.1:{server.port}", timeout_s=0.3) as client,
                pytest.raises(DeadlineExceeded, match=reason),
            ):
                client.status("m")
        finally:
            over.set()


def test_headers_go_with_every_request() -> None:
    with (
        scripted_http_server(lambda connection: connection.sendall(NO_STATUS)) as server,
        Client(f"http://127.0.0.1:{server.port}/behind/a/proxy", headers={"X-Token": "secret"}) as client,
    ):
        client.status("m")
    assert server.requests[0].startswith(b"GET /behind/a/proxy/v1/models/m HTTP/1.1\r\n")
    assert b"X-Token: secret\r\n" in server.requests[0]


@both_protocols
def test_threads_share_a_client(scheme: str, stock: StockServer) -> None:
    with Client(address(stock, scheme), timeout_s=30.0) as client, ThreadPoolExecutor(8) as pool:
        predictions = pool.map(lambda value: client.predict("half_plus_two", [value]).array.tolist(), range(100))
        assert list(predictions) == [[value / 2 + 2] for value in range(100)]


@both_protocols
async def test_calls_of_an_async_client_run_at_the_same_time(scheme: str, stock: StockServer) -> None:
    async with AsyncClient(address(stock, scheme), timeout_s=30.0) as client:
        hanging = asyncio.ensure_future(client.predict("hanging", [1.0]))
        predictions = await asyncio.gather(*(client.predict("half_plus_two", [value]) for value in range(20)))
        assert [np.asarray(p).tolist() for p in predictions] == [[value / 2 + 2] for value in range(20)]
        hanging.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hanging


@both_kinds
def test_a_closed_client_refuses_calls(kind: str, stock: StockServer) -> None:
    with blocking(kind, address(stock, "grpc"), timeout_s=30.0) as client:
        client.status("half_plus_two")
        client.close()
        with pytest.raises(FailedPrecondition, match="closed"):
            client.status("half_plus_two")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate of 127.0.0.1 and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    directory = tmp_path_factory.mktemp("tls")
    (directory / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (directory / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return directory / "cert.pem", directory / "key.pem"


@pytest.fixture(scope="module")
def guarded(certificate: tuple[Path, Path]) -> Iterator[StockServer]:
    with stock_server(*certificate) as server:
        yield server


@both_kinds
@pytest.mark.parametrize("scheme", ["grpcs", "https"])
def test_speaks_tls_and_shows_a_token(kind: str, scheme: str, guarded: StockServer, certificate: tuple[Path, Path]) -> None:
    tls = TLSConfig(ca_file=certificate[0])
    with blocking(
        kind, address(guarded, scheme), tls=tls, headers={"Authorization": "Bearer secret"}, timeout_s=30.0
    ) as client:
        assert client.predict("half_plus_two", [1.0]).array.tolist() == [2.5]
    with (
        blocking(kind, address(guarded, scheme), tls=tls, timeout_s=30.0) as client,
        pytest.raises(Unauthenticated, match="A token is needed"),
    ):
        client.predict("half_plus_two", [1.0])


@both_kinds
@pytest.mark.parametrize("scheme", ["grpcs", "https"])
def test_does_not_talk_to_a_server_whose_certificate_it_does_not_trust(kind: str, scheme: str, guarded: StockServer) -> None:
    with (
        blocking(kind, address(guarded, scheme), retry=NO_RETRY, timeout_s=30.0) as client,
        pytest.raises(Unavailable, match=r"(?i)cannot connect.*certificate"),
    ):
        client.status("half_plus_two")


def test_a_certificate_needs_its_key() -> None:
    with pytest.raises(InvalidArgument, match="together"):
        TLSConfig(cert_file="cert.pem")
