"""One client's connection to the gRPC port: calls of methods, from the events of HTTP/2 to its answers.

A call is a task. What calls answer in one turn of the event loop leaves the process in one write. While the client does not
read, nothing more is written; what it is owed counts as held, and a client that takes nothing for long is cut off.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from cluster.core.errors import AspiredError, Code
from servables.frontend.grpc_method import Failure, StreamStream, UnaryStream, UnaryUnary, failure
from servables.frontend.grpc_tls import ALPN
from servables.frontend.grpc_wire import (
    ANSWER_HEAD,
    OK_TRAILERS,
    PREFIX_BYTES,
    CallHead,
    Decompression,
    Message,
    MessageReader,
    Refusal,
    failure_trailers,
    prefix,
    prefixed,
    refusal_block,
)
from servables.http2.connection import (
    Buffer,
    ConnectionFailed,
    DataReceived,
    Event,
    Http2Connection,
    Http2Limits,
    RequestStarted,
)
from servables.http2.frames import ErrorCode

if TYPE_CHECKING:
    from servables.frontend.grpc_listener import GrpcListener

logger = logging.getLogger(__name__)

_WRITE_BYTES = 1 << 20
_JOIN_BELOW_BYTES = 1 << 16
_STREAM_AHEAD_BYTES = 1 << 16
"""What a method that streams may have answered and not sent."""
_LEAST_TAKEN = 64
"""A client must take one part of so many of what it is owed, or it is cut off."""
_DEADLINE_GRACE_S = 0.05
"""Methods that keep the deadline themselves answer first, and say more."""
_MESSAGE_BYTES = 128
"""What a message takes that has nothing in it."""
_STREAM_BYTES = 1 << 13
"""What a call takes whose method streams, even if nothing is said in it."""
_WAITING_BYTES = 1 << 10
"""What any other takes while its request has not begun to come."""
_REFUSAL_WAIT_S = 0.05
"""grpc.aio's client calls it an internal error of its own if it is answered while it sends its first message."""
_DEADLINE = Failure(Code.DEADLINE_EXCEEDED, "Deadline Exceeded")
_CANCELLED = Failure(Code.CANCELLED, "The call was cancelled.")
_STOPPED = Failure(Code.UNAVAILABLE, "The server has stopped.")
_NO_MORE = Failure(Code.DEADLINE_EXCEEDED, "Nothing more of the request has come for long.")
_NO_MESSAGE = Failure(Code.UNIMPLEMENTED, "The method takes one request, and none came.")


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcLimits:
    """How many connections there may be, and how patient they are. `greet_timeout_s`: until TLS, and then HTTP/2, is agreed on.

    One that has been silent for `silent_s` is asked for a sign of life, and closed if there is none in `alive_timeout_s`. One
    that takes next to nothing of what it is owed for `stall_timeout_s` is cut off, and a call ends that began to send a request
    and has sent nothing more of it for as long. `max_connections` None: three quarters of the files that the process may open,
    since REST and the replicas need some too.
    """

    http2: Http2Limits = Http2Limits()
    greet_timeout_s: float = 20.0
    silent_s: float = 300.0
    alive_timeout_s: float = 20.0
    stall_timeout_s: float = 120.0
    drain_notice_s: float = 0.5
    backlog: int = 2048
    max_connections: int | None = None


class _Call:
    """A call under way."""

    __slots__ = ("began", "begun", "head", "heard_at", "held_bytes", "reader", "requests", "stream_id", "task", "timer")

    def __init__(self, stream_id: int, head: CallHead, now: float) -> None:
        self.stream_id = stream_id
        self.head = head
        self.began = self.heard_at = now
        self.begun = False
        """Whether the head of its answer has been sent."""
        self.reader: MessageReader | None = None
        self.requests: _Requests | None = None
        self.held_bytes = 0
        """Of a message that is not whole, or of answers that are not sent, as the listener counts them."""
        self.task: asyncio.Task[None] | None = None
        self.timer: asyncio.TimerHandle | None = None

    @property
    def is_incomplete(self) -> bool:
        """Whether more of a request must come, and may. A client that streams them need not begin another."""
        if self.requests is None:
            return self.task is None
        return self.reader is not None and self.reader.held_bytes > 0 and not self.requests.waiting


