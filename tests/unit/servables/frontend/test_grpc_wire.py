"""What gRPC says on HTTP/2, without a connection."""

from __future__ import annotations

import gzip
import itertools
import tracemalloc
import weakref
import zlib
from collections.abc import AsyncGenerator

import pytest
from hpack import Decoder
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.core.errors import AspiredError, Code, Internal, ResourceExhausted
from servables.frontend.grpc_method import Failure, UnaryStream
from servables.frontend.grpc_wire import (
    CallHead,
    Decompression,
    Message,
    MessageReader,
    Refusal,
    failure_trailers,
    prefixed,
    read_call_head,
    refusal_block,
)
from servables.http2.header_blocks import RequestHead


async def nothing(_: bytes) -> AsyncGenerator[bytes, None]:
    yield b""


METHOD = UnaryStream("a.Service/Method", nothing)
PATH = b"/a.Service/Method"


def read(method: bytes = b"POST", path: bytes = PATH, authority: bytes = b"here", **fields: bytes | None) -> CallHead | Refusal:
    named = {"te": b"trailers", "content_type": b"application/grpc", **fields}
    found = {name.replace("_", "-").encode(): value for name, value in named.items() if value is not None}
    return read_call_head(RequestHead(method, b"http", path, authority, found), {PATH: METHOD}.get)


def told(block: bytes) -> dict[bytes, bytes]:
    return dict(Decoder().decode(block, raw=True))


@pytest.mark.parametrize(
    ("timeout", "timeout_s"),
    [
        (None, None),
        (b"1H", 3600.0),
        (b"2M", 120.0),
        (b"3S", 3.0),
        (b"99999999m", 99_999.999),
        (b"5u", 5e-6),
        (b"0n", 0.0),
        (b"7n", 7e-9),
    ],
)
def test_timeouts_have_units(timeout: bytes | None, timeout_s: float | None) -> None:
    head = read(grpc_timeout=timeout)
    assert isinstance(head, CallHead)
    assert head.timeout_s == (None if timeout_s is None else pytest.approx(timeout_s))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"grpc_timeout": b"1"}, b"Error parsing 'grpc-timeout' metadata"),
        ({"grpc_timeout": b"S"}, b"Error parsing 'grpc-timeout' metadata"),
        ({"grpc_timeout": b"123456789S"}, b"Error parsing 'grpc-timeout' metadata"),
        ({"grpc_timeout": b"-1S"}, b"Error parsing 'grpc-timeout' metadata"),
        ({"grpc_encoding": b"snappy"}, b"Error parsing 'grpc-encoding' metadata"),
        ({"te": b"gzip"}, b"Error parsing 'te' metadata"),
    ],
)
def test_what_cannot_be_read_is_named(fields: dict[str, bytes], message: bytes) -> None:
    refusal = read(**fields)
    assert isinstance(refusal, Refusal)
    assert refusal.block is not None
    assert told(refusal.block) == {
        b":status": b"200",
        b"content-type": b"application/grpc",
        b"grpc-status": b"13",
        b"grpc-message": message,
    }


def test_what_is_no_grpc_is_refused() -> None:
    for refused in (read(method=b"GET"), read(te=None), read(authority=b"")):
        assert refused == Refusal(None)
    refusal = read(content_type=b"application/json")
    assert isinstance(refusal, Refusal)
    assert told(refusal.block or b"") == {b":status": b"415"}
    assert isinstance(read(content_type=b"application/grpc+proto"), CallHead)
    assert isinstance(read(content_type=None), CallHead)


def test_an_unknown_method_is_unimplemented() -> None:
    refusal = read(path=b"/a.Service/Other")
    assert isinstance(refusal, Refusal)
    fields = told(refusal.block or b"")
    assert (fields[b"grpc-status"], fields[b"grpc-message"]) == (b"12", b"Method not found!")


def test_messages_of_errors_travel_in_ascii() -> None:
    failure = Failure(Code.NOT_FOUND, "50% of ä\nand\x7f~")
    assert told(failure_trailers(failure)) == {b"grpc-status": b"5", b"grpc-message": b"50%25 of %C3%A4%0Aand%7F~"}
    assert told(refusal_block(failure))[b"grpc-message"] == b"50%25 of %C3%A4%0Aand%7F~"
    assert told(failure_trailers(Failure(Code.ABORTED, ""))) == {b"grpc-status": b"10"}


