"""The state of one connection, seen from the server.

    connection = Http2Connection(read_head)
    events = connection.receive(data, now)          bytes that came; never raises
    connection.respond(stream_id, ...)              or send_head, send_data, send_trailers, reset
    pieces = connection.take_output(max_bytes)      what is to be written, after either

A peer that breaks the protocol in a way that concerns one stream has that stream reset; any other way ends the connection with
GOAWAY and a last event, `ConnectionFailed`. Bytes of a request's body are handed over as they come, and the peer may send more
of them when `grant` says so; the connection as a whole never holds a stream up for the sake of another.
"""

from __future__ import annotations

import struct
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeAlias, TypeVar

from servables.http2.flood_budget import FloodBudget
from servables.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    DEFAULT_FRAME_BYTES,
    DEFAULT_WINDOW,
    END_HEADERS,
    END_STREAM,
    FRAME_HEADER,
    FRAME_HEADER_BYTES,
    GOAWAY,
    HAS_PRIORITY,
    HEADERS,
    MAX_FRAME_BYTES,
    MAX_WINDOW,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    ErrorCode,
    Setting,
    frame,
    frame_header,
    goaway_frame,
    rst_stream_frame,
    settings_frame,
    window_update_frame,
)
from servables.http2.header_blocks import CompressionFailure, HeaderBlock, HeaderBlocks, ListTooLarge, RequestHead

H = TypeVar("H")
Buffer: TypeAlias = bytes | memoryview

_COPIED_BYTES = 1 << 12  # below this, copying is cheaper than a view
_SETTINGS_ENTRY = struct.Struct(">HL")
_MAX_SETTINGS = 64
_MAX_CONTINUATIONS = 64
_STREAMS_A_FRAME = 32  # as many are looked at in the time of one frame
_DRAIN_PING = b"draining"
_KEEPALIVE_PING = b"alive?.."


@dataclass(frozen=True, slots=True, kw_only=True)
class Http2Limits:
    """What a peer may do. `max_unread_bytes`: of what is not an answer's body, such as answers to pings, that it does not read.

    `connection_window_bytes` bounds nothing but what is on its way; who holds bodies must bound them.
    """

    max_streams: int = 8192
    max_frame_bytes: int = 1 << 18
    max_header_block_bytes: int = 1 << 14
    max_header_list_bytes: int = 1 << 14
    stream_window_bytes: int = 1 << 20
    connection_window_bytes: int = 1 << 24
    max_unread_bytes: int = 1 << 22


class RequestStarted(NamedTuple, Generic[H]):
    """A request's headers have come. `ends`: it has no body."""

    stream_id: int
    head: H
    ends: bool


class DataReceived(NamedTuple):
    """Some of a request's body, maybe nothing. `ends`: that was all."""

    stream_id: int
    data: Buffer
    ends: bool


class StreamReset(NamedTuple):
    """The stream is over, and nobody waits for its answer."""

    stream_id: int
    code: int


class ConnectionFailed(NamedTuple):
    """The last event. What is to be written ends with a GOAWAY that says why; then the connection is to be closed."""

    code: ErrorCode
    reason: str


Event: TypeAlias = RequestStarted[H] | DataReceived | StreamReset | ConnectionFailed


