"""The native gRPC listener over real sockets, asked by gRPC's own client, and by the `h2` library where that is too polite."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import logging
import socket
import ssl
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import Any

import grpc
import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest

from cluster.config.ssl_config import SSLConfig
from cluster.core.errors import NotFound
from servables.frontend.grpc_connection import GrpcLimits
from servables.frontend.grpc_listener import GrpcListener
from servables.frontend.grpc_method import GrpcService, StreamStream, UnaryStream, UnaryUnary
from servables.frontend.grpc_wire import prefixed
from servables.frontend.held_bytes import HeldBytes
from servables.http2.connection import Http2Limits
from servables.http2.frames import ErrorCode
from tests.fakes.certificates import CertificateAuthority

HOST = "127.0.0.1"
PATIENCE_S = 30.0
MEBIBYTE = 1 << 20
UNLIMITED = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))


class World:
    """A listener and its services."""

    def __init__(self, max_held_bytes: int = 1 << 30, ssl_config: SSLConfig | None = None, **limits: Any) -> None:
        self.held = HeldBytes(max_held_bytes)
        self.gate = asyncio.Event()
        self.under_way = 0
        self.cancelled = 0
        self.sent = 0
        self.read = 0
        self.peers: list[str] = []
        methods = {
            "Echo": UnaryUnary("a.Service/Echo", self.echo),
            "Wait": UnaryUnary("a.Service/Wait", self.wait),
            "Fail": UnaryUnary("a.Service/Fail", self.fail),
            "Break": UnaryUnary("a.Service/Break", self.break_),
            "Count": UnaryStream("a.Service/Count", self.count),
            "Chat": StreamStream("a.Service/Chat", self.chat),
            "Listen": StreamStream("a.Service/Listen", self.listen),
        }
        self.listener = GrpcListener([GrpcService("a.Service", methods)], self.held, ssl_config, GrpcLimits(**limits))
        self.socket = socket.socket()
        self.socket.bind((HOST, 0))
        self.port = int(self.socket.getsockname()[1])
        self.address = f"{HOST}:{self.port}"

    async def echo(self, request: bytes, timeout_s: float | None, peer: str) -> bytes:
        self.peers.append(peer)
        return request

    async def wait(self, request: bytes, timeout_s: float | None, peer: str) -> bytes:
        self.under_way += 1
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.under_way -= 1
        return request

    async def fail(self, request: bytes, timeout_s: float | None, peer: str) -> bytes:
        raise NotFound("no such thing: 100 %")

    async def break_(self, request: bytes, timeout_s: float | None, peer: str) -> bytes:
        raise ZeroDivisionError("secret")

    async def count(self, request: bytes) -> AsyncGenerator[bytes, None]:
        try:
            for number in itertools.count():
                self.sent += 1
                yield b"%1000d" % number
        finally:
            self.cancelled += 1

    async def chat(self, requests: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        async for request in requests:
            if request == b"fail":
                raise NotFound("no such thing")
            yield request

    async def listen(self, requests: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        await self.gate.wait()
        async for request in requests:
            self.read += len(request)
        yield b"%d" % self.read

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                await asyncio.sleep(0.001)

    def is_held(self, size_bytes: int) -> bool:
        return self.held.size_bytes == size_bytes


@asynccontextmanager
async def world(**options: Any) -> AsyncIterator[World]:
    world = World(**options)
    await world.listener.start([world.address], world.socket)
    try:
        yield world
    finally:
        await world.listener.stop(0.0)


class RawClient:
    """An HTTP/2 connection that sends what it is told to, and grants only what it is told to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, settings: dict[str, int]) -> None:
        self._reader = reader
        self._writer = writer
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        codes = {getattr(h2.settings.SettingCodes, name): value for name, value in settings.items()}
        self.h2.local_settings = h2.settings.Settings(client=True, initial_values=codes)
        self.h2.initiate_connection()
        self.bodies: dict[int, bytes] = {}
        self.fields: dict[int, dict[str, str]] = {}
        self.ended: set[int] = set()
        self.resets: dict[int, int] = {}
        self.goaways: list[int] = []
        self.pings = 0
        self.closed = False
        self._unread = b""
        self.send()

    def send(self) -> None:
        self._writer.write(self.h2.data_to_send())

    def ask(self, method: str, *messages: bytes, ends: bool = True, more: Sequence[tuple[str, str]] = ()) -> int:
        stream_id = int(self.h2.get_next_available_stream_id())
        fields = [(":method", "POST"), (":scheme", "http"), (":path", f"/a.Service/{method}"), (":authority", "here")]
        self.h2.send_headers(stream_id, [*fields, ("te", "trailers"), ("content-type", "application/grpc"), *more])
        data = b"".join(map(prefixed, messages))
        if data or ends:
            self.h2.send_data(stream_id, data, end_stream=ends)
        self.send()
        return stream_id

    async def hear(self, *, grant: bool = True) -> None:
        """Takes what comes next."""
        async with asyncio.timeout(PATIENCE_S):
            try:
                data = await self._reader.read(1 << 16)
            except ConnectionError:
                data = b""
        if not data:
            self.closed = True
            return
        self._unread += data
        while len(self._unread) >= 9 and len(self._unread) >= (size := 9 + int.from_bytes(self._unread[:3])):
            frame, self._unread = self._unread[:size], self._unread[size:]
            self._take(self.h2.receive_data(frame), grant)
            # The library takes GOAWAY for the end of everything.
            self.h2.state_machine.state = h2.connection.ConnectionState.CLIENT_OPEN
        self.send()

    def _take(self, events: list[Any], grant: bool) -> None:
        for event in events:
            match event:
                case h2.events.ResponseReceived() | h2.events.TrailersReceived():
                    self.fields.setdefault(event.stream_id, {}).update(event.headers)
                case h2.events.DataReceived():
                    self.bodies[event.stream_id] = self.bodies.get(event.stream_id, b"") + event.data
                    if grant and event.flow_controlled_length:
                        self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                case h2.events.StreamEnded():
                    self.ended.add(event.stream_id)
                case h2.events.StreamReset():
                    self.resets[event.stream_id] = event.error_code
                case h2.events.ConnectionTerminated():
                    self.goaways.append(event.error_code)
                case h2.events.PingReceived():
                    self.pings += 1

    async def answer(self, stream_id: int) -> tuple[str, str, bytes]:
        """Its status, message and body."""
        while stream_id not in self.ended and not self.closed:
            await self.hear()
        fields = self.fields.get(stream_id, {})
        return fields.get("grpc-status", ""), fields.get("grpc-message", ""), self.bodies.get(stream_id, b"")

    async def until_closed(self) -> None:
        while not self.closed:
            await self.hear()

    def hang_up(self) -> None:
        self._writer.close()


