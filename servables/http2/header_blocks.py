"""Header lists from HPACK's blocks (RFC 7541), and blocks of our own.

Clients send the same few headers with every request, as references into a table that both sides keep. A block that leaves
the table as it is means the same as long as nobody changes the table: such blocks are remembered with what they meant. Our own
blocks use no table at all, so that they are constants, whatever the peer's settings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Generic, NamedTuple, TypeVar

from hpack import Decoder, HPACKError, OversizedHeaderListError
from hpack.table import HeaderTable

H = TypeVar("H")

_REMEMBERED = 64  # blocks of a connection
_LONGEST_REMEMBERED = 1024  # bytes of a block
_PSEUDO = frozenset((b":method", b":scheme", b":path", b":authority"))
_NEEDED = frozenset((b":method", b":scheme", b":path"))
_OF_THE_CONNECTION = frozenset((b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"))
_STATIC_NAMES: Mapping[bytes, int] = {b"content-type": 31}
_STATUS_200 = b"\x88"
_BAD_IN_NAMES = frozenset((*range(0x21), *range(ord("A"), ord("Z") + 1), *range(0x7F, 0x100)))
_BAD_IN_VALUES = frozenset(b"\0\r\n")


class RequestHead(NamedTuple):
    """The headers of a request. `fields` have lower-case names, repeated ones joined by a comma."""

    method: bytes
    scheme: bytes
    path: bytes
    authority: bytes
    fields: Mapping[bytes, bytes]


class HeaderBlock(NamedTuple, Generic[H]):
    """What a block means: `head` is None if it is no well-formed request, `content_length` -1 if it says none."""

    head: H | None
    content_length: int


class CompressionFailure(Exception):
    """A block is not HPACK: nothing of what follows on the connection can be understood."""


class ListTooLarge(Exception):
    """A header list is larger than it may be by far."""


class HeaderBlocks(Generic[H]):
    """Reads the blocks of one connection, which must all be given, in order.

    `read_head` makes of a request's headers what the connection's user wants of them; it is not asked again for the same ones.
    """

    def __init__(self, read_head: Callable[[RequestHead], H], max_list_bytes: int) -> None:
        self._read_head = read_head
        self._table = _WatchedTable()
        self._decoder = Decoder(max_list_bytes)
        self._decoder.header_table = self._table
        self._remembered: dict[bytes, HeaderBlock[H]] = {}

    def read(self, block: bytes) -> HeaderBlock[H]:
        """Raises CompressionFailure or ListTooLarge, after which the connection must end."""
        known = self._remembered.get(block)
        if known is not None:
            return known
        changes = self._table.changes
        try:
            headers = self._decoder.decode(block, raw=True)
        except OversizedHeaderListError as error:
            raise ListTooLarge from error
        except HPACKError as error:
            raise CompressionFailure(str(error)) from error
        read = self._read(headers)
        if self._table.changes != changes:
            self._remembered.clear()
        elif len(block) <= _LONGEST_REMEMBERED:
            if len(self._remembered) >= _REMEMBERED:
                self._remembered.clear()
            self._remembered[block] = read
        return read

    def _read(self, headers: Iterable[tuple[bytes, bytes]]) -> HeaderBlock[H]:
        head = _request_head(headers)
        if head is None:
            return HeaderBlock(None, -1)
        declared = head.fields.get(b"content-length")
        if declared is None:
            return HeaderBlock(self._read_head(head), -1)
        if not declared.isdigit() or len(declared) > 18:
            return HeaderBlock(None, -1)
        return HeaderBlock(self._read_head(head), int(declared))


class _WatchedTable(HeaderTable):
    """Counts its changes."""

    def __init__(self) -> None:
        self.changes = 0
        super().__init__()

    def add(self, name: bytes, value: bytes) -> None:
        self.changes += 1
        super().add(name, value)

    @property
    def maxsize(self) -> int:
        return super().maxsize

    @maxsize.setter
    def maxsize(self, newmax: int) -> None:
        self.changes += 1
        HeaderTable.maxsize.fset(self, newmax)  # type: ignore[attr-defined]


def _request_head(headers: Iterable[tuple[bytes, bytes]]) -> RequestHead | None:
    """The head of a request that is well-formed (RFC 9113, 8.2 and 8.3)."""
    pseudo: dict[bytes, bytes] = {}
    fields: dict[bytes, bytes] = {}
    for name, value in headers:
        if name[:1] == b":":
            if fields or name in pseudo or name not in _PSEUDO:
                return None
            pseudo[name] = value
            continue
        if not name or not _BAD_IN_NAMES.isdisjoint(name) or name in _OF_THE_CONNECTION:
            return None
        if not _BAD_IN_VALUES.isdisjoint(value):
            return None
        held = fields.get(name)
        fields[name] = value if held is None else held + b"," + value
    if not pseudo.keys() >= _NEEDED:
        return None
    authority = pseudo.get(b":authority") or fields.get(b"host", b"")
    return RequestHead(pseudo[b":method"], pseudo[b":scheme"], pseudo[b":path"], authority, fields)


def response_block(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """`:status` 200 and these fields, for a HEADERS frame."""
    return _STATUS_200 + trailers_block(fields)


def status_block(status: int) -> bytes:
    """A status alone."""
    return b"\x08" + _text(str(status).encode())


def trailers_block(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """These fields as literals that no table takes in."""
    return b"".join(_name(name) + _text(value) for name, value in fields)


def _name(name: bytes) -> bytes:
    index = _STATIC_NAMES.get(name)
    return b"\x00" + _text(name) if index is None else bytes((0x0F, index - 0x0F))


def _text(text: bytes) -> bytes:
    """A string as it is, after its length in HPACK's way of writing numbers."""
    size = len(text)
    if size < 0x7F:
        return bytes((size,)) + text
    size -= 0x7F
    length = bytearray((0x7F,))
    while size >= 0x80:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    length.append(size)
    return bytes(length) + text