class _Fault(Exception):
    """The connection cannot go on."""

    def __init__(self, code: ErrorCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class _Stream:
    """A request that has no whole answer yet."""

    __slots__ = (
        "body_left",
        "id",
        "receive_window",
        "receiving",
        "send_window",
        "trailers",
        "ungranted_bytes",
        "unsent",
        "unsent_bytes",
    )

    def __init__(self, stream_id: int, send_window: int, receive_window: int, body_left: int, receiving: bool) -> None:
        self.id = stream_id
        self.send_window = send_window
        self.receive_window = receive_window
        self.receiving = receiving
        self.body_left = body_left
        """What content-length promised and has not come; negative from the beginning if nothing was promised."""
        self.ungranted_bytes = 0
        self.unsent: deque[memoryview] | None = None
        self.unsent_bytes = 0
        self.trailers: bytes | None = None


class _Partial:
    """The rest of a frame that is taken as it comes: a DATA frame, or one that nobody wants."""

    __slots__ = ("data_left", "ends", "padding_left", "stream_id")

    def __init__(self, stream_id: int, data_left: int, padding_left: int, ends: bool) -> None:
        self.stream_id = stream_id
        self.data_left = data_left
        self.padding_left = padding_left
        self.ends = ends


class Http2Connection(Generic[H]):
    """One connection. `now` is in seconds, on a clock that does not go back; who calls must do so from one thread."""

    def __init__(
        self, read_head: Callable[[RequestHead], H], limits: Http2Limits | None = None, budget: FloodBudget | None = None
    ) -> None:
        """`read_head` makes of a request's headers the `head` of its event."""
        self._limits = limits = limits or Http2Limits()
        self._budget = budget or FloodBudget()
        self._blocks = HeaderBlocks(read_head, limits.max_header_list_bytes)
        self._streams: dict[int, _Stream] = {}
        self._last_id = 0
        self._refuse_after = MAX_WINDOW
        self._draining = False
        self._failed = False
        self._now = 0.0  # of the bytes that are being read
        # In.
        self._greeted = self._settled = False
        self._held = b""
        self._partial: _Partial | None = None
        self._open_block: tuple[int, int, list[bytes]] | None = None  # stream, flags of HEADERS, what has come
        self._receive_window = limits.connection_window_bytes
        # Out.
        self._send_window = DEFAULT_WINDOW
        self._stream_send_window = DEFAULT_WINDOW
        self._peer_frame_bytes = DEFAULT_FRAME_BYTES
        self._ready: OrderedDict[int, _Stream] = OrderedDict()  # in turn; none that is over
        self._unread_bytes = 0
        self.congested = False
        """Whether nothing can be written at the moment: the connection's user says so. Answers wait in their streams then."""
        self.unsent_bytes = 0
        """What was given to `respond` and `send_data` and has not been taken."""
        self.sent_bytes = 0
        """What of answers' bodies has been taken so far."""
        self._emptied: list[int] = []
        self._out: list[Buffer] = [
            settings_frame(
                {
                    Setting.MAX_CONCURRENT_STREAMS: limits.max_streams,
                    Setting.INITIAL_WINDOW_SIZE: limits.stream_window_bytes,
                    Setting.MAX_FRAME_SIZE: limits.max_frame_bytes,
                    Setting.MAX_HEADER_LIST_SIZE: limits.max_header_list_bytes,
                }
            ),
            window_update_frame(0, limits.connection_window_bytes - DEFAULT_WINDOW),
        ]

    @property
    def greeted(self) -> bool:
        """Whether the peer has said its preface and its first settings."""
        return self._settled

    @property
    def open_streams(self) -> int:
        return len(self._streams)

    @property
    def has_output(self) -> bool:
        """Whether `take_output` would give something."""
        return bool(self._out) or (bool(self._ready) and self._send_window > 0)

    @property
    def failed(self) -> bool:
        return self._failed

    def unsent_bytes_of(self, stream_id: int) -> int:
        """The same, of one stream."""
        stream = self._streams.get(stream_id)
        return 0 if stream is None else stream.unsent_bytes

    # In.

    def receive(self, data: bytes, now: float) -> list[Event[H]]:
        """What the peer's next bytes mean, in order."""
        events: list[Event[H]] = []
        if self._failed:
            return events
        try:
            self._now = now
            self._read(data, events)
            if self._unread_bytes > self._limits.max_unread_bytes:
                raise _Fault(ErrorCode.ENHANCE_YOUR_CALM, "More is asked for than is read.")
        except _Fault as fault:
            self._failed = True
            self._emit(goaway_frame(min(self._last_id, self._refuse_after), fault.code, fault.reason))
            self._streams.clear()
            self._ready.clear()
            self.unsent_bytes = 0
            self._held = b""
            events.append(ConnectionFailed(fault.code, fault.reason))
        return events

    def _read(self, data: bytes, events: list[Event[H]]) -> None:
        if self._held:
            data = self._held + data
            self._held = b""
        at, end = 0, len(data)
        if not self._greeted:
            if not data.startswith(PREFACE[:end]):
                raise _Fault(ErrorCode.PROTOCOL_ERROR, "This port speaks HTTP/2 (gRPC).")
            if end < len(PREFACE):
                self._held = data
                return
            self._greeted = True
            at = len(PREFACE)
        while True:
            if self._partial is not None:
                at = self._read_partial(self._partial, data, at, events)
            body_at = at + FRAME_HEADER_BYTES
            if body_at > end:
                break
            high, low, kind, flags, stream_id = FRAME_HEADER.unpack_from(data, at)
            size = high << 8 | low
            stream_id &= MAX_WINDOW
            self._check_order(kind, flags, stream_id, size)
            if kind == DATA:
                if flags & PADDED and size and body_at == end:
                    break
                at = self._begin_data(data, body_at, size, flags, stream_id, events)
                continue
            if kind > CONTINUATION:
                self._nuisance()
                self._partial = _Partial(0, 0, size, False)
                at = body_at
                continue
            self._check_size(kind, size)
            next_at = body_at + size
            if next_at > end:
                break
            at = next_at
            self._read_frame(kind, flags, stream_id, data[body_at:next_at], events)
        if at < end:
            self._held = data[at:]

    def _check_order(self, kind: int, flags: int, stream_id: int, size: int) -> None:
        """Whether such a frame may come now."""
        if size > self._limits.max_frame_bytes:
            raise _Fault(ErrorCode.FRAME_SIZE_ERROR, f"A frame of {size} bytes; SETTINGS_MAX_FRAME_SIZE is less.")
        if self._open_block is not None:
            if kind != CONTINUATION or stream_id != self._open_block[0]:
                raise _Fault(ErrorCode.PROTOCOL_ERROR, "A header block is not continued.")
        elif kind == CONTINUATION:
            raise _Fault(ErrorCode.PROTOCOL_ERROR, "CONTINUATION without HEADERS.")
        if not self._settled:
            if kind != SETTINGS or flags & ACK:
                raise _Fault(ErrorCode.PROTOCOL_ERROR, "The first frame is not SETTINGS.")
            self._settled = True

    def _check_size(self, kind: int, size: int) -> None:
        """Frames of these kinds are held until they are whole."""
        if kind in (HEADERS, CONTINUATION):
            # HEADERS may have 6 bytes of its own, and padding.
            if size > self._limits.max_header_block_bytes + 262:
                raise _Fault(ErrorCode.ENHANCE_YOUR_CALM, "The headers are too large.")
        elif kind == SETTINGS:
            if size > _MAX_SETTINGS * _SETTINGS_ENTRY.size:
                raise _Fault(ErrorCode.ENHANCE_YOUR_CALM, "Too many settings.")
        elif size > DEFAULT_FRAME_BYTES:
            raise _Fault(ErrorCode.FRAME_SIZE_ERROR, f"A frame of kind {kind} and {size} bytes.")

    def _nuisance(self, weight: int = 1) -> None:
        """Counts a frame that asks for work and brings the peer nothing; `weight` is how many such it is worth."""
        if not self._budget.spend(self._now, weight):
            raise _Fault(ErrorCode.ENHANCE_YOUR_CALM, "Too many frames that ask for nothing.")

    def _begin_data(self, data: bytes, at: int, size: int, flags: int, stream_id: int, events: list[Event[H]]) -> int:
        """A DATA frame whose payload is at `at`. Returns where to go on: behind it, or in it if it is taken piece by piece."""
        padding, content = 0, size
        if flags & PADDED:
            if not size:
                raise _Fault(ErrorCode.FRAME_SIZE_ERROR, "DATA is padded and has no length of its padding.")
            padding = data[at]
            content = size - 1 - padding
            if content < 0:
                raise _Fault(ErrorCode.PROTOCOL_ERROR, "The padding is longer than its frame.")
            at += 1
        if not stream_id or stream_id > self._last_id:
            raise _Fault(ErrorCode.PROTOCOL_ERROR, f"DATA on stream {stream_id}, which is not open.")
        if size > self._receive_window:
            raise _Fault(ErrorCode.FLOW_CONTROL_ERROR, "More DATA than the connection's window.")
        self._receive_window -= size
        if self._receive_window < self._limits.connection_window_bytes >> 1:
            self._emit(window_update_frame(0, self._limits.connection_window_bytes - self._receive_window))
            self._receive_window = self._limits.connection_window_bytes
        ends = bool(flags & END_STREAM)
        if not content and not ends:
            self._nuisance()
        stream = self._streams.get(stream_id)
        if stream is None or not stream.receiving:
            # On its way when the stream ended.
            if stream is not None:
                self._fail_stream(stream, ErrorCode.STREAM_CLOSED, events)
            self._partial = _Partial(0, 0, content + padding, False)
            return at
        if size > stream.receive_window:
            self._fail_stream(stream, ErrorCode.FLOW_CONTROL_ERROR, events)
            self._partial = _Partial(0, 0, content + padding, False)
            return at
        # Padding is granted again at once; nobody has to read it.
        stream.receive_window -= content
        if padding or flags & PADDED:
            self._emit(window_update_frame(stream_id, size - content))
        stop = at + content
        if padding or stop > len(data):
            self._partial = _Partial(stream_id, content, padding, ends)
            return at
        self._take_data(stream, _piece(data, at, stop), ends, events)
        return stop

    def _read_partial(self, partial: _Partial, data: bytes, at: int, events: list[Event[H]]) -> int:
        if partial.data_left or partial.ends:
            stop = min(at + partial.data_left, len(data))
            if stop > at or not partial.data_left:
                partial.data_left -= stop - at
                ends = partial.ends and not partial.data_left
                partial.ends = partial.ends and not ends
                stream = self._streams.get(partial.stream_id)
                if stream is not None and stream.receiving:
                    self._take_data(stream, _piece(data, at, stop), ends, events)
                at = stop
        if not partial.data_left:
            skipped = min(partial.padding_left, len(data) - at)
            partial.padding_left -= skipped
            at += skipped
            if not partial.padding_left:
                self._partial = None
        return at

    def _take_data(self, stream: _Stream, piece: Buffer, ends: bool, events: list[Event[H]]) -> None:
        if stream.body_left >= 0:
            stream.body_left -= len(piece)
            if stream.body_left < 0 or (ends and stream.body_left):
                self._fail_stream(stream, ErrorCode.PROTOCOL_ERROR, events)
                return
        if ends:
            stream.receiving = False
        events.append(DataReceived(stream.id, piece, ends))

    def _read_frame(self, kind: int, flags: int, stream_id: int, payload: bytes, events: list[Event[H]]) -> None:
        if kind == HEADERS:
            self._read_headers(flags, stream_id, payload, events)
        elif kind == WINDOW_UPDATE:
            self._read_window_update(stream_id, payload, events)
        elif kind == RST_STREAM:
            self._read_rst_stream(stream_id, payload, events)
        elif kind == SETTINGS:
            self._read_settings(flags, stream_id, payload)
        elif kind == PING:
            self._read_ping(flags, stream_id, payload)
        elif kind == CONTINUATION:
            self._read_continuation(flags, payload, events)
        elif kind == PRIORITY:
            self._nuisance()
            if not stream_id:
                raise _Fault(ErrorCode.PROTOCOL_ERROR, "PRIORITY of the connection.")
            if len(payload) != 5:
                raise _Fault(ErrorCode.FRAME_SIZE_ERROR, f"PRIORITY has {len(payload)} bytes.")
        elif kind == PUSH_PROMISE:
            raise _Fault(ErrorCode.PROTOCOL_ERROR, "PUSH_PROMISE from a client.")
        elif kind == GOAWAY:
            # Of what a client will not take from us; what it asked for it still wants.
            self._nuisance()
            if stream_id or len(payload) < 8:
                raise _Fault(ErrorCode.PROTOCOL_ERROR, "GOAWAY is malformed.")

    def _read_headers(self, flags: int, stream_id: int, payload: bytes, events: list[Event[H]]) -> None:
        if not stream_id & 1:
            raise _Fault(ErrorCode.PROTOCOL_ERROR, f"HEADERS on stream {stream_id}, which no client may open.")
        if flags & (PADDED | HAS_PRIORITY):
            payload = self._bare_block(flags, stream_id, payload)
        if flags & END_HEADERS:
            self._end_block(flags, stream_id, payload, events)
        else:
            self._open_block = (stream_id, flags, [payload])

    def _bare_block(self, flags: int, stream_id: int, payload: bytes) -> bytes:
        """The block, without padding and priority."""
        start, stop = 0, len(payload)
        if flags & PADDED:
            if not payload:
                raise _Fault(ErrorCode.FRAME_SIZE_ERROR, "HEADERS is padded and has no length of its padding.")
            start, stop = 1, stop - payload[0]
        if flags & HAS_PRIORITY:
            if stop - start >= 4 and int.from_bytes(payload[start : start + 4]) & MAX_WINDOW == stream_id:
                raise _Fault(ErrorCode.PROTOCOL_ERROR, "A stream depends on itself.")
            start += 5
        if start > stop:
            raise _Fault(ErrorCode.PROTOCOL_ERROR, "The padding is longer than its frame.")
        return payload[start:stop]

    def _read_continuation(self, flags: int, payload: bytes, events: list[Event[H]]) -> None:
        assert self._open_block is not None  # or it would not have been let in
        stream_id, first_flags, pieces = self._open_block
        pieces.append(payload)
        if sum(map(len, pieces)) > self._limits.max_header_block_bytes or len(pieces) > _MAX_CONTINUATIONS:
            raise _Fault(ErrorCode.ENHANCE_YOUR_CALM, "The headers are too large.")
        if flags & END_HEADERS:
            self._open_block = None
            self._end_block(first_flags, stream_id, b"".join(pieces), events)

    def _end_block(self, flags: int, stream_id: int, block: bytes, events: list[Event[H]]) -> None:
        if len(block) > self._limits.max_header_block_bytes:
            raise _Fault(ErrorCode.ENHANCE_YOUR_CALM, "The headers are too large.")
        try:
            read = self._blocks.read(block)
        except CompressionFailure as failure:
            raise _Fault(ErrorCode.COMPRESSION_ERROR, str(failure)) from failure
        except ListTooLarge as failure:
            raise _Fault(ErrorCode.ENHANCE_YOUR_CALM, "The headers are too large.") from failure
        stream = self._streams.get(stream_id)
        if stream is not None:
            self._end_by_trailers(stream, flags, events)
        elif stream_id > self._last_id:
            self._open_stream(flags, stream_id, read, events)
        else:
            self._nuisance()  # Trailers of a stream that has ended meanwhile.

    def _end_by_trailers(self, stream: _Stream, flags: int, events: list[Event[H]]) -> None:
        if not stream.receiving:
            self._fail_stream(stream, ErrorCode.STREAM_CLOSED, events)
        elif not flags & END_STREAM:
            self._fail_stream(stream, ErrorCode.PROTOCOL_ERROR, events)
        else:
            self._take_data(stream, b"", True, events)

    def _open_stream(self, flags: int, stream_id: int, read: HeaderBlock[H], events: list[Event[H]]) -> None:
        self._last_id = stream_id
        if stream_id > self._refuse_after:
            return
        ends = bool(flags & END_STREAM)
        if read.head is None or (ends and read.content_length > 0):
            self._nuisance()
            self._emit(rst_stream_frame(stream_id, ErrorCode.PROTOCOL_ERROR))
            return
        if len(self._streams) >= self._limits.max_streams:
            self._nuisance()
            self._emit(rst_stream_frame(stream_id, ErrorCode.REFUSED_STREAM))
            return
        self._streams[stream_id] = _Stream(
            stream_id, self._stream_send_window, self._limits.stream_window_bytes, read.content_length, not ends
        )
        events.append(RequestStarted(stream_id, read.head, ends))

    def _read_window_update(self, stream_id: int, payload: bytes, events: list[Event[H]]) -> None:
        if len(payload) != 4:
            raise _Fault(ErrorCode.FRAME_SIZE_ERROR, f"WINDOW_UPDATE has {len(payload)} bytes.")
        increment = int.from_bytes(payload) & MAX_WINDOW
        if not stream_id:
            self._send_window += increment
            if not increment:
                raise _Fault(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE of nothing.")
            if self._send_window > MAX_WINDOW:
                raise _Fault(ErrorCode.FLOW_CONTROL_ERROR, "The connection's window is too large.")
            return
        if stream_id > self._last_id:
            raise _Fault(ErrorCode.PROTOCOL_ERROR, f"WINDOW_UPDATE of stream {stream_id}, which is not open.")
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        stream.send_window += increment
        if not increment:
            self._fail_stream(stream, ErrorCode.PROTOCOL_ERROR, events)
        elif stream.send_window > MAX_WINDOW:
            self._fail_stream(stream, ErrorCode.FLOW_CONTROL_ERROR, events)
        else:
            self._queue(stream)

    def _read_rst_stream(self, stream_id: int, payload: bytes, events: list[Event[H]]) -> None:
        if len(payload) != 4:
            raise _Fault(ErrorCode.FRAME_SIZE_ERROR, f"RST_STREAM has {len(payload)} bytes.")
        if not stream_id or stream_id > self._last_id:
            raise _Fault(ErrorCode.PROTOCOL_ERROR, f"RST_STREAM of stream {stream_id}, which is not open.")
        self._nuisance()
        stream = self._streams.get(stream_id)
        if stream is not None:
            self._forget(stream)
            events.append(StreamReset(stream_id, int.from_bytes(payload)))

    def _read_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise _Fault(ErrorCode.PROTOCOL_ERROR, "SETTINGS of a stream.")
        if len(payload) % _SETTINGS_ENTRY.size or (flags & ACK and payload):
            raise _Fault(ErrorCode.FRAME_SIZE_ERROR, f"SETTINGS has {len(payload)} bytes.")
        if flags & ACK:
            return
        self._nuisance()
        for key, value in _SETTINGS_ENTRY.iter_unpack(payload):
            self._set(key, value)
        self._emit(frame(SETTINGS, ACK, 0))

    def _set(self, key: int, value: int) -> None:
        if key == Setting.INITIAL_WINDOW_SIZE:
            if value > MAX_WINDOW:
                raise _Fault(ErrorCode.FLOW_CONTROL_ERROR, f"SETTINGS_INITIAL_WINDOW_SIZE is {value}.")
            more = value - self._stream_send_window
            if not more:
                return
            self._nuisance(len(self._streams) // _STREAMS_A_FRAME)
            self._stream_send_window = value
            for stream in self._streams.values():
                stream.send_window += more
                if stream.send_window > MAX_WINDOW:
                    raise _Fault(ErrorCode.FLOW_CONTROL_ERROR, "A stream's window is too large.")
                self._queue(stream)
        elif key == Setting.MAX_FRAME_SIZE:
            if not DEFAULT_FRAME_BYTES <= value <= MAX_FRAME_BYTES:
                raise _Fault(ErrorCode.PROTOCOL_ERROR, f"SETTINGS_MAX_FRAME_SIZE is {value}.")
            self._peer_frame_bytes = value
        elif key == Setting.ENABLE_PUSH and value > 1:
            raise _Fault(ErrorCode.PROTOCOL_ERROR, f"SETTINGS_ENABLE_PUSH is {value}.")

    def _read_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise _Fault(ErrorCode.PROTOCOL_ERROR, "PING of a stream.")
        if len(payload) != 8:
            raise _Fault(ErrorCode.FRAME_SIZE_ERROR, f"PING has {len(payload)} bytes.")
        if flags & ACK:
            if payload == _DRAIN_PING:
                self.finish_drain()
            return
        self._nuisance()
        self._emit(frame(PING, ACK, 0, payload))

    def grant(self, stream_id: int, size_bytes: int) -> None:
        """The peer may send `size_bytes` more of this body: that much of it has been read."""
        stream = self._streams.get(stream_id)
        if stream is None or not stream.receiving:
            return
        stream.ungranted_bytes += size_bytes
        if stream.ungranted_bytes >= self._limits.stream_window_bytes >> 1:
            stream.receive_window += stream.ungranted_bytes
            self._emit(window_update_frame(stream_id, stream.ungranted_bytes))
            stream.ungranted_bytes = 0

    # Out.

    def respond(self, stream_id: int, head: bytes, body: bytes, trailers: bytes) -> None:
        """A whole answer; nothing for a stream that is gone. `head` and `trailers` are blocks that use no table."""
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        size = len(body)
        if (
            size > stream.send_window
            or size > self._send_window
            or size > self._peer_frame_bytes
            or self._ready
            or self.congested
        ):
            self.send_head(stream_id, head)
            self.send_data(stream_id, body)
            self.send_trailers(stream_id, trailers)
            return
        self._send_window -= size
        self.sent_bytes += size
        pack = FRAME_HEADER.pack
        self._out.append(
            b"".join(
                (
                    pack(0, len(head), HEADERS, END_HEADERS, stream_id),
                    head,
                    pack(size >> 8, size & 0xFF, DATA, 0, stream_id),
                    body,
                    pack(0, len(trailers), HEADERS, END_HEADERS | END_STREAM, stream_id),
                    trailers,
                )
            )
        )
        self._end(stream)

    def send_head(self, stream_id: int, block: bytes) -> None:
        if stream_id in self._streams:
            self._emit(frame(HEADERS, END_HEADERS, stream_id, block))

    def send_data(self, stream_id: int, data: Buffer) -> None:
        """More of an answer's body; it is sent as the peer lets it."""
        stream = self._streams.get(stream_id)
        if stream is None or not data:
            return
        if stream.unsent is None:
            stream.unsent = deque()
        stream.unsent.append(memoryview(data))
        stream.unsent_bytes += len(data)
        self.unsent_bytes += len(data)
        self._queue(stream)

    def send_trailers(self, stream_id: int, block: bytes) -> None:
        """The end of an answer, after what is unsent of it; without a head before, all of it."""
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        if stream.unsent_bytes:
            stream.trailers = block
            return
        self._emit(frame(HEADERS, END_HEADERS | END_STREAM, stream_id, block))
        self._end(stream)

    def reset(self, stream_id: int, code: ErrorCode) -> None:
        stream = self._streams.get(stream_id)
        if stream is not None:
            self._forget(stream)
            self._emit(rst_stream_frame(stream_id, code))

    def ping(self) -> None:
        """Asks for a sign of life; what comes back is no event."""
        self._emit(frame(PING, 0, 0, _KEEPALIVE_PING))

    def begin_drain(self) -> None:
        """Tells the peer to open no more streams here. Those that it had opened by then, it learns of it, are taken."""
        if not self._draining and not self._failed:
            self._draining = True
            self._emit(goaway_frame(MAX_WINDOW, ErrorCode.NO_ERROR))
            self._emit(frame(PING, 0, 0, _DRAIN_PING))

    def finish_drain(self) -> None:
        """Takes no more streams. After `begin_drain` this happens by itself, one round trip later."""
        if self._draining and not self._failed and self._refuse_after == MAX_WINDOW:
            self._refuse_after = self._last_id
            self._emit(goaway_frame(self._last_id, ErrorCode.NO_ERROR))

    @property
    def drained(self) -> bool:
        """Whether the peer can open no more streams, and all others are over and taken."""
        return self._refuse_after != MAX_WINDOW and not self._streams and not self._out

    def take_output(self, max_bytes: int) -> list[Buffer]:
        """What is to be written next, about `max_bytes` at most; to be asked again if there `has_output` after that."""
        if self._ready:
            self._fill(max_bytes)
        taken, self._out = self._out, []
        self._unread_bytes = 0
        return taken

    def take_emptied(self) -> list[int]:
        """The streams that were given more to send, have none of it left and are not over, since this was last asked."""
        taken, self._emptied = self._emptied, []
        return taken

    def _fill(self, max_bytes: int) -> None:
        """Lets streams send in turns, a frame each."""
        while self._ready and self._send_window > 0 and max_bytes > 0:
            _, stream = self._ready.popitem(last=False)
            if stream.send_window <= 0:
                continue  # its next WINDOW_UPDATE queues it again
            assert stream.unsent is not None
            piece = stream.unsent[0]
            size = min(len(piece), stream.send_window, self._send_window, self._peer_frame_bytes, max_bytes)
            if size < len(piece):
                stream.unsent[0] = kept(piece[size:])
                piece = piece[:size]
            else:
                stream.unsent.popleft()
            self._out += (frame_header(size, DATA, 0, stream.id), piece)
            stream.unsent_bytes -= size
            self.unsent_bytes -= size
            self.sent_bytes += size
            stream.send_window -= size
            self._send_window -= size
            max_bytes -= size
            if stream.unsent_bytes:
                self._queue(stream)
            elif stream.trailers is not None:
                self._emit(frame(HEADERS, END_HEADERS | END_STREAM, stream.id, stream.trailers))
                self._end(stream)
            else:
                self._emptied.append(stream.id)

    def _queue(self, stream: _Stream) -> None:
        if stream.unsent_bytes and stream.send_window > 0:
            self._ready.setdefault(stream.id, stream)

    def _emit(self, piece: bytes) -> None:
        self._out.append(piece)
        self._unread_bytes += len(piece)

    def _end(self, stream: _Stream) -> None:
        """The answer is complete. A peer that is still sending is told that nobody reads it."""
        if stream.receiving:
            self._emit(rst_stream_frame(stream.id, ErrorCode.NO_ERROR))
        del self._streams[stream.id]

    def _fail_stream(self, stream: _Stream, code: ErrorCode, events: list[Event[H]]) -> None:
        # A peer that has its streams reset takes them back as well as one that resets them.
        self._nuisance()
        self._forget(stream)
        self._emit(rst_stream_frame(stream.id, code))
        events.append(StreamReset(stream.id, code))

    def _forget(self, stream: _Stream) -> None:
        del self._streams[stream.id]
        self._ready.pop(stream.id, None)
        self.unsent_bytes -= stream.unsent_bytes


def _piece(data: bytes, start: int, stop: int) -> Buffer:
    size = stop - start
    # A view keeps all of `data`: it must not be little of much.
    if size < _COPIED_BYTES or 4 * size < len(data):
        return data[start:stop]
    return memoryview(data)[start:stop]


def kept(view: memoryview) -> memoryview:
    """The same bytes, of nothing that is much larger: a view keeps all of what it is a view of."""
    return memoryview(bytes(view)) if 4 * len(view) < memoryview(view.obj).nbytes else view
