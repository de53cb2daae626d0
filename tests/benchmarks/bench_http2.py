"""What a request and its answer cost the HTTP/2 of the gRPC port, without sockets and calls."""

from __future__ import annotations

import itertools

import pytest
from hpack import Encoder
from pytest_benchmark.fixture import BenchmarkFixture

from servables.frontend.grpc_wire import ANSWER_HEAD, OK_TRAILERS, prefixed
from servables.http2.connection import DataReceived, Http2Connection
from servables.http2.frames import DATA, END_HEADERS, END_STREAM, HEADERS, PREFACE, SETTINGS, WINDOW_UPDATE, frame

FIELDS = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/tensorflow.serving.PredictionService/Predict"),
    (":authority", "localhost:8500"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
    ("user-agent", "grpc-python/1.85.1 grpc-c/50.0.0 (linux; chttp2)"),
]


@pytest.mark.parametrize("per_read", [1, 32])
@pytest.mark.parametrize("changing", [False, True], ids=["the same headers", "a header that changes"])
def bench_requests_and_answers(benchmark: BenchmarkFixture, per_read: int, changing: bool) -> None:
    """Reads that bring so many requests of 3 KB each, all answered before the next."""
    connection: Http2Connection[bytes] = Http2Connection(lambda head: head.path)
    encoder = Encoder()
    body, answer = prefixed(b"a" * 3200), prefixed(b"a" * 100)
    ids = itertools.count(1, 2)
    connection.receive(PREFACE + frame(SETTINGS, 0, 0), 0.0)

    def sent() -> tuple[tuple[bytes], dict[str, object]]:
        data = []
        for stream_id in itertools.islice(ids, per_read):
            fields = [*FIELDS, ("grpc-timeout", f"{stream_id % 1000}m")] if changing else FIELDS
            data.append(frame(HEADERS, END_HEADERS, stream_id, encoder.encode(fields)))
            data.append(frame(DATA, END_STREAM, stream_id, body))
        data.append(frame(WINDOW_UPDATE, 0, 0, (1000 * per_read).to_bytes(4)))
        return (b"".join(data),), {}

    def read(data: bytes) -> int:
        answered = 0
        for event in connection.receive(data, 0.0):
            if isinstance(event, DataReceived):
                connection.respond(event.stream_id, ANSWER_HEAD, answer, OK_TRAILERS)
                answered += 1
        connection.take_output(1 << 20)
        return answered

    assert benchmark.pedantic(read, setup=sent, rounds=2000 // per_read) == per_read
