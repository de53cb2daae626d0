"""What a frontend and a replica say to each other: frames of calls and replies, and the messages of a lane."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from servables.call import Call, Reply
from servables.frame import Buffer, decode_calls, decode_replies, encode_calls, encode_replies, join
from servables.lane.lane_message import MAX_MESSAGE_BYTES, Kind, MessageProtocol

SIZES = ((1, 3), (32, 3), (32, 784), (1, 150_528))
"""How many calls, and how many floats each."""


def calls(count: int, floats: int) -> list[Call]:
    values = np.ones((1, floats), np.float32)
    return [Call(number, "serving_default", {"x": values}, ("y",), 30.0) for number in range(count)]


@pytest.mark.parametrize(("count", "floats"), SIZES)
def bench_encode_calls(benchmark: BenchmarkFixture, count: int, floats: int) -> None:
    frame = benchmark(encode_calls, calls(count, floats))
    assert len(decode_calls(join(frame))) == count


@pytest.mark.parametrize(("count", "floats"), SIZES)
def bench_decode_calls(benchmark: BenchmarkFixture, count: int, floats: int) -> None:
    decoded = benchmark(decode_calls, join(encode_calls(calls(count, floats))))
    assert [call.call_id for call in decoded] == list(range(count))


@pytest.mark.parametrize(("count", "floats"), SIZES)
def bench_replies_there_and_back(benchmark: BenchmarkFixture, count: int, floats: int) -> None:
    replies = [Reply(number, {"y": np.ones((1, floats), np.float32)}) for number in range(count)]
    decoded = benchmark(lambda: decode_replies(join(encode_replies(replies))))
    assert [reply.call_id for reply in decoded] == list(range(count))


class Wire(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []

    def is_closing(self) -> bool:
        return False

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))


class End(MessageProtocol):
    """Counts what arrives."""

    def __init__(self) -> None:
        super().__init__()
        self.max_message_bytes = MAX_MESSAGE_BYTES
        self.received = 0

    def message_received(self, kind: Kind, number: int, payload: Buffer) -> None:
        self.received += 1

    def disconnected(self) -> None:
        raise AssertionError("a message is malformed")


@pytest.mark.parametrize("payload_bytes", [64, 4096, 602_112])
def bench_write_a_lane_message(benchmark: BenchmarkFixture, payload_bytes: int) -> None:
    payload = bytes(payload_bytes)

    def write() -> Wire:
        end, wire = End(), Wire()
        end.connection_made(wire)
        for number in range(10):
            end.write(Kind.CALLS, number, [payload])
        return wire

    assert sum(map(len, benchmark(write).written)) > 10 * payload_bytes


@pytest.mark.parametrize("payload_bytes", [64, 4096, 602_112])
def bench_read_a_lane_message(benchmark: BenchmarkFixture, payload_bytes: int) -> None:
    sender, wire = End(), Wire()
    sender.connection_made(wire)
    for number in range(10):
        sender.write(Kind.CALLS, number, [bytes(payload_bytes)])
    stream = b"".join(wire.written)

    def read() -> End:
        end, at = End(), 0
        end.connection_made(Wire())
        while at < len(stream):
            room = end.get_buffer(-1)
            assert room
            piece = stream[at : at + len(room)]
            room[: len(piece)] = piece
            end.buffer_updated(len(piece))
            at += len(piece)
        return end

    assert benchmark(read).received == 10
