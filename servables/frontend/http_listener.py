"""An HTTP/1.1 server for one handler: bytes in, bytes out, nothing of a framework between.

    listener = HttpListener(handle)      handle: HttpRequest -> HttpResponse
    await listener.start(sock)           a bound socket; listens from now on
    await listener.stop(timeout_s)       drains

Requests of one connection are answered in order, one at a time; a client that disconnects cancels its request. Parsing
is llhttp's (httptools). Written for many small requests: no object per header line, one task per request, one write.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Any, NamedTuple, cast

import httptools

from servables.frontend.acceptor import Acceptor
from servables.frontend.refusal_pace import RefusalPace

logger = logging.getLogger(__name__)

Headers = tuple[tuple[bytes, bytes], ...]

JSON_HEADERS: Headers = ((b"Content-Type", b"application/json"),)
TRY_LATER_HEADERS: Headers = (*JSON_HEADERS, (b"Retry-After", b"1"))

_LINGER_S = 2.0
_QUIET_BEFORE_CLOSE_S = 0.5
_TICK_S = 1.0
_JOIN_BELOW_BYTES = 1 << 16
# A body of many small chunks is put together by the run, or each piece would cost many times its size.
_RUN_PIECES = 1024
_GO_ON = b"\r\n"
_KEEP_ALIVE = b"Connection: keep-alive\r\n\r\n"
_CLOSE = b"Connection: close\r\n\r\n"
_TRY_LATER = (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS)
_REASONS = {499: "Client Closed Request", **{status.value: status.phrase for status in HTTPStatus}}


class HttpRequest(NamedTuple):
    """A whole request. `target` is as sent; `headers` have lower-case names, repeated ones joined by a comma.

    `peer` is the client's address with its port.
    """

    method: str
    target: str
    headers: dict[bytes, bytes]
    body: bytes
    peer: str = ""


class HttpResponse(NamedTuple):
    """A whole answer. Content-Length, Date and Connection are the listener's business."""

    status: int
    headers: Headers
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpLimits:
    """What one connection may ask for. `idle_timeout_s` is how long it may stay silent, inside a request too.

    `max_held_body_bytes` is what the bodies of all connections may take, from their arrival until they are answered; a body is
    always taken when no other is held.
    """

    max_body_bytes: int = (1 << 31) - 1
    max_held_body_bytes: int = 1 << 30
    max_head_bytes: int = 1 << 16
    idle_timeout_s: float = 75.0
    head_timeout_s: float = 60.0
    backlog: int = 2048


HttpHandler = Callable[[HttpRequest], Awaitable[HttpResponse]]


