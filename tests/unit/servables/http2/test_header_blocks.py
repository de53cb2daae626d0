from __future__ import annotations

import pytest
from hpack import Decoder, Encoder
from hypothesis import given, settings
from hypothesis import strategies as st

from servables.http2.header_blocks import (
    CompressionFailure,
    HeaderBlocks,
    ListTooLarge,
    RequestHead,
    response_block,
    status_block,
    trailers_block,
)

PSEUDO = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/a"), (b":authority", b"b")]


class World:
    """A peer's encoder, our reader, and the heads that it has made."""

    def __init__(self) -> None:
        self.encoder = Encoder()
        self.made: list[RequestHead] = []
        self.blocks = HeaderBlocks(self._make, 1 << 14)

    def _make(self, head: RequestHead) -> RequestHead:
        self.made.append(head)
        return head

    def read(self, *more: tuple[bytes, bytes]) -> RequestHead:
        head = self.blocks.read(self.encoder.encode([*PSEUDO, *more])).head
        assert head is not None
        return head


def test_a_block_is_read_once_when_it_changes_no_table() -> None:
    world = World()
    for _ in range(5):
        assert world.read((b"x", b"1")).fields == {b"x": b"1"}
    # The first fills the table, the second is the first of those that refer to it.
    assert len(world.made) == 2


def test_the_same_bytes_mean_something_else_when_the_table_has_changed() -> None:
    world = World()
    newest = b"\xbe"  # of the table's entries
    prefix = world.encoder.encode(PSEUDO)
    heads = []
    for value in (b"1", b"2"):
        heads.append(world.blocks.read(prefix + b"\x40\x01x\x01" + value).head)
        prefix = b"\x83\x86\x04\x02/a\x01\x01b"
        heads += [world.blocks.read(prefix + newest).head for _ in range(2)]
    assert [head.fields for head in heads if head] == [{b"x": b"1"}] * 3 + [{b"x": b"2"}] * 3


def test_a_table_of_another_size_is_a_change() -> None:
    world = World()
    world.read((b"x", b"1"))
    again = world.encoder.encode([*PSEUDO, (b"x", b"1")])
    assert world.blocks.read(again).head is not None
    world.blocks.read(b"\x20\x83\x86\x04\x02/a")  # the table has room for nothing
    with pytest.raises(CompressionFailure):
        world.blocks.read(again)


@settings(deadline=None)
@given(
    st.lists(
        st.lists(
            st.tuples(st.sampled_from([b"a", b"b", b"grpc-timeout"]), st.sampled_from([b"1", b"2", b"3" * 900])),
            max_size=16,  # more would be refused
        )
    )
)
def test_reads_as_the_library_does(requests: list[list[tuple[bytes, bytes]]]) -> None:
    world, plain = World(), Decoder()
    for fields in requests:
        block = world.encoder.encode([*PSEUDO, *fields])
        expected: dict[bytes, bytes] = {}
        for name, value in list(plain.decode(block, raw=True))[4:]:
            expected[name] = expected[name] + b"," + value if name in expected else value
        head = world.blocks.read(block).head
        assert head is not None
        assert head.fields == expected


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_no_bytes_raise_anything_else(block: bytes) -> None:
    blocks = HeaderBlocks(lambda head: head, 1 << 14)
    try:
        blocks.read(block)
    except (CompressionFailure, ListTooLarge):
        pass


def test_a_list_may_not_be_too_large() -> None:
    with pytest.raises(ListTooLarge):
        World().read((b"x", b"a" * (1 << 14)))


def test_a_promised_length_must_be_a_number() -> None:
    world = World()
    for value, promised in ((b"0", 0), (b"17", 17)):
        assert world.blocks.read(world.encoder.encode([*PSEUDO, (b"content-length", value)])).content_length == promised
    for value in (b"", b"-1", b"1,1", b"9" * 19):
        assert world.blocks.read(world.encoder.encode([*PSEUDO, (b"content-length", value)])).head is None


@pytest.mark.parametrize("size", [0, 1, 126, 127, 128, 254, 255, 256, 20_000])
def test_our_blocks_are_read_without_a_table(size: int) -> None:
    fields = [(b"content-type", b"application/grpc"), (b"grpc-message", b"m" * size)]
    decoder = Decoder()
    decoder.max_allowed_table_size = decoder.header_table_size = 0
    assert list(decoder.decode(response_block(fields), raw=True)) == [(b":status", b"200"), *fields]
    assert list(decoder.decode(trailers_block(fields), raw=True)) == fields
    assert list(decoder.decode(status_block(415), raw=True)) == [(b":status", b"415")]
    assert not decoder.header_table.dynamic_entries
