"""Slots of both protocols: how requests end, whatever the server does to them."""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from cluster.bench.grpc_connections import GrpcConnections
from cluster.bench.http_connections import HttpConnections
from cluster.bench.load_request import LoadRequest, RequestEncoder
from cluster.bench.slot import Connections, Slot
from cluster.client.connection_options import ConnectionOptions, TLSConfig
from cluster.client.exchange import WireRequest
from cluster.client.model_metadata import ModelMetadata
from cluster.client.model_spec import ModelSpec
from cluster.client.target import Target, parse_target
from cluster.core.errors import AspiredError, Code
from servables.signatures import Signature, TensorInfo
from servables.tensors import DataType
from tests.fakes.certificates import CertificateAuthority
from tests.fakes.local_frontend import LocalFrontend, local_frontend

REQUEST = LoadRequest(WireRequest("POST", "/v1/models/m:predict", b'{"instances": [1.0]}'), 1)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


class Ends:
    """What became of requests."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[AspiredError | None] = asyncio.Queue()

    def __call__(self, slot: Slot, error: AspiredError | None) -> None:
        self._queue.put_nowait(error)

    async def next(self) -> AspiredError | None:
        async with asyncio.timeout(30):
            return await self._queue.get()

    def none_yet(self) -> bool:
        return self._queue.empty()


class HttpServer:
    """Answers each request with the next reply, in pieces; None hangs up in its place, and after the last it is silent."""

    def __init__(self, *replies: tuple[bytes, ...] | None) -> None:
        self._replies = iter(replies)
        self.requests: list[bytes] = []
        self.connections = 0
        self.target: Target

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"Content-Length: (\d+)", head)
                assert length is not None
                self.requests.append(head + await reader.readexactly(int(length[1])))
                reply = next(self._replies, ())
                if reply is None:
                    return
                for piece in reply:
                    writer.write(piece)
                    await writer.drain()
                if any(b"Connection: close" in piece for piece in reply):
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()


@asynccontextmanager
async def http_server(*replies: tuple[bytes, ...] | None, tls: ssl.SSLContext | None = None) -> AsyncIterator[HttpServer]:
    server = HttpServer(*replies)
    listener = await asyncio.start_server(server.handle, "127.0.0.1", 0, ssl=tls)
    scheme = "http" if tls is None else "https"
    server.target = parse_target(f"{scheme}://127.0.0.1:{listener.sockets[0].getsockname()[1]}/prefix")
    try:
        yield server
    finally:
        listener.close()


@asynccontextmanager
async def slot_to(
    target: Target, timeout_s: float | None = None, ca_file: Path | None = None
) -> AsyncIterator[tuple[Connections, Slot, Ends]]:
    ends = Ends()
    options = ConnectionOptions(headers={"X-Token": "t"}, tls=TLSConfig(ca_file=ca_file))
    connections = HttpConnections(target, options, [REQUEST], timeout_s)
    try:
        yield connections, connections.slot(ends), ends
    finally:
        await connections.close()


async def test_sends_whole_requests_and_keeps_the_connection() -> None:
    async with http_server((OK,), (OK[:9], OK[9:])) as server, slot_to(server.target) as (_, slot, ends):
        for _ in range(2):
            slot.send(0)
            assert await ends.next() is None
        assert server.connections == 1
        assert server.requests[0] == server.requests[1]
        head, _, body = server.requests[0].partition(b"\r\n\r\n")
        assert head.startswith(b"POST /prefix/v1/models/m:predict HTTP/1.1\r\n")
        assert b"\r\nX-Token: t" in head
        assert body == REQUEST.wire.body


async def test_an_error_has_the_servers_text() -> None:
    refusal = b'HTTP/1.1 429 Too Many Requests\r\nContent-Length: 17\r\n\r\n{"error": "full"}'
    async with http_server((refusal,), (OK,)) as server, slot_to(server.target) as (_, slot, ends):
        slot.send(0)
        error = await ends.next()
        assert error is not None
        assert (error.code, error.message) == (Code.RESOURCE_EXHAUSTED, "full")
        slot.send(0)
        assert await ends.next() is None


@pytest.mark.parametrize(
    ("reply", "message"), [(None, "was closed"), ((b"none of it\r\n\r\n",), "is not HTTP"), ((OK[:-1], b""), "")]
)
async def test_a_request_that_is_not_answered_has_failed_and_the_next_connects_again(
    reply: tuple[bytes, ...] | None, message: str
) -> None:
    async with http_server(reply, (OK,)) as server, slot_to(server.target, timeout_s=10) as (connections, slot, ends):
        slot.send(0)
        if message:
            error = await ends.next()
            assert error is not None
            assert error.code is Code.UNAVAILABLE
            assert message in error.message
        else:  # half a reply, and then nothing
            while not server.requests:
                await asyncio.sleep(0)
            connections.expire(time.perf_counter() + 9)
            assert ends.none_yet()
            connections.expire(time.perf_counter() + 11)
            error = await ends.next()
            assert error is not None
            assert error.code is Code.DEADLINE_EXCEEDED
        slot.send(0)
        assert await ends.next() is None
        assert server.connections == 2


async def test_a_server_that_closes_after_its_answer_is_connected_again() -> None:
    closing = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"
    async with http_server((closing,), (OK,)) as server, slot_to(server.target) as (_, slot, ends):
        for _ in range(2):
            slot.send(0)
            assert await ends.next() is None
        assert server.connections == 2


async def test_tls_trusts_the_authority_that_is_named_and_no_other(tmp_path: Path) -> None:
    authority, other = CertificateAuthority(), CertificateAuthority()
    certificate = authority.issue("server")
    for name, text in (("ca", authority.cert), ("other", other.cert), ("pair", certificate.cert + certificate.key)):
        (tmp_path / name).write_text(text)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(tmp_path / "pair")
    async with http_server((OK,), tls=tls) as server:
        async with slot_to(server.target, ca_file=tmp_path / "other") as (_, slot, ends):
            slot.send(0)
            error = await ends.next()
            assert error is not None
            assert "certificate verify failed" in error.message
        async with slot_to(server.target, ca_file=tmp_path / "ca") as (_, slot, ends):
            slot.send(0)
            assert await ends.next() is None


@pytest.mark.parametrize("scheme", ["http", "https", "grpc"])
async def test_where_nobody_listens_requests_fail(scheme: str) -> None:
    target = parse_target(f"{scheme}://127.0.0.1:1")
    ends = Ends()
    connections = (
        GrpcConnections(target, ConnectionOptions(), [REQUEST], 10.0, 1)
        if scheme == "grpc"
        else HttpConnections(target, ConnectionOptions(), [REQUEST], 10.0)
    )
    try:
        slot = connections.slot(ends)
        for _ in range(2):
            slot.send(0)
            error = await ends.next()
            assert error is not None
            assert error.code is Code.UNAVAILABLE
            assert error.message.startswith(f"Cannot connect to {target}: ")
    finally:
        await connections.close()


@pytest.fixture(scope="module")
def frontend() -> Iterator[LocalFrontend]:
    with local_frontend() as frontend:
        yield frontend


async def test_grpc_requests_end_well_or_with_the_servers_code_and_text(frontend: LocalFrontend) -> None:
    target = parse_target(f"grpc://127.0.0.1:{frontend.grpc_port}")
    floats = TensorInfo("", DataType.DT_FLOAT, (-1,))
    metadata = ModelMetadata({"serving_default": Signature("", {"x": floats}, {"y": floats})}, 1)
    requests = [
        RequestEncoder(target.protocol, ModelSpec(model), metadata).tensors(np.array([8.0], np.float32), "")
        for model in ("half_plus_two", "failing")
    ]
    ends = Ends()
    connections = GrpcConnections(target, ConnectionOptions(), requests, 10.0, 2)
    try:
        slots = [connections.slot(ends) for _ in range(3)]
        for slot in slots:
            slot.send(0)
        assert [await ends.next() for _ in slots] == [None] * 3
        slots[0].send(1)
        error = await ends.next()
        assert error is not None
        assert (error.code, error.message) == (Code.RESOURCE_EXHAUSTED, "It failed with RESOURCE_EXHAUSTED")
    finally:
        await connections.close()


async def test_requests_under_way_end_silently_when_all_is_closed(frontend: LocalFrontend) -> None:
    async with http_server() as server, slot_to(server.target) as (connections, slot, ends):
        slot.send(0)
        while not server.requests:
            await asyncio.sleep(0)
        await connections.close()
        await asyncio.sleep(0)
        assert ends.none_yet()


def test_a_wrong_ca_file_is_told_when_connections_are_made(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("none")
    options = ConnectionOptions(tls=TLSConfig(ca_file=tmp_path / "ca.pem"))
    with pytest.raises(OSError, match="CERT"):
        HttpConnections(parse_target("https://h"), options, [], None)
