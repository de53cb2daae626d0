from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from servables.frontend.http_listener import JSON_HEADERS, HttpLimits, HttpListener, HttpRequest, HttpResponse
from servables.frontend.refusal_pace import RefusalPace

PATIENCE_S = 30
LARGE_BYTES = 64 << 20
LIMITS = HttpLimits(max_body_bytes=1000, max_head_bytes=2000)


class Server:
    """A listener whose handler echoes; `/hold` waits until released, `/fail` fails, `/large` answers more than buffers hold.

    `/refuse` is refused.
    """

    def __init__(self, limits: HttpLimits) -> None:
        self.listener = HttpListener(self.handle, limits)
        self.requests: list[HttpRequest] = []
        self.cancelled = asyncio.Event()
        self.release = asyncio.Event()
        self._began = asyncio.Event()
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        self.port: int = sock.getsockname()[1]
        self._socket = sock

    async def start(self) -> None:
        await self.listener.start(self._socket)

    async def handle(self, request: HttpRequest) -> HttpResponse:
        self.requests.append(request)
        self._began.set()
        if request.target.startswith("/hold"):
            try:
                await self.release.wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        if request.target == "/fail":
            raise ValueError("a bug")
        if request.target == "/refuse":
            return HttpResponse(503, JSON_HEADERS, b"{}")
        if request.target == "/large":
            return HttpResponse(200, JSON_HEADERS, b"x" * LARGE_BYTES)
        echo = {"method": request.method, "target": request.target, "body": request.body.decode()}
        return HttpResponse(200, JSON_HEADERS, json.dumps(echo).encode())

    async def began(self, requests: int) -> None:
        while len(self.requests) < requests:
            self._began.clear()
            await asyncio.wait_for(self._began.wait(), PATIENCE_S)


class Answer:
    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def echo(self) -> dict[str, str]:
        echo: dict[str, str] = json.loads(self.body)
        return echo

    @property
    def error(self) -> str:
        return str(json.loads(self.body)["error"])


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    async def read(self, *, body: bool = True) -> Answer:
        head = await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), PATIENCE_S)
        status_line, *lines = head.decode().rstrip().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        size = int(headers.get("content-length", "0")) if body else 0
        return Answer(int(status_line.split()[1]), headers, await asyncio.wait_for(self._reader.readexactly(size), PATIENCE_S))

    async def ask(self, data: bytes) -> Answer:
        self.send(data)
        return await self.read()

    async def at_end(self) -> bool:
        return await asyncio.wait_for(self._reader.read(1), PATIENCE_S) == b""

    def close(self) -> None:
        self._writer.close()


