"""Bytes that no client should send: whatever comes, the listener answers or hangs up, and nothing of it stays."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import gzip
import logging
import random
import resource
import socket
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from servables.frontend.http_listener import JSON_HEADERS, HttpLimits, HttpListener, HttpRequest, HttpResponse
from tests.fakes.scripted_http_messages import answers_in, chunked, get, post

PATIENCE_S = 30
LIMITS = HttpLimits(max_body_bytes=1 << 20, max_head_bytes=4096)
SEEDS = range(6)
CONNECTIONS_PER_SEED = 150
GROWTH_BYTES = 24 << 20

MESSAGES = (
    get("/v1/models/m"),
    get("/v1/models/m", "Connection: close"),
    get("/v1/models/m", version="1.0"),
    get("/v1/models/m", method="HEAD"),
    get("/v1/models/m", "Origin: http://x", method="OPTIONS"),
    get("http://host/v1/models/m"),
    get("/v1/models/m", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMA"),
    post("/v1/models/m:predict", b'{"instances": [1.0, 2.0]}'),
    post("/v1/models/m:predict", b'{"instances": [1.0]}', "Expect: 100-continue"),
    post("/v1/models/m:predict", gzip.compress(b'{"instances": [1.0]}'), "Content-Encoding: gzip"),
    post("/v1/models/m:predict", b"{}", "Connection: upgrade", "Upgrade: websocket"),
    chunked("/v1/models/m:predict", b'{"inst', b'ances": [1.0]}', trailers=("X-Trailer: 1",)),
)
FRAGMENTS = (
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b"\0",
    b"\xff\xfe",
    b" ",
    b"\t",
    b":",
    b"HTTP/1.1",
    b"HTTP/2.0",
    b"HTTP/0.9",
    b"CONNECT a:1 HTTP/1.1\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: -1\r\n",
    b"Content-Length: +5\r\n",
    b"Content-Length: 0x5\r\n",
    b"Content-Length: 5, 5\r\n",
    b"Content-Length: 99999999999999999999999\r\n",
    b"Content-Length:\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding : chunked\r\n",
    b"Transfer-Encoding: xchunked\r\n",
    b"Transfer-Encoding: chunked, identity\r\n",
    b"transfer-encoding:\tchunked\r\n",
    b"Connection: upgrade\r\nUpgrade: x\r\n",
    b"Connection: close\r\n",
    b"Expect: 100-continue\r\n",
    b"X: a\r\n b\r\n",
    b"0\r\n\r\n",
    b"ffffffffffffffff\r\n",
    b"5;" + b"x" * 5000 + b"\r\n",
    b"X: " + b"y" * 5000,
    b"a" * 5000,
)
# Framing that two servers may read in two ways; what comes after it is a request in one of them.
AMBIGUOUS_HEADERS = (
    ("Content-Length: 0", "Transfer-Encoding: chunked"),
    ("Transfer-Encoding: chunked", "Content-Length: 5"),
    ("Content-Length: 0", "Content-Length: 5"),
    ("Content-Length: 5", "Content-Length: 0"),
    ("Content-Length: 5", "Content-Length: 5"),
    ("Content-Length: 0, 5",),
    ("Content-Length: +5",),
    ("Content-Length: -5",),
    ("Content-Length: 0x5",),
    ("Content-Length: 5 5",),
    ("Content-Length:",),
    ("Content-Length: 18446744073709551621",),
    ("Content-Length : 5",),
    ("Transfer-Encoding : chunked",),
    ("Transfer-Encoding: xchunked",),
    ("Transfer-Encoding: chunked, identity",),
    ("Transfer-Encoding: chunked", "Transfer-Encoding: identity"),
    ("Transfer-Encoding: identity",),
    ("X: y\rContent-Length: 5",),
    ("X: y\0",),
)


class World:
    """A listener whose handler remembers the targets that it was asked for, and echoes the body."""

    def __init__(self) -> None:
        self.targets: list[str] = []
        self.listener = HttpListener(self.handle, LIMITS)
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]

    async def start(self) -> None:
        await self.listener.start(self._socket)

    async def handle(self, request: HttpRequest) -> HttpResponse:
        self.targets.append(request.target)
        await asyncio.sleep(0)
        return HttpResponse(200, JSON_HEADERS, request.body)

    async def exchange(self, pieces: Sequence[bytes]) -> bytes:
        """Sends the pieces and then the end; what comes back of it, for who ends early has gone."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        answers = b""
        # The listener may hang up in the middle.
        with contextlib.suppress(OSError):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
            writer.write_eof()
            answers = await asyncio.wait_for(reader.read(), PATIENCE_S)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return answers

    async def ask(self, message: bytes) -> bytes:
        """The status line of the answer."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(message)
        answer = await asyncio.wait_for(reader.read(), PATIENCE_S)
        writer.close()
        return answer.partition(b"\r\n")[0]


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[World]:
    world = World()
    await world.start()
    try:
        yield world
    finally:
        await asyncio.wait_for(world.listener.stop(1.0), PATIENCE_S)


def mutated(rng: random.Random) -> bytes:
    stream = bytearray(b"".join(rng.choices(MESSAGES, k=rng.randint(1, 4))))
    for _ in range(rng.choice((0, 1, 1, 2, 3, 8))):
        at = rng.randrange(len(stream) + 1)
        match rng.randrange(6):
            case 0:
                stream[at : at + 1] = rng.randbytes(1)
            case 1:
                del stream[at : at + rng.randint(1, 20)]
            case 2:
                stream[at:at] = stream[at : at + rng.randint(1, 60)]
            case 3:
                stream[at:at] = rng.choice(FRAGMENTS)
            case 4:
                line = stream.find(b"\r\n", at)
                at = line + 2 if line >= 0 else at
                stream[at:at] = rng.choice(FRAGMENTS)
            case 5:
                del stream[at:]
    return bytes(stream)


def split(rng: random.Random, stream: bytes) -> list[bytes]:
    cuts = sorted(rng.randrange(len(stream) + 1) for _ in range(rng.choice((0, 0, 1, 3, 10))))
    return [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]


def resident_bytes() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.mark.parametrize("seed", SEEDS)
async def test_any_bytes_are_answered_or_refused(seed: int, caplog: pytest.LogCaptureFixture) -> None:
    rng = random.Random(seed)
    before = 0
    async with serving() as world:
        for number in range(CONNECTIONS_PER_SEED):
            stream = mutated(rng)
            for answer in answers_in(await world.exchange(split(rng, stream))):
                assert answer.status in (100, 200, 400, 413, 431), (stream, answer)
            if number == CONNECTIONS_PER_SEED // 3:
                before = resident_bytes()
        assert await world.ask(get("/", "Connection: close")) == b"HTTP/1.1 200 OK"
        assert resident_bytes() - before < GROWTH_BYTES
    assert world.listener.in_flight == 0
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize("seed", SEEDS)
async def test_however_requests_are_cut_up_they_are_read_alike(seed: int) -> None:
    rng = random.Random(seed)
    async with serving() as world:
        for _ in range(30):
            bodies = [rng.randbytes(rng.choice((0, 1, 300, 20_000))) for _ in range(rng.randint(1, 6))]
            *first, last = bodies
            requests = [post("/", body) if rng.random() < 0.5 else chunked("/", *split(rng, body)) for body in first]
            requests.append(post("/", last, "Connection: close"))
            reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
            for piece in split(rng, b"".join(requests)):
                writer.write(piece)
                await asyncio.sleep(0)
            answers = answers_in(await asyncio.wait_for(reader.read(), PATIENCE_S))
            writer.close()
            assert [(answer.status, answer.body) for answer in answers] == [(200, body) for body in bodies]


@pytest.mark.parametrize("headers", AMBIGUOUS_HEADERS, ids=" | ".join)
async def test_ambiguous_framing_is_refused(headers: Sequence[str]) -> None:
    async with serving() as world:
        reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
        writer.write(get("/outer", *headers, method="POST") + b"0\r\n\r\n" + get("/smuggled"))
        answers = answers_in(await asyncio.wait_for(reader.read(), PATIENCE_S))
        writer.close()
        assert [answer.status for answer in answers] == [400]
        assert world.targets == []
