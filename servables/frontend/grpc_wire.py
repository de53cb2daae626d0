"""gRPC on HTTP/2: what a request's headers say, messages with their lengths, and the blocks that answers begin and end with."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from typing import NamedTuple

from cluster.core.errors import Code, Internal, ResourceExhausted
from servables.frontend.grpc_method import Failure, GrpcMethod
from servables.http2.connection import Buffer, kept
from servables.http2.header_blocks import RequestHead, response_block, status_block, trailers_block

PREFIX_BYTES = 5
"""Before a message: whether it is compressed, and its length."""
MAX_MESSAGE_BYTES = (1 << 31) - 1

_CONTENT_TYPE = (b"content-type", b"application/grpc")
_IDENTITY = b"identity"
_WINDOW_BITS = {b"gzip": 31, b"deflate": 15}
_ACCEPT_ENCODING = (b"grpc-accept-encoding", b"identity, deflate, gzip")

ANSWER_HEAD = response_block((_CONTENT_TYPE, _ACCEPT_ENCODING))
OK_TRAILERS = trailers_block(((b"grpc-status", b"0"),))

_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])")
_SECONDS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_MESSAGE_SAFE = frozenset(range(0x20, 0x7F)) - {ord("%")}
_SMALL_BYTES = 1 << 12
_PIECE_BYTES = 1 << 20


class CallHead(NamedTuple):
    """What a request's headers say. `timeout_s` None: its caller waits for ever."""

    method: GrpcMethod
    timeout_s: float | None
    encoding: bytes


class Refusal(NamedTuple):
    """A request that is answered by its headers alone: with this block, or by a reset of its stream when there is none."""

    block: bytes | None


def read_call_head(head: RequestHead, find: Callable[[bytes], GrpcMethod | None]) -> CallHead | Refusal:
    """As grpc's own server reads it, with its texts. `find` knows the method of a path."""
    fields = head.fields
    if head.method != b"POST" or b"te" not in fields or not head.authority:
        return Refusal(None)
    content_type = fields.get(b"content-type", _CONTENT_TYPE[1])
    if not content_type.startswith(_CONTENT_TYPE[1]):
        return Refusal(status_block(415))
    timeout = fields.get(b"grpc-timeout")
    parts = None if timeout is None else _TIMEOUT.fullmatch(timeout)
    encoding = fields.get(b"grpc-encoding", _IDENTITY)
    if fields[b"te"] != b"trailers":
        return Refusal(_unreadable("te"))
    if timeout is not None and parts is None:
        return Refusal(_unreadable("grpc-timeout"))
    if encoding != _IDENTITY and encoding not in _WINDOW_BITS:
        return Refusal(_unreadable("grpc-encoding"))
    method = find(head.path)
    if method is None:
        return Refusal(refusal_block(Failure(Code.UNIMPLEMENTED, "Method not found!")))
    return CallHead(method, None if parts is None else int(parts[1]) * _SECONDS[parts[2]], encoding)


def refusal_block(failure: Failure) -> bytes:
    """All of an answer that has no message."""
    return response_block((_CONTENT_TYPE, *_status(failure)))


def failure_trailers(failure: Failure) -> bytes:
    """The end of an answer that has begun."""
    return trailers_block(_status(failure))


def prefixed(message: bytes) -> bytes:
    """The message behind its length."""
    return b"\0" + len(message).to_bytes(4) + message


def prefix(size_bytes: int) -> bytes:
    return b"\0" + size_bytes.to_bytes(4)


class Decompression:
    """Of a message that says it is compressed, piece by piece."""

    def __init__(self, message: bytes, encoding: bytes, max_bytes: int = MAX_MESSAGE_BYTES) -> None:
        """Raises Internal if the encoding is none."""
        if encoding not in _WINDOW_BITS:
            raise Internal("Compression bit set but no encoding configured")
        self._stream = zlib.decompressobj(_WINDOW_BITS[encoding])
        self._input = memoryview(message)
        self._begun = b""
        self._max_bytes = max_bytes
        self._size = 0

    def next_piece(self) -> bytes:
        """At most a mebibyte; nothing at the end. Raises Internal if it is not compressed, ResourceExhausted for too much."""
        piece = b""
        while not piece and not self._stream.eof:
            exhausted = not self._begun and not self._input
            if not self._begun:
                self._begun, self._input = bytes(self._input[:_PIECE_BYTES]), self._input[_PIECE_BYTES:]
            try:
                piece = self._stream.decompress(self._begun, _PIECE_BYTES)
            except zlib.error:
                raise Internal("Decompression failed due to zlib error") from None
            self._begun = self._stream.unconsumed_tail
            if exhausted and not piece and not self._stream.eof:
                raise Internal("Decompression failed due to zlib error")
        self._size += len(piece)
        if self._size > self._max_bytes:
            raise _too_large(self._size, self._max_bytes)
        return piece


class Message(NamedTuple):
    """A message as it came."""

    content: bytes
    compressed: bool


class MessageReader:
    """Puts messages together from pieces of a request's body."""

    def __init__(self, max_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self._max_bytes = max_bytes
        self._prefix = b""
        self._left = -1
        """What is missing of the message whose prefix has come."""
        self._pieces: list[memoryview | bytearray] = []
        self.held_bytes = 0
        """What has come of a message that is not whole."""

    def feed(self, data: Buffer) -> list[Message]:
        """The messages that are whole now. Raises ResourceExhausted for one that says it is too large, Internal for none."""
        messages = []
        rest = memoryview(data)
        while len(rest):
            if self._left < 0:
                missing = PREFIX_BYTES - len(self._prefix)
                self._prefix += bytes(rest[:missing])
                rest = rest[missing:]
                if len(self._prefix) < PREFIX_BYTES:
                    break
                if self._prefix[0] > 1:
                    raise Internal(f"Bad GRPC frame type 0x{self._prefix[0]:02x}")
                self._left = int.from_bytes(self._prefix[1:])
                if self._left > self._max_bytes:
                    raise _too_large(self._left, self._max_bytes)
            if self._left and not len(rest):
                break
            piece, rest = rest[: self._left], rest[self._left :]
            self._left -= len(piece)
            self._hold(piece)
            if not self._left:
                messages.append(Message(b"".join(self._pieces), self._prefix[0] == 1))
                self._prefix, self._left, self._pieces, self.held_bytes = b"", -1, [], 0
        return messages

    def _hold(self, piece: memoryview) -> None:
        self.held_bytes += len(piece)
        if len(piece) >= _SMALL_BYTES:
            self._pieces.append(kept(piece))
            return
        # As objects, small pieces would take many times their size.
        last = self._pieces[-1] if self._pieces else None
        if isinstance(last, bytearray):
            last += piece
        else:
            self._pieces.append(bytearray(piece))


def _too_large(size: int, limit: int) -> ResourceExhausted:
    return ResourceExhausted(f"Received message larger than max ({size} vs. {limit})")


def _unreadable(name: str) -> bytes:
    return refusal_block(Failure(Code.INTERNAL, f"Error parsing '{name}' metadata"))


def _status(failure: Failure) -> tuple[tuple[bytes, bytes], ...]:
    status = (b"grpc-status", b"%d" % failure.code)
    if not failure.message:
        return (status,)
    encoded = failure.message.encode()
    return status, (b"grpc-message", b"".join(bytes((c,)) if c in _MESSAGE_SAFE else b"%%%02X" % c for c in encoded))