class Clients:
    """Opens connections and closes them with the test."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._open: list[Client] = []

    async def connect(self) -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", self._server.port))
        self._open.append(client)
        return client

    def close(self) -> None:
        for client in self._open:
            client.close()


@contextlib.asynccontextmanager
async def serving(limits: HttpLimits) -> AsyncIterator[tuple[Server, Clients]]:
    server = Server(limits)
    await server.start()
    clients = Clients(server)
    yield server, clients
    server.release.set()
    clients.close()
    await server.listener.stop(1.0)


@pytest_asyncio.fixture
async def world() -> AsyncIterator[tuple[Server, Clients]]:
    async with serving(LIMITS) as world:
        yield world


World = tuple[Server, Clients]


def get(target: str, *headers: str, version: str = "1.1", method: str = "GET") -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/{version}", "Host: test", *headers, "", ""]).encode()


def post(target: str, body: bytes, *headers: str) -> bytes:
    return get(target, f"Content-Length: {len(body)}", *headers, method="POST") + body


async def test_answers_with_the_headers_that_clients_need(world: World) -> None:
    client = await world[1].connect()
    answer = await client.ask(post("/a?b=c", b"text"))
    assert answer.status == 200
    assert answer.echo == {"method": "POST", "target": "/a?b=c", "body": "text"}
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["date"].endswith("GMT")
    assert "connection" not in answer.headers


async def test_header_names_are_lower_case_and_repeated_ones_joined(world: World) -> None:
    client = await world[1].connect()
    await client.ask(get("/", "X-One: 1", "Accept: a", "ACCEPT: b"))
    assert world[0].requests[0].headers == {b"host": b"test", b"x-one": b"1", b"accept": b"a, b"}


async def test_a_connection_is_kept_for_further_requests(world: World) -> None:
    client = await world[1].connect()
    for target in ("/a", "/b", "/c"):
        assert (await client.ask(get(target))).echo["target"] == target


async def test_pipelined_requests_are_answered_in_order_one_at_a_time(world: World) -> None:
    server, clients = world
    client = await clients.connect()
    client.send(get("/hold") + post("/b", b"body") + get("/c"))
    await server.began(1)
    await asyncio.sleep(0)
    assert len(server.requests) == 1
    assert server.listener.in_flight == 3
    server.release.set()
    assert [(await client.read()).echo["target"] for _ in range(3)] == ["/hold", "/b", "/c"]
    assert server.listener.in_flight == 0


async def test_many_pipelined_requests_are_all_answered(world: World) -> None:
    client = await world[1].connect()
    client.send(b"".join(get(f"/{number}") for number in range(2000)))
    assert [(await client.read()).echo["target"] for _ in range(2000)] == [f"/{number}" for number in range(2000)]


async def test_a_request_may_arrive_byte_by_byte(world: World) -> None:
    client = await world[1].connect()
    for byte in post("/slow", b"body"):
        client.send(bytes([byte]))
        await asyncio.sleep(0)
    assert (await client.read()).echo == {"method": "POST", "target": "/slow", "body": "body"}


async def test_chunked_bodies_are_put_together_and_trailers_ignored(world: World) -> None:
    client = await world[1].connect()
    head = get("/", "Transfer-Encoding: chunked", method="POST")
    answer = await client.ask(head + b"3\r\nabc\r\n4;extension=1\r\ndefg\r\n0\r\nX-Trailer: 1\r\n\r\n")
    assert answer.echo["body"] == "abcdefg"
    assert b"x-trailer" not in world[0].requests[0].headers


async def test_100_continue_is_sent_before_the_body_comes(world: World) -> None:
    client = await world[1].connect()
    client.send(get("/", "Content-Length: 4", "Expect: 100-continue", method="POST"))
    assert (await client.read()).status == 100
    assert (await client.ask(b"body")).echo["body"] == "body"


async def test_100_continue_waits_for_the_answers_before_it(world: World) -> None:
    server, clients = world
    client = await clients.connect()
    client.send(get("/hold") + get("/b", "Content-Length: 4", "Expect: 100-continue", method="POST"))
    await server.began(1)
    server.release.set()
    assert (await client.read()).echo["target"] == "/hold"
    assert (await client.read()).status == 100
    assert (await client.ask(b"body")).echo["target"] == "/b"


async def test_a_body_that_will_be_too_large_is_refused_before_it_is_sent(world: World) -> None:
    client = await world[1].connect()
    answer = await client.ask(get("/", "Content-Length: 1001", "Expect: 100-continue", method="POST"))
    assert answer.status == 413
    assert answer.error == "The request's body is larger than 1000 bytes."
    assert answer.headers["connection"] == "close"
    assert await client.at_end()
    assert world[0].requests == []


async def test_a_client_that_sends_a_refused_body_still_gets_the_answer(world: World) -> None:
    client = await world[1].connect()
    client.send(get("/", f"Content-Length: {LARGE_BYTES}", method="POST"))
    client.send(b"x" * (1 << 20))
    assert (await client.read()).status == 413
    assert await client.at_end()


async def test_a_chunked_body_is_refused_when_it_becomes_too_large(world: World) -> None:
    client = await world[1].connect()
    chunk = b"258\r\n" + b"x" * 600 + b"\r\n"
    answer = await client.ask(get("/", "Transfer-Encoding: chunked", method="POST") + chunk + chunk)
    assert answer.status == 413
    assert world[0].requests == []


async def test_a_body_at_the_limit_is_taken(world: World) -> None:
    client = await world[1].connect()
    assert (await client.ask(post("/", b"x" * 1000))).status == 200


@pytest.mark.parametrize(
    "head",
    [
        get("/", *(f"X-{number}: {'x' * 50}" for number in range(50))),
        get("/" + "x" * 3000),
        b"GET / HTTP/1.1\r\nX-Endless: " + b"x" * 3000,
    ],
    ids=["many headers", "long target", "header that never ends"],
)
async def test_a_head_that_is_too_large_is_refused(world: World, head: bytes) -> None:
    client = await world[1].connect()
    for start in range(0, len(head), 500):
        client.send(head[start : start + 500])
        await asyncio.sleep(0)
    answer = await client.read()
    assert answer.status == 431
    assert answer.error == "The request's head is larger than 2000 bytes."
    assert await client.at_end()


@pytest.mark.parametrize(
    "message",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nNo colon\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    ],
)
async def test_what_is_not_http_is_a_bad_request(world: World, message: bytes) -> None:
    client = await world[1].connect()
    answer = await client.ask(message)
    assert answer.status == 400
    assert answer.error.startswith("Malformed HTTP request: ")
    assert await client.at_end()
    assert world[0].requests == []


async def test_requests_before_a_malformed_one_are_answered_first(world: World) -> None:
    server, clients = world
    client = await clients.connect()
    client.send(get("/hold") + b"nonsense\r\n\r\n")
    await server.began(1)
    server.release.set()
    assert (await client.read()).echo["target"] == "/hold"
    assert (await client.read()).status == 400
    assert await client.at_end()


async def test_the_answer_to_head_has_the_length_but_not_the_body(world: World) -> None:
    client = await world[1].connect()
    client.send(get("/", method="HEAD"))
    head = await client.read(body=False)
    assert int(head.headers["content-length"]) > 0
    assert (await client.ask(get("/next"))).echo["target"] == "/next"


async def test_connection_close_ends_the_connection_after_the_answer(world: World) -> None:
    client = await world[1].connect()
    answer = await client.ask(get("/", "Connection: close"))
    assert answer.headers["connection"] == "close"
    assert await client.at_end()


async def test_http_1_0_closes_unless_the_client_asks_to_keep_the_connection(world: World) -> None:
    client = await world[1].connect()
    answer = await client.ask(get("/", "Connection: keep-alive", version="1.0"))
    assert answer.headers["connection"] == "keep-alive"
    answer = await client.ask(get("/", version="1.0"))
    assert answer.headers["connection"] == "close"
    assert await client.at_end()


async def test_an_upgrade_is_ignored(world: World) -> None:
    client = await world[1].connect()
    upgrade = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA")
    assert (await client.ask(get("/a", *upgrade))).echo["target"] == "/a"
    assert (await client.ask(post("/b", b"body", *upgrade))).echo["body"] == "body"
    client.send(get("/c", *upgrade) + get("/d"))
    assert [(await client.read()).echo["target"] for _ in range(2)] == ["/c", "/d"]


async def test_connect_is_refused(world: World) -> None:
    client = await world[1].connect()
    assert (await client.ask(get("example.com:443", method="CONNECT"))).status == 400
    assert await client.at_end()


async def test_a_handler_that_fails_is_an_internal_error_and_the_connection_goes_on(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    client = await world[1].connect()
    answer = await client.ask(get("/fail"))
    assert answer.status == 500
    assert "a bug" not in answer.error
    assert "a bug" in caplog.text
    assert (await client.ask(get("/a"))).status == 200


async def test_a_client_that_disconnects_cancels_its_request(world: World) -> None:
    server, clients = world
    client = await clients.connect()
    client.send(get("/hold"))
    await server.began(1)
    client.close()
    await asyncio.wait_for(server.cancelled.wait(), PATIENCE_S)
    assert server.listener.in_flight == 0


async def test_a_client_that_does_not_read_is_not_served_further(world: World) -> None:
    server, clients = world
    client = await clients.connect()
    client.send(get("/large") + get("/b"))
    await server.began(1)
    other = await clients.connect()
    await other.ask(get("/c"))
    assert [request.target for request in server.requests] == ["/large", "/c"]
    assert len((await client.read()).body) == LARGE_BYTES
    assert (await client.read()).echo["target"] == "/b"


@pytest.mark.parametrize("begun", [b"", b"GET / HTT", get("/", "Content-Length: 4", method="POST") + b"ab"])
async def test_a_connection_that_stays_silent_is_closed(begun: bytes) -> None:
    async with serving(HttpLimits(idle_timeout_s=0.01)) as (_, clients):
        client = await clients.connect()
        client.send(begun)
        assert await client.at_end()


async def test_a_request_that_is_being_answered_is_not_silence() -> None:
    async with serving(HttpLimits(idle_timeout_s=0.01)) as (server, clients):
        held, silent = await clients.connect(), await clients.connect()
        held.send(get("/hold"))
        await server.began(1)
        assert await silent.at_end()
        server.release.set()
        assert (await held.read()).status == 200


async def test_a_head_that_trickles_in_is_cut_off() -> None:
    async with serving(HttpLimits(head_timeout_s=0.01)) as (_, clients):
        client = await clients.connect()
        client.send(b"GET / HTTP/1.1\r\n")
        trickle = asyncio.ensure_future(_trickle(client))
        assert await client.at_end()
        trickle.cancel()


async def _trickle(client: Client) -> None:
    while True:
        client.send(b"X-A: b\r\n")
        await asyncio.sleep(0.05)


async def test_bodies_that_together_are_too_large_are_refused_until_others_are_answered() -> None:
    async with serving(HttpLimits(max_held_body_bytes=1000)) as (server, clients):
        held, refused, later = [await clients.connect() for _ in range(3)]
        held.send(post("/hold", b"x" * 600))
        await server.began(1)
        refusal = await refused.ask(post("/", b"y" * 600))
        assert (refusal.status, refusal.headers["retry-after"]) == (503, "1")
        assert "600 bytes" in refusal.error
        assert "the limit is 1000" in refusal.error
        assert await refused.at_end()
        server.release.set()
        assert (await held.read()).status == 200
        assert (await later.ask(post("/", b"z" * 600))).echo["body"] == "z" * 600
        assert server.listener.held_body_bytes == 0


async def test_a_body_without_room_is_refused_before_it_is_sent() -> None:
    async with serving(HttpLimits(max_held_body_bytes=1000)) as (server, clients):
        held, refused = await clients.connect(), await clients.connect()
        held.send(post("/hold", b"x" * 600))
        await server.began(1)
        assert (await refused.ask(get("/", "Content-Length: 600", method="POST"))).status == 503


async def test_a_chunked_body_is_refused_when_there_is_no_more_room() -> None:
    async with serving(HttpLimits(max_held_body_bytes=1000)) as (server, clients):
        held, refused = await clients.connect(), await clients.connect()
        held.send(post("/hold", b"x" * 600))
        await server.began(1)
        refused.send(get("/", "Transfer-Encoding: chunked", method="POST") + b"190\r\n" + b"y" * 400 + b"\r\n")
        refused.send(b"1\r\ny\r\n0\r\n\r\n")
        assert (await refused.read()).status == 503
        assert server.listener.held_body_bytes == 600


async def test_the_only_body_may_take_more_than_the_room_for_all() -> None:
    async with serving(HttpLimits(max_held_body_bytes=1000)) as (_, clients):
        assert (await (await clients.connect()).ask(post("/", b"x" * 5000))).status == 200


async def test_a_body_whose_client_has_gone_takes_no_room() -> None:
    async with serving(HttpLimits(max_held_body_bytes=1000)) as (server, clients):
        gone, other = await clients.connect(), await clients.connect()
        gone.send(post("/hold", b"x" * 600))
        await server.began(1)
        gone.close()
        await asyncio.wait_for(server.cancelled.wait(), PATIENCE_S)
        assert (await other.ask(post("/", b"y" * 600))).status == 200


async def test_a_client_that_is_refused_too_often_is_heard_after_the_others(world: World) -> None:
    server, clients = world
    server.listener.refusal_pace = RefusalPace(refusals_per_s=1e-3, longest_pause_s=3600.0)
    hasty, other = await clients.connect(), await clients.connect()
    assert [(await hasty.ask(get("/refuse"))).status for _ in range(2)] == [503, 503]
    hasty.send(get("/refuse"))
    assert (await other.ask(get("/"))).status == 200
    assert [request.target for request in server.requests] == ["/refuse", "/refuse", "/"]
    stopping = asyncio.ensure_future(server.listener.stop(PATIENCE_S))
    assert (await hasty.read()).status == 503  # a server that stops leaves nobody without an answer
    hasty.close()
    other.close()
    await stopping


async def test_stop_finishes_what_is_under_way_and_says_that_it_closes(world: World) -> None:
    server, clients = world
    client = await clients.connect()
    client.send(get("/hold"))
    await server.began(1)
    stopping = asyncio.ensure_future(server.listener.stop(PATIENCE_S))
    await asyncio.sleep(0)
    with pytest.raises(ConnectionRefusedError):
        await clients.connect()
    server.release.set()
    answer = await client.read()
    assert answer.status == 200
    assert answer.headers["connection"] == "close"
    assert await client.at_end()
    await stopping


async def test_stop_answers_all_pipelined_requests(world: World) -> None:
    server, clients = world
    client = await clients.connect()
    client.send(get("/hold") + get("/b"))
    await server.began(1)
    stopping = asyncio.ensure_future(server.listener.stop(PATIENCE_S))
    await asyncio.sleep(0)
    server.release.set()
    assert "connection" not in (await client.read()).headers
    assert (await client.read()).headers["connection"] == "close"
    assert await client.at_end()
    await stopping


async def test_stop_serves_the_connections_that_nobody_has_accepted_yet(world: World) -> None:
    server, _ = world
    queued = []
    for number in range(40):
        # Blocking calls: the event loop accepts none of them before `stop` begins.
        connection = socket.create_connection(("127.0.0.1", server.port))
        connection.sendall(get(f"/{number}"))
        queued.append(connection)
    await server.listener.stop(PATIENCE_S)
    for number, connection in enumerate(queued):
        with connection, connection.makefile("rb") as answer:
            text = answer.read()
            assert text.startswith(b"HTTP/1.1 200 OK"), text
            assert f'"/{number}"'.encode() in text


async def test_stop_closes_idle_connections(world: World) -> None:
    server, clients = world
    client = await clients.connect()
    await client.ask(get("/"))
    await server.listener.stop(PATIENCE_S)
    assert await client.at_end()


async def test_stop_is_bounded(world: World) -> None:
    server, clients = world
    client = await clients.connect()
    client.send(get("/hold"))
    await server.began(1)
    await server.listener.stop(0.05)
    await asyncio.wait_for(server.cancelled.wait(), PATIENCE_S)
    with contextlib.suppress(ConnectionResetError):
        assert await client.at_end()