@asynccontextmanager
async def raw(world: World, **settings: int) -> AsyncIterator[RawClient]:
    reader, writer = await asyncio.open_connection(HOST, world.port)
    client = RawClient(reader, writer, settings)
    try:
        yield client
    finally:
        client.hang_up()
        try:
            await writer.wait_closed()
        except ConnectionError:
            pass


def channel(world: World, *options: tuple[str, Any]) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(world.address, [*UNLIMITED, *options])


async def test_messages_of_any_size_go_both_ways() -> None:
    async with world() as served, channel(served) as client:
        echo = client.unary_unary("/a.Service/Echo", bytes, bytes)
        for size in (0, 1, 1 << 14, 100_000, 8 * MEBIBYTE + 1):
            message = bytes(range(256)) * (size // 256) + b"a" * (size % 256)
            assert await echo(message) == message
        assert served.peers[0].startswith(f"{HOST}:")
        assert served.is_held(0)


async def test_large_messages_pass_through_small_windows() -> None:
    limits = Http2Limits(stream_window_bytes=1 << 16, connection_window_bytes=1 << 17, max_frame_bytes=1 << 14)
    async with world(http2=limits) as served, channel(served, ("grpc.http2.lookahead_bytes", 1024)) as client:
        echo = client.unary_unary("/a.Service/Echo", bytes, bytes)
        messages = [bytes((number,)) * MEBIBYTE for number in range(8)]
        assert await asyncio.gather(*map(echo, messages)) == messages


async def test_a_thousand_calls_of_one_connection_are_under_way_at_once() -> None:
    async with world() as served, channel(served) as client:
        wait = client.unary_unary("/a.Service/Wait", bytes, bytes)
        calls = [asyncio.ensure_future(wait(b"%d" % number)) for number in range(1000)]
        await served.until(lambda: served.under_way == 1000)
        served.gate.set()
        assert await asyncio.gather(*calls) == [b"%d" % number for number in range(1000)]


async def test_a_deadline_ends_a_call_whatever_it_does() -> None:
    async with world() as served, raw(served) as client:
        stream_id = client.ask("Wait", b"", more=[("grpc-timeout", "10m")])
        assert await client.answer(stream_id) == ("4", "Deadline Exceeded", b"")
        await served.until(lambda: served.cancelled == 1)
        assert (await client.answer(client.ask("Echo", b"", more=[("grpc-timeout", "0n")])))[0] == "4"
        assert await client.answer(client.ask("Echo", b"a")) == ("0", "", prefixed(b"a"))


async def test_who_takes_a_call_back_cancels_it_alone() -> None:
    async with world() as served, raw(served) as client:
        first, second = client.ask("Wait", b"1"), client.ask("Wait", b"2")
        await served.until(lambda: served.under_way == 2)
        client.h2.reset_stream(first, ErrorCode.CANCEL)
        client.send()
        await served.until(lambda: served.cancelled == 1)
        served.gate.set()
        assert await client.answer(second) == ("0", "", prefixed(b"2"))


async def test_who_hangs_up_cancels_all_its_calls() -> None:
    async with world() as served:
        async with raw(served) as client:
            for _ in range(3):
                client.ask("Wait", b"")
            client.ask("Echo", prefixed(b"unfinished" * 100)[:50], ends=False)
            await served.until(lambda: served.under_way == 3)
        await served.until(lambda: served.cancelled == 3)
        await served.until(lambda: served.is_held(0))


async def test_errors_have_their_code_and_bugs_say_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async with world() as served, channel(served) as client:
        with pytest.raises(grpc.RpcError) as raised:
            await client.unary_unary("/a.Service/Fail", bytes, bytes)(b"")
        assert (raised.value.code(), raised.value.details()) == (grpc.StatusCode.NOT_FOUND, "no such thing: 100 %")
        assert not caplog.records
        with pytest.raises(grpc.RpcError) as raised:
            await client.unary_unary("/a.Service/Break", bytes, bytes)(b"")
        assert raised.value.details() == "Internal error; see the server's log."
        (record,) = (record for record in caplog.records if record.levelno >= logging.WARNING)
        assert record.getMessage() == "a.Service/Break failed"


@pytest.mark.parametrize("sent", [b"", b"\0\0", prefixed(b"abc")[:-1]])
async def test_a_request_without_its_message_is_refused(sent: bytes) -> None:
    async with world() as served, raw(served) as client:
        stream_id = client.ask("Echo", ends=False)
        client.h2.send_data(stream_id, sent, end_stream=True)
        client.send()
        assert (await client.answer(stream_id))[0] == "12"
        await served.until(lambda: served.is_held(0))


async def test_a_request_may_come_in_pieces_and_end_later() -> None:
    async with world() as served, raw(served) as client:
        stream_id = client.ask("Echo", ends=False)
        for byte in prefixed(b"abc"):
            client.h2.send_data(stream_id, bytes((byte,)))
            client.send()
            await asyncio.sleep(0)
        assert await client.answer(stream_id) == ("0", "", prefixed(b"abc"))
        while stream_id not in client.resets:
            await client.hear()
        assert client.resets == {stream_id: ErrorCode.NO_ERROR}


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
async def test_compressed_requests_are_read(compression: grpc.Compression) -> None:
    async with world() as served, channel(served) as client:
        message = b"again and again " * 200_000
        assert await client.unary_unary("/a.Service/Echo", bytes, bytes)(message, compression=compression) == message
        chat: Any = client.stream_stream("/a.Service/Chat", bytes, bytes)
        assert [answer async for answer in chat(iter([message, b"short"]), compression=compression)] == [message, b"short"]
        assert served.is_held(0)


async def test_what_grows_when_it_is_decompressed_counts_as_held() -> None:
    async with world(max_held_bytes=4 * MEBIBYTE) as served, channel(served) as client:
        served.held.take(1)
        with pytest.raises(grpc.RpcError, match="The server holds requests of 1 bytes") as raised:
            await client.unary_unary("/a.Service/Echo", bytes, bytes)(bytes(64 * MEBIBYTE), compression=grpc.Compression.Gzip)
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
        assert served.is_held(1)


async def test_what_grows_beyond_all_that_may_be_held_is_too_large_even_alone() -> None:
    async with world(max_held_bytes=4 * MEBIBYTE) as served, channel(served) as client:
        with pytest.raises(grpc.RpcError, match="Received message larger than max") as raised:
            await client.unary_unary("/a.Service/Echo", bytes, bytes)(bytes(64 * MEBIBYTE), compression=grpc.Compression.Gzip)
        assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert served.is_held(0)


async def test_streams_of_both_sides() -> None:
    async with world() as served, channel(served) as client:
        chat: Any = client.stream_stream("/a.Service/Chat", bytes, bytes)
        requests = [b"a", b"", b"b" * MEBIBYTE, b"c"]
        assert [answer async for answer in chat(iter(requests))] == requests
        call = chat(iter([b"a", b"fail", b"b"]))
        assert await call.read() == b"a"
        with pytest.raises(grpc.RpcError, match="no such thing"):
            await call.read()
        assert [answer async for answer in chat(iter([]))] == []


async def test_a_stream_waits_for_a_client_that_does_not_read() -> None:
    async with world() as served, raw(served) as client:
        stream_id = client.ask("Count", b"")
        while len(client.bodies.get(stream_id, b"")) < 60_000:
            await client.hear(grant=False)
        for _ in range(100):
            await asyncio.sleep(0)
        sent = served.sent
        assert sent < 200
        client.h2.increment_flow_control_window(500_000)
        client.h2.increment_flow_control_window(500_000, stream_id)
        client.send()
        await served.until(lambda: served.sent > sent + 400)
        client.h2.reset_stream(stream_id)
        client.send()
        await served.until(lambda: served.cancelled == 1)


async def test_a_client_that_streams_waits_for_a_method_that_does_not_read() -> None:
    async with world(http2=Http2Limits(stream_window_bytes=100_000)) as served, raw(served) as client:
        while client.h2.remote_settings.initial_window_size != 100_000:
            await client.hear()
        stream_id = client.ask("Listen", ends=False)
        message = prefixed(b"a" * 995)
        for _ in range(100):
            client.h2.send_data(stream_id, message)
        client.send()
        assert (await client.answer(client.ask("Echo", b"")))[0] == "0"
        assert client.h2.local_flow_control_window(stream_id) == 0
        served.gate.set()
        while not client.h2.local_flow_control_window(stream_id):
            await client.hear()
        client.h2.end_stream(stream_id)
        client.send()
        assert await client.answer(stream_id) == ("0", "", prefixed(b"99500"))


async def test_requests_that_a_method_does_not_read_count_as_held() -> None:
    async with world() as served, raw(served) as client:
        stream_id = client.ask("Listen", *[b"a" * 1000] * 10, b"", ends=False)
        await served.until(lambda: served.held.size_bytes > 10_000)
        served.gate.set()
        client.h2.end_stream(stream_id)
        client.send()
        assert await client.answer(stream_id) == ("0", "", prefixed(b"10000"))
        await served.until(lambda: served.is_held(0))


async def test_a_deadline_ends_an_answer_that_has_begun() -> None:
    async with world() as served, raw(served) as client:
        stream_id = client.ask("Chat", b"a", ends=False, more=[("grpc-timeout", "10m")])
        assert await client.answer(stream_id) == ("4", "Deadline Exceeded", prefixed(b"a"))


async def test_what_has_come_of_requests_counts_as_held() -> None:
    async with world(max_held_bytes=50_000) as served, raw(served) as first, raw(served) as second:
        whole = first.ask("Echo", ends=False)
        first.h2.send_data(whole, prefixed(b"a" * 100_000)[:16_000])
        first.h2.send_data(whole, b"a" * 16_000)
        first.h2.send_data(whole, b"a" * 16_000)
        first.send()
        await served.until(lambda: served.is_held(47_995))
        refused = second.ask("Echo", ends=False)
        second.h2.send_data(refused, prefixed(b"a" * 100_000)[:16_000])
        second.send()
        status, message, _ = await second.answer(refused)
        assert status == "14"
        assert message.startswith("The server holds requests of 47995 bytes that have no answer yet, the limit is 50000.")
        first.h2.reset_stream(whole)
        first.send()
        await served.until(lambda: served.is_held(0))


async def test_answers_that_nobody_takes_count_as_held_and_are_let_go_with_their_client() -> None:
    async with world() as served:
        async with raw(served, INITIAL_WINDOW_SIZE=1000) as client:
            client.ask("Echo", b"a" * 16_000)
            client.ask("Echo", b"a" * 16_000)
            await served.until(lambda: served.is_held(2 * (16_005 - 1000)))
        await served.until(lambda: served.is_held(0))


async def test_a_client_that_takes_nothing_is_cut_off() -> None:
    async with world(stall_timeout_s=0.0) as served, raw(served, INITIAL_WINDOW_SIZE=1000) as client:
        client.ask("Echo", b"a" * 16_000)
        while not client.closed:
            await client.hear(grant=False)
        await served.until(lambda: served.is_held(0))


async def test_to_talk_is_not_to_take() -> None:
    async with world(stall_timeout_s=0.0) as served, raw(served, INITIAL_WINDOW_SIZE=1000) as client:
        client.ask("Echo", b"a" * 16_000)
        while not client.closed:
            client.h2.ping(b"one.....")
            client.h2.ping(b"two.....")
            client.send()
            await client.hear(grant=False)
        await served.until(lambda: served.is_held(0))


async def test_a_request_that_does_not_go_on_ends_and_one_that_need_not_does_not() -> None:
    async with world(stall_timeout_s=0.0) as served, raw(served) as client:
        chat = client.ask("Chat", b"a", ends=False)
        nothing, some = client.ask("Echo", ends=False), client.ask("Echo", ends=False)
        client.h2.send_data(some, prefixed(b"a" * 100)[:50])
        client.send()
        for stream_id in (nothing, some):
            assert (await client.answer(stream_id))[:2] == ("4", "Nothing more of the request has come for long.")
        client.h2.end_stream(chat)
        client.send()
        assert await client.answer(chat) == ("0", "", prefixed(b"a"))
        await served.until(lambda: served.is_held(0))


async def test_open_streams_count_as_held_and_are_refused_when_there_is_no_room() -> None:
    async with world(max_held_bytes=20_000) as served, raw(served) as client:
        chats = [client.ask("Chat", b"a", ends=False) for _ in range(2)]
        while not all(client.bodies.get(stream_id) for stream_id in chats):
            await client.hear()
        for method in ("Chat", "Count"):
            status, message, _ = await client.answer(client.ask(method, b""))
            assert (status, message.split(" that ")[0]) == ("14", "The server holds requests of 16384 bytes")
        for stream_id in chats:
            client.h2.end_stream(stream_id)
        client.send()
        assert await client.answer(chats[0]) == ("0", "", prefixed(b"a"))
        await served.until(lambda: served.is_held(0))


async def test_calls_that_wait_for_their_request_count_as_held() -> None:
    async with world() as served, raw(served) as client:
        waiting = [client.ask("Echo", ends=False) for _ in range(3)]
        await served.until(lambda: served.is_held(3 * 1024))
        for stream_id in waiting:
            client.h2.send_data(stream_id, prefixed(b"a"), end_stream=True)
        client.send()
        for stream_id in waiting:
            assert await client.answer(stream_id) == ("0", "", prefixed(b"a"))
        assert served.is_held(0)


async def test_compressed_requests_count_as_held_while_they_wait() -> None:
    message = gzip.compress(b"a" * 1000)
    free = threading.Event()
    with ThreadPoolExecutor(1) as threads:
        asyncio.get_running_loop().set_default_executor(threads)
        async with world() as served, raw(served) as client:
            threads.submit(free.wait)
            try:
                stream_id = client.ask("Echo", ends=False, more=[("grpc-encoding", "gzip")])
                client.h2.send_data(stream_id, b"\1" + len(message).to_bytes(4) + message, end_stream=True)
                client.send()
                await served.until(lambda: served.is_held(len(message)))
            finally:
                free.set()
            assert await client.answer(stream_id) == ("0", "", prefixed(b"a" * 1000))
            await served.until(lambda: served.is_held(0))


async def test_a_client_that_does_not_say_hello_is_let_go() -> None:
    async with world(greet_timeout_s=0.0) as served:
        reader, writer = await asyncio.open_connection(HOST, served.port)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await reader.read()
        except ConnectionError:
            pass
        writer.close()


async def test_connections_beyond_the_bound_are_closed_and_there_is_room_again_when_others_go() -> None:
    async with world(max_connections=1) as served:
        async with raw(served) as first:
            assert (await first.answer(first.ask("Echo", b"")))[0] == "0"
            reader, writer = await asyncio.open_connection(HOST, served.port)
            assert await asyncio.wait_for(reader.read(), PATIENCE_S) == b""
            writer.close()
            assert (await first.answer(first.ask("Echo", b"")))[0] == "0"
        async with channel(served) as client:
            assert (
                await client.unary_unary("/a.Service/Echo", bytes, bytes)(b"a", wait_for_ready=True, timeout=PATIENCE_S) == b"a"
            )


async def test_a_silent_client_is_asked_whether_it_lives() -> None:
    async with world(silent_s=0.0) as served, raw(served) as client:
        while client.pings < 2:
            await client.hear()
        assert (await client.answer(client.ask("Echo", b"")))[0] == "0"


async def test_a_client_that_does_not_answer_is_dead() -> None:
    async with world(silent_s=0.0, alive_timeout_s=0.0) as served:
        reader, writer = await asyncio.open_connection(HOST, served.port)
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0")
        try:
            async with asyncio.timeout(PATIENCE_S):
                while await reader.read(1000):
                    pass
        except ConnectionError:
            pass
        writer.close()


async def test_a_drain_answers_what_is_under_way_and_then_closes() -> None:
    async with world() as served, raw(served) as client, raw(served) as idle:
        await idle.answer(idle.ask("Echo", b""))
        stream_id = client.ask("Wait", b"a")
        await served.until(lambda: served.under_way == 1)
        stopping = asyncio.ensure_future(served.listener.stop(PATIENCE_S))
        await idle.until_closed()
        while len(client.goaways) < 1:
            await client.hear()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(HOST, served.port)
        served.gate.set()
        assert await client.answer(stream_id) == ("0", "", prefixed(b"a"))
        await client.until_closed()
        await asyncio.wait_for(stopping, PATIENCE_S)
        assert client.goaways[-1] == ErrorCode.NO_ERROR


async def test_a_drain_is_bounded() -> None:
    async with world() as served, raw(served) as client:
        stream_id = client.ask("Wait", b"a")
        await served.until(lambda: served.under_way == 1)
        await asyncio.wait_for(served.listener.stop(0.0), PATIENCE_S)
        assert await client.answer(stream_id) == ("14", "The server has stopped.", b"")
        assert served.cancelled == 1


async def test_a_connection_that_breaks_the_protocol_is_told_and_closed_and_its_calls_end() -> None:
    async with world() as served, raw(served) as client:
        client.ask("Wait", b"")
        await served.until(lambda: served.under_way == 1)
        client._writer.write(b"\0\0\4\x08\0\0\0\0\0\0\0\0\0")
        await client.until_closed()
        assert client.goaways == [ErrorCode.PROTOCOL_ERROR]
        await served.until(lambda: served.cancelled == 1)


async def test_a_client_that_never_agrees_on_tls_does_not_hold_up_the_end() -> None:
    own = CertificateAuthority().issue("server")
    async with world(ssl_config=SSLConfig(server_key=own.key, server_cert=own.cert), greet_timeout_s=1000.0) as served:
        reader, writer = await asyncio.open_connection(HOST, served.port)
        await asyncio.wait_for(served.listener.stop(0.0), PATIENCE_S)
        with suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), PATIENCE_S) == b""
        writer.close()


async def test_tls_without_http2_in_the_handshake_is_no_grpc() -> None:
    authority = CertificateAuthority()
    own = authority.issue("server")
    async with world(ssl_config=SSLConfig(server_key=own.key, server_cert=own.cert)) as served:
        context = ssl.create_default_context(cadata=authority.cert)
        context.check_hostname = False
        reader, writer = await asyncio.open_connection(HOST, served.port, ssl=context)
        assert await asyncio.wait_for(reader.read(), PATIENCE_S) == b""
        writer.close()
        credentials = grpc.ssl_channel_credentials(authority.cert.encode())
        async with grpc.aio.secure_channel(served.address, credentials, UNLIMITED) as client:
            message = b"a" * (3 * MEBIBYTE)
            assert await client.unary_unary("/a.Service/Echo", bytes, bytes)(message) == message