class _Requests:
    """The requests of a call that streams them. The client may send more as they are read."""

    def __init__(self, connection: GrpcConnection, call: _Call) -> None:
        self._connection = connection
        self._call = call
        self._messages: deque[Message] = deque()
        self._ended = False
        self._more: asyncio.Future[None] | None = None
        self.ungranted_bytes = 0
        self.held_bytes = 0
        """What those take that have not been read."""

    @property
    def waiting(self) -> bool:
        return bool(self._messages)

    def add(self, messages: list[Message], ends: bool) -> None:
        self._messages += messages
        self.held_bytes += sum(map(_held_for, messages))
        self._ended = self._ended or ends
        if self._more is not None and not self._more.done():
            self._more.set_result(None)

    async def messages(self) -> AsyncIterator[bytes]:
        while True:
            while self._messages:
                message = self._messages.popleft()
                self.held_bytes -= _held_for(message)
                self._connection.count_requests(self._call)
                if not self._messages and self.ungranted_bytes:
                    self._connection.grant(self._call.stream_id, self.ungranted_bytes)
                    self.ungranted_bytes = 0
                yield await self._connection.content(self._call.head.encoding, message)
            if self._ended:
                return
            self._more = asyncio.get_running_loop().create_future()
            await self._more


class GrpcConnection(asyncio.Protocol):
    """Made by the listener for each connection that it accepts."""

    def __init__(self, listener: GrpcListener, loop: asyncio.AbstractEventLoop) -> None:
        self._listener = listener
        self._limits = listener.limits
        self._held = listener.held
        self._loop = loop
        self._transport: asyncio.Transport
        self._peer = ""
        self._http2: Http2Connection[CallHead | Refusal] = Http2Connection(listener.read_head, listener.limits.http2)
        self._calls: dict[int, _Call] = {}
        self._refusals: dict[int, bytes] = {}
        self._undrained: dict[int, asyncio.Future[None]] = {}
        self._dirty = False
        self._writable = True
        self._closing = False
        self._opened_at = self._heard_at = loop.time()
        self._asked_at: float | None = None
        self._owed_bytes = 0
        """Of answers that the client has not taken, as the listener counts them."""
        self._taken_bytes = 0
        self._taken_at = self._opened_at

    # The transport's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._peer = _address(transport.get_extra_info("peername"))
        tls = transport.get_extra_info("ssl_object")
        self._listener.opened(self)
        if tls is not None and tls.selected_alpn_protocol() != ALPN:
            self._transport.close()
            return
        self._soon()

    def connection_lost(self, exc: Exception | None) -> None:
        self._closing = True
        for call in list(self._calls.values()):
            self._cancel(call)
        self._held.give_back(self._owed_bytes)
        self._owed_bytes = 0
        self._listener.closed(self)

    def eof_received(self) -> None:
        """A client that closes its side has gone; the transport closes itself."""

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        now = self._loop.time()
        self._heard_at, self._asked_at = now, None
        for event in self._http2.receive(data, now):
            if type(event) is DataReceived:
                call = self._calls.get(event.stream_id)
                if call is not None:
                    self._on_data(call, event.data, event.ends)
                elif event.ends:
                    self._refuse(event.stream_id)
            else:
                self._on_event(event, now)
        if self._http2.has_output:
            self._soon()
        elif self._http2.drained:
            self._close()

    def pause_writing(self) -> None:
        self._writable = False
        self._http2.congested = True

    def resume_writing(self) -> None:
        self._writable = True
        self._http2.congested = False
        self.flush()

    # The listener's side.

    def flush(self) -> None:
        """Writes what has gathered."""
        self._dirty = False
        if self._transport.is_closing():
            return
        if self._writable:
            self._write(self._http2.take_output(_WRITE_BYTES))
        if self._owed_bytes or self._http2.unsent_bytes or not self._writable:
            self._count_owed()
        for stream_id in self._http2.take_emptied():
            waiting = self._undrained.pop(stream_id, None)
            if waiting is not None and not waiting.done():
                waiting.set_result(None)
        if self._http2.failed:
            self._close()
        elif self._http2.has_output:
            if self._writable:
                self._soon()
        elif self._http2.drained:
            self._close()

    def begin_drain(self) -> None:
        """Lets calls under way finish, takes what the client sends before it knows, and then closes."""
        self._http2.begin_drain()
        self._loop.call_later(self._limits.drain_notice_s, self._finish_drain)
        self._soon()

    def stop(self) -> None:
        """Ends what is under way."""
        self._http2.begin_drain()
        self._http2.finish_drain()
        for call in list(self._calls.values()):
            self._fail(call, _STOPPED)
            self._cancel(call)
        self.flush()
        self._close()

    def abort(self) -> None:
        self._transport.abort()

    def check_timeouts(self, now: float) -> None:
        limits = self._limits
        if not self._http2.greeted:
            if now - self._opened_at > limits.greet_timeout_s:
                self._transport.abort()
            return
        if self._asked_at is not None:
            if now - self._asked_at > limits.alive_timeout_s:
                self._transport.abort()
                return
        elif now - self._heard_at > limits.silent_s:
            self._asked_at = now
            self._http2.ping()
            self._soon()
        self._check_taken(now)
        self._check_requests(now)

    def grant(self, stream_id: int, size_bytes: int) -> None:
        self._http2.grant(stream_id, size_bytes)
        self._soon()

    def count_requests(self, call: _Call) -> None:
        """What has come of a call's requests and is not the method's yet counts as held."""
        held_bytes = 0 if call.reader is None else call.reader.held_bytes
        if call.requests is not None:
            held_bytes += _STREAM_BYTES + call.requests.held_bytes
        if self._calls.get(call.stream_id) is call:
            self._hold(call, held_bytes)

    async def content(self, encoding: bytes, message: Message) -> bytes:
        """Of a message that may be compressed. A little can become very much: it is bounded, and held while it does.

        Raises ResourceExhausted, Unavailable, or Internal if it is not compressed.
        """
        if not message.compressed:
            return message.content
        pieces, held_bytes = [], len(message.content)
        decompression = Decompression(message.content, encoding, self._held.max_bytes)
        self._held.take(held_bytes)
        try:
            while piece := await asyncio.to_thread(decompression.next_piece):
                pieces.append(piece)
                held_bytes += len(piece)
                self._held.take(len(piece))
                self._held.check(held_bytes)
            return b"".join(pieces)
        finally:
            self._held.give_back(held_bytes)

    # Events.

    def _on_event(self, event: Event[CallHead | Refusal], now: float) -> None:
        if isinstance(event, RequestStarted):
            head = event.head
            if isinstance(head, CallHead):
                self._begin(event.stream_id, head, event.ends, now)
            elif head.block is None:
                self._http2.reset(event.stream_id, ErrorCode.INTERNAL_ERROR)
            else:
                self._refusals[event.stream_id] = head.block
                if event.ends:
                    self._refuse(event.stream_id)
                else:
                    self._loop.call_later(_REFUSAL_WAIT_S, self._refuse, event.stream_id)
        elif isinstance(event, ConnectionFailed):
            logger.debug("The connection of %s fails: %s", self._peer, event.reason)
            self._closing = True
            for call in list(self._calls.values()):
                self._cancel(call)
        else:
            self._refusals.pop(event.stream_id, None)
            reset = self._calls.get(event.stream_id)
            if reset is not None:
                self._cancel(reset)

    def _begin(self, stream_id: int, head: CallHead, ends: bool, now: float) -> None:
        call = self._calls[stream_id] = _Call(stream_id, head, now)
        if head.timeout_s is not None:
            if head.timeout_s <= 0:
                self._fail(call, _DEADLINE)
                return
            call.timer = self._loop.call_later(head.timeout_s + _DEADLINE_GRACE_S, self._expire, call)
        if isinstance(head.method, StreamStream):
            if not self._has_room_for_stream(call):
                return
            call.requests = _Requests(self, call)
            self._start(call, self._stream(call, head.method.call(call.requests.messages())))
        if ends:
            self._on_data(call, b"", True)

    def _on_data(self, call: _Call, data: Buffer, ends: bool) -> None:
        if call.requests is None and call.reader is None:
            if call.task is not None:
                return  # More than the one request that was asked for.
            size = len(data)
            if size >= PREFIX_BYTES and not data[0] and int.from_bytes(data[1:PREFIX_BYTES]) == size - PREFIX_BYTES:
                self._start_one(call, Message(bytes(data[PREFIX_BYTES:]), False))
                return
        self._on_piece(call, data, ends)

    def _on_piece(self, call: _Call, data: Buffer, ends: bool) -> None:
        """Some of a message that does not come whole and alone."""
        call.heard_at = self._heard_at
        if call.reader is None:
            call.reader = MessageReader()
        try:
            messages = call.reader.feed(data)
            if call.requests is not None:
                call.requests.add(messages, ends)
            self.count_requests(call)
            self._held.check(call.held_bytes)
        except AspiredError as error:
            self._fail(call, failure(call.head.method.name, error))
            self._cancel(call)
            return
        if call.requests is not None:
            call.requests.ungranted_bytes += len(data)
            if not ends and not call.requests.waiting:
                self.grant(call.stream_id, call.requests.ungranted_bytes)
                call.requests.ungranted_bytes = 0
        elif messages:
            call.reader = None
            self._start_one(call, messages[0])
        elif ends:
            self._fail(call, _NO_MESSAGE)
        elif data:
            self.grant(call.stream_id, len(data))

    def _refuse(self, stream_id: int) -> None:
        block = self._refusals.pop(stream_id, None)
        if block is not None:
            self._http2.send_trailers(stream_id, block)
            self._soon()

    def _expire(self, call: _Call) -> None:
        self._fail(call, _DEADLINE)
        self._cancel(call)

    # Calls.

    def _start_one(self, call: _Call, message: Message) -> None:
        """The only request of a call has come."""
        method = call.head.method
        if isinstance(method, UnaryUnary):
            if call.held_bytes:
                self._hold(call, 0)  # whoever runs it counts it
            self._start(call, self._unary(call, method, message))
        elif self._has_room_for_stream(call):
            assert isinstance(method, UnaryStream)
            self._start(call, self._unary_stream(call, method, message))

    def _has_room_for_stream(self, call: _Call) -> bool:
        """Counts the call as held. If there is no room for it, it is refused."""
        self._hold(call, _STREAM_BYTES)
        try:
            self._held.check(_STREAM_BYTES)
        except AspiredError as error:
            self._fail(call, failure(call.head.method.name, error))
            return False
        return True

    def _start(self, call: _Call, coroutine: Coroutine[Any, Any, None]) -> None:
        call.task = self._loop.create_task(coroutine)

    async def _unary(self, call: _Call, method: UnaryUnary, message: Message) -> None:
        timeout_s = call.head.timeout_s
        try:
            request = message.content if not message.compressed else await self.content(call.head.encoding, message)
            if timeout_s is not None:
                timeout_s -= self._loop.time() - call.began
            answer = await method.call(request, timeout_s, self._peer)
        except asyncio.CancelledError:
            self._fail(call, _CANCELLED)
            raise
        except Exception as error:
            self._fail(call, failure(method.name, error))
            return
        stream_id = call.stream_id
        if len(answer) < _JOIN_BELOW_BYTES:
            self._http2.respond(stream_id, ANSWER_HEAD, prefixed(answer), OK_TRAILERS)
        else:
            self._http2.send_head(stream_id, ANSWER_HEAD)
            self._http2.send_data(stream_id, prefix(len(answer)))
            self._http2.send_data(stream_id, answer)
            self._http2.send_trailers(stream_id, OK_TRAILERS)
        self._end(call)

    async def _unary_stream(self, call: _Call, method: UnaryStream, message: Message) -> None:
        async def responses() -> AsyncGenerator[bytes, None]:
            async with aclosing(method.call(await self.content(call.head.encoding, message))) as called:
                async for response in called:
                    yield response

        await self._stream(call, responses())

    async def _stream(self, call: _Call, responses: AsyncGenerator[bytes, None]) -> None:
        stream_id = call.stream_id
        try:
            async with aclosing(responses):
                async for response in responses:
                    self._begin_answer(call)
                    self._http2.send_data(stream_id, prefixed(response))
                    self._soon()
                    if self._http2.unsent_bytes_of(stream_id) > _STREAM_AHEAD_BYTES:
                        self._undrained[stream_id] = self._loop.create_future()
                        await self._undrained[stream_id]
        except asyncio.CancelledError:
            self._fail(call, _CANCELLED)
            raise
        except Exception as error:
            self._fail(call, failure(call.head.method.name, error))
            return
        self._begin_answer(call)
        self._http2.send_trailers(stream_id, OK_TRAILERS)
        self._end(call)

    def _begin_answer(self, call: _Call) -> None:
        if not call.begun:
            call.begun = True
            self._http2.send_head(call.stream_id, ANSWER_HEAD)

    def _fail(self, call: _Call, told: Failure) -> None:
        """Answers with an error, unless the call is over."""
        if self._calls.get(call.stream_id) is call:
            self._http2.send_trailers(call.stream_id, failure_trailers(told) if call.begun else refusal_block(told))
            self._end(call)

    def _cancel(self, call: _Call) -> None:
        """Nobody waits for the answer."""
        self._end(call)
        if call.task is not None:
            call.task.cancel()

    def _end(self, call: _Call) -> None:
        if self._calls.pop(call.stream_id, None) is None:
            return
        if call.timer is not None:
            call.timer.cancel()
        self._hold(call, 0)
        self._undrained.pop(call.stream_id, None)
        self._soon()

    # What is owed.

    def _hold(self, call: _Call, size_bytes: int) -> None:
        self._held.take(size_bytes - call.held_bytes)
        call.held_bytes = size_bytes

    def _soon(self) -> None:
        if not self._dirty:
            self._dirty = True
            self._listener.flush_soon(self)

    def _write(self, pieces: list[Buffer]) -> None:
        if len(pieces) == 1:
            self._transport.write(pieces[0])
        elif pieces:
            if sum(map(len, pieces)) < _JOIN_BELOW_BYTES:
                self._transport.write(b"".join(pieces))
            else:
                self._transport.writelines(pieces)

    def _count_owed(self) -> None:
        owed_bytes = self._http2.unsent_bytes + (0 if self._writable else self._transport.get_write_buffer_size())
        self._held.take(owed_bytes - self._owed_bytes)
        self._owed_bytes = owed_bytes

    def _check_taken(self, now: float) -> None:
        """Cuts off a client that takes next to nothing of what it is owed."""
        taken_bytes = self._http2.sent_bytes - self._transport.get_write_buffer_size()
        if not self._owed_bytes or taken_bytes - self._taken_bytes > self._owed_bytes // _LEAST_TAKEN:
            self._taken_bytes, self._taken_at = taken_bytes, now
        elif now - self._taken_at > self._limits.stall_timeout_s:
            self._transport.abort()

    def _check_requests(self, now: float) -> None:
        """Ends calls whose request does not go on, and counts those that wait for it to begin."""
        heard_before = now - self._limits.stall_timeout_s
        for call in [call for call in self._calls.values() if call.is_incomplete]:
            if call.heard_at < heard_before:
                self._fail(call, _NO_MORE)
                self._cancel(call)
            elif not call.held_bytes:
                self._hold(call, _WAITING_BYTES)

    def _finish_drain(self) -> None:
        self._http2.finish_drain()
        self._soon()

    def _close(self) -> None:
        self._closing = True
        self._transport.close()


def _held_for(message: Message) -> int:
    return len(message.content) + _MESSAGE_BYTES


def _address(peername: Any) -> str:
    """As the access log has it."""
    if not isinstance(peername, tuple):
        return "unix:"
    host, port = peername[:2]
    host = host.removeprefix("::ffff:")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
