"""Messages on a lane's connection: a header that says what follows and how much, and then so many bytes.

    the replica says     CHALLENGE    a nonce
    the frontend says    HELLO        the nonce signed with the replica's secret, then the frontend's id
    then, either way, in any order
        CALLS        a frame of calls (`servables.frame`), under a number of the frontend's choice
        REPLIES      some of the replies to the frame of that number; more may follow until each call has one
        NOT_SERVING  the frame of that number was refused: nothing of it has run or will run
        CANCEL       ids of calls, as uint64, that nobody waits for any more

Nothing is pickled. Who does not know the secret gets no further than HELLO.
"""

from __future__ import annotations

import asyncio
import enum
import hashlib
import hmac
import struct
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import cast

from servables.frame import Buffer

NONCE_BYTES = 32
SIGNATURE_BYTES = 32
MAX_MESSAGE_BYTES = 4 << 30
MAX_STRANGERS_MESSAGE_BYTES = 1024
"""What a connection may send before it has said HELLO."""

_HEADER = struct.Struct("<4sHHIQ")  # magic, version, kind, number, size of what follows
_MAGIC = b"ASPL"
_VERSION = 1
_INBOX_BYTES = 1 << 15  # held by either end of every connection, and a frontend has one to every replica
_JOINED_BELOW_BYTES = 1 << 16  # below this one write of a copy is cheaper than one of many pieces


class Kind(enum.IntEnum):
    CHALLENGE = 1
    HELLO = 2
    CALLS = 3
    REPLIES = 4
    NOT_SERVING = 5
    CANCEL = 6


_KINDS = {int(kind): kind for kind in Kind}


def signature(secret: bytes, nonce: bytes) -> bytes:
    """What proves that the secret is known."""
    return hmac.new(secret, nonce, hashlib.sha256).digest()


def encode_call_ids(call_ids: Sequence[int]) -> bytes:
    return struct.pack(f"<{len(call_ids)}Q", *call_ids)


def decode_call_ids(payload: Buffer) -> tuple[int, ...]:
    """The ids that are there whole."""
    count = len(payload) // 8
    return struct.unpack_from(f"<{count}Q", payload)


class MessageProtocol(asyncio.BufferedProtocol, ABC):
    """Either end of a connection: cuts what arrives into messages, and writes messages.

    Subclasses take `message_received` and `disconnected`. A message that is malformed or too large ends the connection.
    """

    def __init__(self) -> None:
        self.max_message_bytes = MAX_STRANGERS_MESSAGE_BYTES
        self._transport: asyncio.Transport | None = None
        self._inbox = bytearray(_INBOX_BYTES)
        self._inbox_view = memoryview(self._inbox)
        self._filled = 0
        # A message that the inbox cannot hold is received where it will stay.
        self._large: bytearray | None = None
        self._large_filled = 0
        self._large_head = (Kind.CALLS, 0)

    @abstractmethod
    def message_received(self, kind: Kind, number: int, payload: Buffer) -> None:
        """One whole message; `payload` is the receiver's to keep."""

    @abstractmethod
    def disconnected(self) -> None:
        """The connection is gone, for whatever reason; told once."""

    def write(self, kind: Kind, number: int = 0, buffers: Iterable[Buffer] = ()) -> None:
        """Sends a message; one to a connection that is gone is lost, as its replies would be."""
        if self._transport is None or self._transport.is_closing():
            return
        pieces = [b"", *buffers]
        size_bytes = sum(map(len, pieces))
        pieces[0] = _HEADER.pack(_MAGIC, _VERSION, kind, number, size_bytes)
        if size_bytes < _JOINED_BELOW_BYTES:
            self._transport.write(b"".join(pieces))
        else:
            self._transport.writelines(pieces)

    def abort(self) -> None:
        """Ends the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    # -- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's has all its methods, not its class

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.disconnected()

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._large is not None:
            return memoryview(self._large)[self._large_filled :]
        return self._inbox_view[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        if self._large is None:
            self._filled += nbytes
            self._read_inbox()
            return
        self._large_filled += nbytes
        if self._large_filled == len(self._large):
            payload, self._large = self._large, None
            self.message_received(*self._large_head, payload)

    def _read_inbox(self) -> None:
        start = 0
        while self._filled - start >= _HEADER.size:
            magic, version, number_of_kind, number, size = _HEADER.unpack_from(self._inbox, start)
            kind = _KINDS.get(number_of_kind)
            if magic != _MAGIC or version != _VERSION or kind is None or size > self.max_message_bytes:
                self.abort()
                self._filled = 0
                return
            body = start + _HEADER.size
            if self._filled - body >= size:
                start = body + size
                self.message_received(kind, number, bytes(self._inbox_view[body:start]))
                if self._transport is None or self._transport.is_closing():
                    return
            elif _HEADER.size + size > _INBOX_BYTES:
                self._large = bytearray(size)
                self._large_filled = self._filled - body
                self._large[: self._large_filled] = self._inbox_view[body : self._filled]
                self._large_head = (kind, number)
                start = self._filled
            else:
                break
        left = self._filled - start
        if start and left:
            self._inbox[:left] = self._inbox[start : self._filled]
        self._filled = left