class HttpListener:
    """Serves one listening socket. All methods belong to one event loop."""

    def __init__(self, handler: HttpHandler, limits: HttpLimits | None = None) -> None:
        self.handler = handler
        self.limits = limits or HttpLimits()
        self.draining = False
        self.date_header = _date_header()
        self.in_flight = 0
        """Requests that arrived whole and have no answer yet."""
        self.held_body_bytes = 0
        self.refusal_pace = RefusalPace()
        self._connections: set[_HttpConnection] = set()
        self._all_closed: asyncio.Future[None] | None = None
        self._acceptor: Acceptor | None = None
        self._tick_timer: asyncio.TimerHandle | None = None

    async def start(self, sock: socket.socket) -> None:
        """Listens on `sock`, which is bound and now belongs to the listener."""
        self._acceptor = Acceptor(sock, self._connection)
        self._acceptor.start(self.limits.backlog)
        self._tick_timer = asyncio.get_running_loop().call_later(_TICK_S, self._tick)

    async def stop(self, timeout_s: float) -> None:
        """Accepts no more, answers what has arrived (with `Connection: close`), and ends within `timeout_s`.

        A connection without a request is given a moment: what its client has just sent may still be on the way.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        self.draining = True
        if self._acceptor is not None:
            await self._acceptor.stop()
            self._acceptor = None
        for connection in list(self._connections):
            connection.hear()
        await self._wait_until_closed(min(_QUIET_BEFORE_CLOSE_S, timeout_s))
        for connection in list(self._connections):
            connection.close_if_idle()
        await self._wait_until_closed(deadline - loop.time())
        for connection in list(self._connections):
            connection.abort()
        await self._wait_until_closed(_TICK_S)
        if self._tick_timer is not None:
            self._tick_timer.cancel()

    def opened(self, connection: _HttpConnection) -> None:
        self._connections.add(connection)

    def closed(self, connection: _HttpConnection) -> None:
        self._connections.discard(connection)
        if not self._connections and self._all_closed is not None and not self._all_closed.done():
            self._all_closed.set_result(None)

    def _connection(self) -> _HttpConnection:
        return _HttpConnection(self, asyncio.get_running_loop())

    async def _wait_until_closed(self, timeout_s: float) -> None:
        if self._connections and timeout_s > 0:
            self._all_closed = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._all_closed], timeout=timeout_s)

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        self.date_header = _date_header()
        now = loop.time()
        for connection in list(self._connections):
            connection.check_timeouts(now)
        self._tick_timer = loop.call_later(_TICK_S, self._tick)


class _Refused(Exception):
    """Stops the parser: the answer to this message is known before its end."""


class _HttpConnection(asyncio.Protocol):
    """One connection: parses messages, runs the handler for one at a time, writes the answers in order."""

    _headers: dict[bytes, bytes]
    _target: bytes
    _body: list[bytes]
    _refusal: HttpResponse | None

    def __init__(self, listener: HttpListener, loop: asyncio.AbstractEventLoop) -> None:
        self._listener = listener
        self._limits = listener.limits
        self._loop = loop
        self._transport: asyncio.Transport
        self._peer = ""
        self._parser = httptools.HttpRequestParser(self)
        # Whole messages that wait their turn, each with its answer's Connection header; or the last answer itself.
        self._queue: deque[tuple[HttpRequest, bytes] | HttpResponse] = deque()
        self._task: asyncio.Task[None] | None = None
        self._counted = 0
        self._held_body_bytes = 0
        self._deaf = False
        self._linger_until: float | None = None
        self._active_at = loop.time()
        self._reading_paused = False
        self._held = False
        self._writable = True
        self._unwritten_bytes = 0
        # Fed to the parser since it last went on to another part. A header, a trailer or a chunk extension that never ends
        # is never reported, and held by the parser meanwhile.
        self._unreported_bytes = 0
        self._continue_due = False
        self._begin_message()
        self._in_message = False

    # The transport's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._peer = _address(transport.get_extra_info("peername"))
        self._listener.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._deaf = True
        self._queue.clear()
        if self._task is not None:
            self._task.cancel()
        self._listener.in_flight -= self._counted
        self._counted = 0
        self._let_go_of_body(self._held_body_bytes)
        self._listener.closed(self)

    def data_received(self, data: bytes) -> None:
        self._active_at = self._loop.time()
        if self._deaf:
            return
        self._unreported_bytes += len(data)
        self._feed(data)
        if self._unreported_bytes > self._limits.max_head_bytes and not self._deaf:
            self._refuse(self._head_too_large())

    def eof_received(self) -> None:
        """A client that closes its side has gone, as every HTTP server takes it; the transport closes itself."""

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        self._active_at = self._loop.time()
        self._proceed()

    # The listener's side.

    def close_if_idle(self) -> None:
        if self._task is None and not self._queue and not self._in_message:
            self._transport.close()

    def hear(self) -> None:
        """Reads on if it was held after a refusal."""
        if self._held:
            self._held = False
            self._proceed()

    def abort(self) -> None:
        self._transport.abort()

    def check_timeouts(self, now: float) -> None:
        if self._linger_until is not None:
            if now > self._linger_until:
                self._transport.abort()
        elif not self._writable:
            unwritten_bytes = self._transport.get_write_buffer_size()
            if unwritten_bytes != self._unwritten_bytes:
                self._unwritten_bytes, self._active_at = unwritten_bytes, now
            elif now - self._active_at > self._limits.idle_timeout_s:
                self._transport.abort()
        elif self._task is None and not self._queue:
            slow_head = self._in_message and not self._head_complete and now - self._began_at > self._limits.head_timeout_s
            if slow_head or now - self._active_at > self._limits.idle_timeout_s:
                self._transport.close()

    # The parser's side; httptools calls these by name.

    def on_message_begin(self) -> None:
        self._begin_message()

    def on_url(self, url: bytes) -> None:
        self._target += url
        self._count_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count_head(len(name) + len(value) + 4)
        if self._head_complete:
            return  # A trailer of a chunked body.
        key = name.lower()
        held = self._headers.get(key)
        self._headers[key] = value if held is None else held + b", " + value

    def on_headers_complete(self) -> None:
        if self._parser.should_upgrade():
            return  # `_feed` will begin this message again.
        self._head_complete = True
        self._unreported_bytes = 0
        declared = self._headers.get(b"content-length")
        if declared is not None:
            declared_bytes = int(declared)
            if declared_bytes > self._limits.max_body_bytes:
                self._stop_parser(self._body_too_large())
            self._check_room(declared_bytes)
        if self._headers.get(b"expect", b"").lower() == b"100-continue" and self._parser.get_http_version() == "1.1":
            self._continue_due = True
            self._proceed()

    def on_body(self, body: bytes) -> None:
        self._unreported_bytes = 0
        self._body_bytes += len(body)
        if self._body_bytes > self._limits.max_body_bytes:
            self._stop_parser(self._body_too_large())
        self._held_body_bytes += len(body)
        self._listener.held_body_bytes += len(body)
        self._check_room(0)
        self._body.append(body)
        if len(self._body) - self._joined_runs == _RUN_PIECES:
            run = b"".join(self._body[self._joined_runs :])
            self._body[self._joined_runs :] = [run]
            self._joined_runs += 1

    def on_message_complete(self) -> None:
        if self._parser.should_upgrade():
            return
        self._in_message = False
        self._unreported_bytes = 0
        self._continue_due = False
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        method = self._parser.get_method().decode("latin-1")
        request = HttpRequest(method, self._target.decode("latin-1"), self._headers, body, self._peer)
        self._body, self._body_bytes = [], 0
        if not self._parser.should_keep_alive():
            connection, self._deaf = _CLOSE, True
        elif self._parser.get_http_version() == "1.0":
            connection = _KEEP_ALIVE
        else:
            connection = _GO_ON
        self._queue.append((request, connection))
        self._counted += 1
        self._listener.in_flight += 1
        self._proceed()

    # Messages in.

    def _begin_message(self) -> None:
        self._in_message = True
        self._began_at = self._active_at
        self._head_complete = False
        self._unreported_bytes = 0
        self._head_bytes = 0
        self._body_bytes = 0
        self._target = b""
        self._headers = {}
        self._body = []
        self._joined_runs = 0

    def _feed(self, data: bytes) -> None:
        self._refusal = None
        rest: bytes | memoryview = data
        try:
            while not self._deaf:
                try:
                    self._parser.feed_data(rest)
                    break
                except httptools.HttpParserUpgrade as upgrade:
                    rest = memoryview(rest)[upgrade.args[0] :]
                    self._decline_upgrade()
        except httptools.HttpParserError as error:
            if self._deaf:
                return
            self._refuse(self._refusal or _refusal(400, f"Malformed HTTP request: {error}"))
        if self._queue and not self._deaf:
            self._pause_reading()

    def _decline_upgrade(self) -> None:
        """Begins the message again as if it had not asked: the parser skips the body of one that asks."""
        method = self._parser.get_method()
        if method == b"CONNECT":
            self._refuse(_refusal(400, "CONNECT is not supported: this is no proxy."))
            return
        version = self._parser.get_http_version().encode()
        wishes = self._headers.pop(b"connection").lower().split(b",")
        headers = [(name, value) for name, value in self._headers.items() if name != b"upgrade"]
        headers += [(b"connection", wish) for wish in map(bytes.strip, wishes) if wish in (b"close", b"keep-alive")]
        head = b"%b %b HTTP/%b\r\n%b\r\n" % (method, self._target, version, b"".join(b"%b: %b\r\n" % pair for pair in headers))
        self._parser = httptools.HttpRequestParser(self)
        self._parser.feed_data(head)

    def _count_head(self, size_bytes: int) -> None:
        self._head_bytes += size_bytes
        if self._head_bytes > self._limits.max_head_bytes:
            self._stop_parser(self._head_too_large())

    def _stop_parser(self, refusal: HttpResponse) -> None:
        self._refusal = refusal
        raise _Refused

    def _head_too_large(self) -> HttpResponse:
        return _refusal(431, f"The request's head is larger than {self._limits.max_head_bytes} bytes.")

    def _body_too_large(self) -> HttpResponse:
        return _refusal(413, f"The request's body is larger than {self._limits.max_body_bytes} bytes.")

    def _check_room(self, more_bytes: int) -> None:
        """Stops the parser when there is no room for `more_bytes` of this body; the only body held may be of any size."""
        held_bytes, limit = self._listener.held_body_bytes, self._limits.max_held_body_bytes
        if held_bytes + more_bytes > limit and held_bytes > self._held_body_bytes:
            self._stop_parser(
                _refusal(
                    503,
                    f"The server holds requests of {held_bytes} bytes that have no answer yet, the limit is {limit}. "
                    "Retry later with backoff.",
                    TRY_LATER_HEADERS,
                )
            )

    def _let_go_of_body(self, size_bytes: int) -> None:
        self._held_body_bytes -= size_bytes
        self._listener.held_body_bytes -= size_bytes

    def _refuse(self, refusal: HttpResponse) -> None:
        self._let_go_of_body(self._body_bytes)
        self._body, self._body_bytes = [], 0
        self._deaf = True
        self._continue_due = False
        self._queue.append(refusal)
        self._proceed()

    def _pause_reading(self) -> None:
        if not self._reading_paused:
            self._reading_paused = True
            self._transport.pause_reading()

    # Answers out.

    def _proceed(self) -> None:
        """Begins the next message's turn if the last one's is over and its answer is on its way."""
        if self._task is not None or self._held or not self._writable or self._transport.is_closing():
            return
        if not self._queue:
            if self._reading_paused:
                self._reading_paused = False
                self._transport.resume_reading()
            if self._continue_due:
                self._continue_due = False
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            return
        message = self._queue.popleft()
        if isinstance(message, HttpResponse):
            self._write(message, _CLOSE)
            self._hang_up(linger=True)
        else:
            self._task = self._loop.create_task(self._respond(*message))

    async def _respond(self, request: HttpRequest, connection: bytes) -> None:
        try:
            response = await self._listener.handler(request)
        except asyncio.CancelledError:
            self._transport.abort()
            raise
        except Exception:
            logger.exception("The handler of %s %s failed", request.method, request.target)
            response = _refusal(500, "Internal error; see the server's log.")
        self._task = None
        self._counted -= 1
        self._listener.in_flight -= 1
        self._let_go_of_body(len(request.body))
        self._active_at = self._loop.time()
        if self._listener.draining and not self._queue and not self._in_message:
            connection = _CLOSE
        self._write(response, connection, is_head=request.method == "HEAD")
        if connection is _CLOSE:
            self._hang_up(linger=False)
            return
        if response.status in _TRY_LATER:
            self._hold()
        self._proceed()

    def _hold(self) -> None:
        """Reads nothing more for as long as the pace of refusals says."""
        pause_s = self._listener.refusal_pace.pause_s(self._active_at)
        if pause_s > 0 and not self._listener.draining:
            self._held = True
            self._pause_reading()
            self._loop.call_later(pause_s, self.hear)

    def _write(self, response: HttpResponse, connection: bytes, *, is_head: bool = False) -> None:
        body = response.body
        head = b"%b%bContent-Length: %d\r\n%b" % (
            _status_and_headers(response.status, response.headers),
            self._listener.date_header,
            len(body),
            connection,
        )
        if is_head or not body:
            self._transport.write(head)
        elif len(body) < _JOIN_BELOW_BYTES:
            self._transport.write(head + body)
        else:
            self._transport.write(head)
            self._transport.write(body)

    def _hang_up(self, *, linger: bool) -> None:
        """Ends the answers. Lingering reads on for a while: closing on unread input would reset the answer on its way."""
        self._deaf = True
        if linger and self._transport.can_write_eof():
            if self._reading_paused:
                self._reading_paused = False
                self._transport.resume_reading()
            self._linger_until = self._loop.time() + _LINGER_S
            self._transport.write_eof()
        else:
            self._transport.close()


def _address(peername: Any) -> str:
    if not isinstance(peername, tuple):
        return ""
    host, port = peername[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _refusal(status: int, message: str, headers: Headers = JSON_HEADERS) -> HttpResponse:
    return HttpResponse(status, headers, json.dumps({"error": message}, indent=4).encode())


def _date_header() -> bytes:
    return f"Date: {formatdate(usegmt=True)}\r\n".encode()


@lru_cache(maxsize=256)
def _status_and_headers(status: int, headers: Headers) -> bytes:
    lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Unknown')}\r\n".encode()]
    lines += [b"%b: %b\r\n" % header for header in headers]
    return b"".join(lines)