@settings(deadline=None)
@given(st.lists(st.binary(max_size=50)), st.lists(st.integers(1, 20)))
def test_messages_are_the_same_however_they_are_cut(messages: list[bytes], sizes: list[int]) -> None:
    data = b"".join(map(prefixed, messages))
    reader, found, at = MessageReader(), [], 0
    for size in itertools.chain(sizes, itertools.repeat(1 << 20)):
        found += reader.feed(memoryview(data)[at : at + size])
        at += size
        if at >= len(data):
            break
    assert found == [Message(message, False) for message in messages]
    assert reader.held_bytes == 0


def test_many_small_pieces_make_a_large_message() -> None:
    message = bytes(range(256)) * 40
    reader = MessageReader()
    pieces = [prefixed(message)[at : at + 1] for at in range(len(message) + 5)]
    assert [found for piece in pieces for found in reader.feed(piece)] == [Message(message, False)]


def test_small_pieces_take_little_more_than_they_hold() -> None:
    readers = [MessageReader() for _ in range(100)]
    tracemalloc.start()
    try:
        for reader in readers:
            reader.feed(prefixed(bytes(1 << 12))[:5])
            for _ in range(1000):
                reader.feed(bytearray(1))
        assert tracemalloc.get_traced_memory()[0] < 3 * sum(reader.held_bytes for reader in readers)
    finally:
        tracemalloc.stop()


def test_the_beginning_of_a_message_does_not_keep_the_one_before() -> None:
    class Data(bytearray):
        """As it came."""

    reader = MessageReader()
    data = Data(prefixed(b"a" * 100_000) + prefixed(b"b" * 10_000)[:5_000])
    kept = weakref.ref(data)
    (message,) = reader.feed(memoryview(data))
    del data
    assert (len(message.content), kept()) == (100_000, None)
    assert reader.feed(b"b" * 5_005) == [Message(b"b" * 10_000, False)]


def test_a_message_of_a_kind_that_is_none_is_refused() -> None:
    with pytest.raises(Internal, match="type 0x02"):
        MessageReader().feed(b"\2\0\0\0\0")


def test_a_message_says_when_it_is_too_large_before_it_has_come() -> None:
    with pytest.raises(ResourceExhausted, match=r"^Received message larger than max \(11 vs. 10\)$"):
        MessageReader(10).feed(b"\0\0\0\0\x0b")
    assert MessageReader(10).feed(prefixed(b"a" * 10)) == [Message(b"a" * 10, False)]


def content(message: bytes, encoding: bytes, max_bytes: int = 1 << 30) -> bytes:
    decompression = Decompression(message, encoding, max_bytes)
    pieces = list(iter(decompression.next_piece, b""))
    assert all(len(piece) <= 1 << 20 for piece in pieces)
    return b"".join(pieces)


@pytest.mark.parametrize("size", [0, 1, 1 << 20, (5 << 20) + 1])
def test_compressed_messages_are_what_they_were(size: int) -> None:
    message = bytes(range(256)) * (size // 256) + b"a" * (size % 256)
    assert content(gzip.compress(message), b"gzip") == message
    assert content(zlib.compress(message, 0), b"deflate") == message


def test_little_that_becomes_too_much_is_refused() -> None:
    with pytest.raises(ResourceExhausted):
        content(gzip.compress(bytes(10 << 20)), b"gzip", 5 << 20)


@pytest.mark.parametrize(
    ("message", "encoding", "said"),
    [
        (b"abc", b"identity", "Compression bit set but no encoding configured"),
        (b"abc", b"gzip", "Decompression failed due to zlib error"),
        (b"", b"gzip", "Decompression failed due to zlib error"),
        (gzip.compress(bytes(1000))[:-9], b"gzip", "Decompression failed due to zlib error"),
    ],
)
def test_what_is_not_compressed_is_an_error(message: bytes, encoding: bytes, said: str) -> None:
    with pytest.raises(Internal, match=f"^{said}$"):
        content(message, encoding)


@settings(deadline=None)
@given(st.binary(max_size=200), st.sampled_from([b"gzip", b"deflate"]))
def test_no_bytes_raise_anything_else(message: bytes, encoding: bytes) -> None:
    try:
        content(message, encoding)
    except AspiredError:
        pass
