"""The connection against the `h2` library's client, and against frames that no library would send."""

from __future__ import annotations

import struct
import weakref
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import h2.events
import h2.settings
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from servables.http2.connection import ConnectionFailed, DataReceived, Event, Http2Limits, RequestStarted, StreamReset
from servables.http2.flood_budget import FloodBudget
from servables.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    DEFAULT_WINDOW,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HAS_PRIORITY,
    HEADERS,
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
    rst_stream_frame,
    settings_frame,
    window_update_frame,
)
from tests.unit.servables.http2.http2_peer import (
    BLOCK,
    GREETING,
    HEAD,
    TRAILERS,
    Http2Client,
    failure,
    greeted,
    headers,
    output,
    server,
)


class Answer(bytearray):
    """One that tells whether it is still in memory."""


def data_of(told: list[Any], stream_id: int) -> bytes:
    return b"".join(event.data for event in told if isinstance(event, h2.events.DataReceived) and event.stream_id == stream_id)


def ended(told: list[Any]) -> set[int]:
    return {event.stream_id for event in told if isinstance(event, h2.events.StreamEnded)}


def bodies(events: list[Event[Any]]) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    for event in events:
        if isinstance(event, DataReceived):
            found[event.stream_id] = found.get(event.stream_id, b"") + bytes(event.data)
    return found


def test_a_request_and_its_answer() -> None:
    client = Http2Client()
    stream_id = client.request(b"question", [("x", "1"), ("x", "2")])
    events, _ = client.exchange()
    assert isinstance(events[0], RequestStarted)
    assert (events[0].head.path, events[0].head.method, events[0].head.authority) == (b"/a.Service/Method", b"POST", b"here")
    assert events[0].head.fields == {b"te": b"trailers", b"x": b"1,2"}
    assert events[1:] == [DataReceived(stream_id, b"question", True)]
    client.server.respond(stream_id, HEAD, b"answer", TRAILERS)
    _, told = client.exchange()
    kinds = (h2.events.ResponseReceived, h2.events.DataReceived, h2.events.TrailersReceived, h2.events.StreamEnded)
    response, data, trailers, _ = (next(event for event in told if isinstance(event, kind)) for kind in kinds)
    assert [tuple(each) for each in response.headers] == [(":status", "200"), ("content-type", "application/grpc")]
    assert (data.data, [tuple(each) for each in trailers.headers]) == (b"answer", [("grpc-status", "0")])
    assert client.server.open_streams == 0


def test_a_thousand_streams_are_answered_in_any_order() -> None:
    client = Http2Client()
    ids = [client.request(b"%d" % number) for number in range(100)]
    for _ in range(9):
        client.exchange()
        ids += [client.request(b"x") for _ in range(100)]
    client.exchange()
    assert client.server.open_streams == 1000
    for stream_id in reversed(ids):
        client.server.respond(stream_id, HEAD, b"%d" % stream_id, TRAILERS)
    _, told = client.exchange()
    assert ended(told) == set(ids)
    assert all(data_of(told, stream_id) == b"%d" % stream_id for stream_id in ids)


def test_a_large_answer_waits_for_the_peers_windows() -> None:
    client = Http2Client(INITIAL_WINDOW_SIZE=1000)
    stream_id = client.request(b"")
    client.exchange()
    answer = bytes(range(256)) * 800
    client.server.respond(stream_id, HEAD, answer, TRAILERS)
    received, told = b"", []
    while stream_id not in ended(told):
        _, told = client.exchange()
        received += data_of(told, stream_id)
        assert len(data_of(told, stream_id)) <= 1000
        if stream_id not in ended(told):
            assert client.server.unsent_bytes == len(answer) - len(received)
            client.h2.increment_flow_control_window(700, stream_id)
            client.h2.increment_flow_control_window(700)
    assert received == answer
    assert client.server.unsent_bytes == 0


def test_streams_with_much_to_send_take_turns() -> None:
    client = Http2Client()
    first, second = client.request(b""), client.request(b"")
    client.exchange()
    for stream_id in (first, second):
        client.server.respond(stream_id, HEAD, b"a" * 1_000_000, TRAILERS)
    _, told = client.exchange()
    assert abs(len(data_of(told, first)) - len(data_of(told, second))) <= 1 << 14
    assert len(data_of(told, first)) + len(data_of(told, second)) == DEFAULT_WINDOW


def test_a_smaller_initial_window_can_leave_less_than_nothing() -> None:
    client = Http2Client(INITIAL_WINDOW_SIZE=10_000)
    stream_id = client.request(b"")
    client.exchange()
    client.server.respond(stream_id, HEAD, b"a" * 12_000, TRAILERS)
    client.exchange()
    client.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 0})
    client.exchange()
    client.h2.increment_flow_control_window(10_000, stream_id)
    assert data_of(client.exchange()[1], stream_id) == b""
    client.h2.increment_flow_control_window(2_000, stream_id)
    assert data_of(client.exchange()[1], stream_id) == b"a" * 2_000


def test_a_larger_initial_window_lets_waiting_answers_go() -> None:
    client = Http2Client(INITIAL_WINDOW_SIZE=0)
    stream_id = client.request(b"")
    client.exchange()
    client.server.respond(stream_id, HEAD, b"answer", TRAILERS)
    assert data_of(client.exchange()[1], stream_id) == b""
    client.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 100})
    _, told = client.exchange()
    assert (data_of(told, stream_id), ended(told)) == (b"answer", {stream_id})


def test_a_small_answer_does_not_overtake_those_that_wait() -> None:
    client = Http2Client()
    large, small = client.request(b""), client.request(b"")
    client.exchange()
    client.server.respond(large, HEAD, b"a" * 100_000, TRAILERS)
    client.exchange()
    client.h2.increment_flow_control_window(10)
    client.h2.increment_flow_control_window(10, large)
    client.server.receive(client.h2.data_to_send(), 0.0)
    client.server.respond(small, HEAD, b"small", TRAILERS)
    told = client.h2.receive_data(output(client.server))
    assert (len(data_of(told, large)), data_of(told, small)) == (10, b"")


def test_nothing_but_control_is_given_while_the_writer_is_congested() -> None:
    client = Http2Client()
    stream_id = client.request(b"")
    client.exchange()
    client.server.congested = True
    client.server.respond(stream_id, HEAD, b"answer", TRAILERS)
    assert client.server.unsent_bytes == len(b"answer")
    client.server.congested = False
    _, told = client.exchange()
    assert (data_of(told, stream_id), ended(told)) == (b"answer", {stream_id})


def test_a_body_goes_on_when_it_is_granted() -> None:
    client = Http2Client(server(Http2Limits(stream_window_bytes=1000)))
    stream_id = client.open_request()
    received = 0
    while received < 10_000:
        client.h2.send_data(stream_id, b"a" * client.h2.local_flow_control_window(stream_id))
        events, _ = client.exchange()
        for event in events:
            assert isinstance(event, DataReceived)
            received += len(event.data)
            client.server.grant(stream_id, len(event.data))
        client.exchange()
    assert client.h2.local_flow_control_window(stream_id) > 0


def test_what_is_not_granted_is_not_sent() -> None:
    client = Http2Client(server(Http2Limits(stream_window_bytes=1000)))
    stream_id = client.open_request()
    client.h2.send_data(stream_id, b"a" * 1000)
    client.exchange()
    assert client.h2.local_flow_control_window(stream_id) == 0


def test_a_body_beyond_its_window_resets_its_stream_alone() -> None:
    connection = greeted(Http2Limits(stream_window_bytes=100))
    events = connection.receive(headers(1, END_HEADERS) + frame(DATA, 0, 1, b"a" * 101) + headers(3), 0.0)
    assert events[1] == StreamReset(1, ErrorCode.FLOW_CONTROL_ERROR)
    assert isinstance(events[2], RequestStarted)
    assert rst_stream_frame(1, ErrorCode.FLOW_CONTROL_ERROR) in output(connection)


def test_the_connections_window_is_kept_open() -> None:
    connection = greeted(Http2Limits(connection_window_bytes=100_000, stream_window_bytes=1 << 20))
    body = frame(DATA, 0, 1, b"a" * 10_000)
    events = connection.receive(headers(1, END_HEADERS) + body * 50, 0.0)
    assert len(bodies(events)[1]) == 500_000
    assert not any(isinstance(event, StreamReset) for event in events)


def test_more_than_the_connections_window_at_once_ends_it() -> None:
    connection = greeted(Http2Limits(connection_window_bytes=70_000, max_frame_bytes=1 << 20))
    events = connection.receive(headers(1, END_HEADERS) + frame(DATA, 0, 1, b"a" * 70_001), 0.0)
    assert failure(events).code is ErrorCode.FLOW_CONTROL_ERROR


def test_padding_counts_and_is_granted_again() -> None:
    connection = greeted(Http2Limits(stream_window_bytes=1000))
    padded = frame(DATA, PADDED, 1, b"\x64" + b"body" + b"\0" * 100)
    events = connection.receive(headers(1, END_HEADERS) + padded * 100, 0.0)
    assert bodies(events) == {1: b"body" * 100}
    assert output(connection).count(window_update_frame(1, 101)) == 100


def test_headers_may_be_padded_continued_and_have_a_priority() -> None:
    connection = greeted()
    payload = b"\x03" + struct.pack(">LB", 0, 16) + BLOCK[:10] + b"\0" * 3
    data = frame(HEADERS, PADDED | HAS_PRIORITY | END_STREAM, 1, payload)
    data += frame(CONTINUATION, 0, 1, BLOCK[10:20]) + frame(CONTINUATION, END_HEADERS, 1, BLOCK[20:])
    (event,) = connection.receive(data, 0.0)
    assert isinstance(event, RequestStarted)
    assert (event.head.path, event.ends) == (b"/a.Service/Method", True)


def test_trailers_end_a_request() -> None:
    client = Http2Client()
    stream_id = client.open_request()
    client.h2.send_data(stream_id, b"body")
    client.h2.send_headers(stream_id, [("a-trailer", "1")], end_stream=True)
    events, _ = client.exchange()
    assert events == [DataReceived(stream_id, b"body", False), DataReceived(stream_id, b"", True)]


def test_a_peer_that_still_sends_when_it_is_answered_is_told_to_stop() -> None:
    client = Http2Client()
    stream_id = client.open_request()
    client.server.respond(stream_id, HEAD, b"enough", TRAILERS)
    _, told = client.exchange()
    (reset,) = (event for event in told if isinstance(event, h2.events.StreamReset))
    assert reset.error_code == ErrorCode.NO_ERROR
    late = frame(DATA, 0, stream_id, b"on its way") + rst_stream_frame(stream_id, ErrorCode.CANCEL) + headers(stream_id + 2)
    (event,) = client.server.receive(late, 0.0)
    assert isinstance(event, RequestStarted)


def test_a_request_taken_back_is_an_event_and_needs_no_answer() -> None:
    client = Http2Client()
    stream_id = client.request(b"")
    client.exchange()
    client.h2.reset_stream(stream_id, ErrorCode.CANCEL)
    events, _ = client.exchange()
    assert events == [StreamReset(stream_id, ErrorCode.CANCEL)]
    client.server.respond(stream_id, HEAD, b"late", TRAILERS)
    assert output(client.server) == b""


def test_a_request_taken_back_frees_what_was_unsent() -> None:
    client = Http2Client()
    first, second = client.request(b""), client.request(b"")
    client.exchange()
    client.server.respond(first, HEAD, b"a" * 100_000, TRAILERS)
    client.exchange()
    client.h2.reset_stream(first)
    client.server.respond(second, HEAD, b"b" * 10, TRAILERS)
    client.h2.increment_flow_control_window(1000)
    _, told = client.exchange()
    assert (data_of(told, second), client.server.unsent_bytes) == (b"b" * 10, 0)


def test_a_request_taken_back_leaves_no_answer_behind() -> None:
    connection = greeted()
    connection.receive(headers(1) + headers(3), 0.0)
    connection.respond(1, HEAD, b"a" * DEFAULT_WINDOW, TRAILERS)
    output(connection)  # leaves no window for the next
    answer = Answer(100_000)
    kept = weakref.ref(answer)
    connection.send_data(3, memoryview(answer))
    del answer
    output(connection)
    assert kept() is not None
    connection.receive(rst_stream_frame(3, ErrorCode.CANCEL), 0.0)
    assert kept() is None
    assert connection.receive(window_update_frame(0, 1000), 0.0) == []
    assert not connection.has_output


def test_the_end_of_an_answer_does_not_keep_all_of_it() -> None:
    connection = greeted()
    connection.receive(headers(1), 0.0)
    answer = Answer(b"a" * DEFAULT_WINDOW + b"the end")
    kept = weakref.ref(answer)
    connection.send_data(1, memoryview(answer))
    del answer
    output(connection)
    assert (kept(), connection.unsent_bytes) == (None, 7)
    connection.receive(window_update_frame(0, 100) + window_update_frame(1, 100), 0.0)
    assert output(connection).endswith(b"the end")


def test_streams_that_have_nothing_left_are_told_once() -> None:
    connection = greeted()
    connection.receive(headers(1) + headers(3) + headers(5), 0.0)
    connection.send_data(1, b"all of it")
    connection.send_data(3, b"and the end")
    connection.send_trailers(3, TRAILERS)
    connection.send_data(5, b"a" * DEFAULT_WINDOW)
    output(connection)
    assert connection.take_emptied() == [1]
    assert connection.take_emptied() == []


def test_pings_are_answered_with_what_they_say() -> None:
    connection = greeted()
    assert connection.receive(frame(PING, 0, 0, b"12345678"), 0.0) == []
    assert output(connection) == frame(PING, ACK, 0, b"12345678")


def test_what_nobody_knows_is_ignored() -> None:
    connection = greeted()
    unknown = frame(0xBE, 0xFF, 7, b"x" * 5000)
    prioritised = frame(PRIORITY, 0, 9, struct.pack(">LB", 3, 1))
    settings = frame(SETTINGS, 0, 0, struct.pack(">HL", 0xBEEF, 1))
    (event,) = connection.receive(unknown + prioritised + settings + headers(1), 0.0)
    assert isinstance(event, RequestStarted)


def test_a_drain_takes_what_was_sent_before_it_was_known_and_nothing_after() -> None:
    client = Http2Client()
    early = client.request(b"early")
    client.exchange()
    client.server.begin_drain()
    # On its way when the GOAWAY is written, and so before the ping's answer.
    (_, data) = client.server.receive(headers(early + 2, END_HEADERS) + frame(DATA, END_STREAM, early + 2, b"late"), 0.0)
    assert data == DataReceived(early + 2, b"late", True)
    goaway = frame(GOAWAY, 0, 0, struct.pack(">LL", MAX_WINDOW, 0))
    first = output(client.server)
    assert first.startswith(goaway)
    client.server.receive(frame(PING, ACK, 0, first[-8:]), 0.0)
    assert output(client.server) == frame(GOAWAY, 0, 0, struct.pack(">LL", early + 2, 0))
    assert client.server.receive(headers(early + 4), 0.0) == []
    for stream_id in (early, early + 2):
        assert not client.server.drained
        client.server.respond(stream_id, HEAD, b"", TRAILERS)
    output(client.server)
    assert client.server.drained


def test_no_more_streams_than_agreed_are_open() -> None:
    connection = greeted(Http2Limits(max_streams=2))
    assert len(connection.receive(headers(1) + headers(3) + headers(5), 0.0)) == 2
    assert output(connection) == rst_stream_frame(5, ErrorCode.REFUSED_STREAM)
    connection.respond(1, HEAD, b"", TRAILERS)
    assert len(connection.receive(headers(7), 0.0)) == 1


@pytest.mark.parametrize(
    "block",
    [
        b"\x83\x86",  # no path
        BLOCK + b"\x83",  # a pseudo-header after others
        b"\x83" + BLOCK,  # twice the method
        BLOCK + b"\x00\x03X-A\x01b",
        BLOCK + b"\x00\x0aconnection\x05close",
        BLOCK + b"\x00\x01a\x03b\r\n",
        BLOCK + b"\x00\x0econtent-length\x02-2",
        BLOCK + b"\x00\x07:status\x03200",
    ],
)
def test_a_malformed_request_resets_its_stream_alone(block: bytes) -> None:
    connection = greeted()
    (event,) = connection.receive(headers(1, 5, block) + headers(3), 0.0)
    assert isinstance(event, RequestStarted)
    assert output(connection) == rst_stream_frame(1, ErrorCode.PROTOCOL_ERROR)


@pytest.mark.parametrize("body", [b"123", b"12345"])
def test_a_body_is_as_long_as_it_was_said_to_be(body: bytes) -> None:
    client = Http2Client(server())
    block = BLOCK + b"\x0f\x0d\x014"
    events = client.server.receive(headers(1, END_HEADERS, block) + frame(DATA, END_STREAM, 1, body), 0.0)
    assert events[-1] == StreamReset(1, ErrorCode.PROTOCOL_ERROR)
    events = client.server.receive(headers(3, END_HEADERS, block) + frame(DATA, END_STREAM, 3, b"1234"), 0.0)
    assert events[-1] == DataReceived(3, b"1234", True)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(DATA, 0, 0, b"a"), ErrorCode.PROTOCOL_ERROR),
        (frame(DATA, 0, 1, b"a"), ErrorCode.PROTOCOL_ERROR),
        (headers(1, END_HEADERS) + frame(DATA, PADDED, 1, b""), ErrorCode.FRAME_SIZE_ERROR),
        (headers(1, END_HEADERS) + frame(DATA, PADDED, 1, b"\x05abcd"), ErrorCode.PROTOCOL_ERROR),
        (headers(2), ErrorCode.PROTOCOL_ERROR),
        (headers(0), ErrorCode.PROTOCOL_ERROR),
        (headers(1, 5 | PADDED, b"\xff" + BLOCK), ErrorCode.PROTOCOL_ERROR),
        (headers(1, 5 | HAS_PRIORITY, struct.pack(">LB", 1, 1) + BLOCK), ErrorCode.PROTOCOL_ERROR),
        (headers(1, 5, b"\xff\xff\xff\xff\xff"), ErrorCode.COMPRESSION_ERROR),
        (headers(1, 5, b"\x80"), ErrorCode.COMPRESSION_ERROR),
        (headers(1, END_STREAM) + headers(3), ErrorCode.PROTOCOL_ERROR),
        (headers(1, END_STREAM) + frame(CONTINUATION, END_HEADERS, 3), ErrorCode.PROTOCOL_ERROR),
        (frame(CONTINUATION, END_HEADERS, 1), ErrorCode.PROTOCOL_ERROR),
        (frame(PRIORITY, 0, 1, b"1234"), ErrorCode.FRAME_SIZE_ERROR),
        (frame(PRIORITY, 0, 0, b"12345"), ErrorCode.PROTOCOL_ERROR),
        (rst_stream_frame(1, 0), ErrorCode.PROTOCOL_ERROR),
        (headers(1) + frame(RST_STREAM, 0, 1, b"123"), ErrorCode.FRAME_SIZE_ERROR),
        (frame(SETTINGS, 0, 1), ErrorCode.PROTOCOL_ERROR),
        (frame(SETTINGS, 0, 0, b"12345"), ErrorCode.FRAME_SIZE_ERROR),
        (frame(SETTINGS, ACK, 0, b"123456"), ErrorCode.FRAME_SIZE_ERROR),
        (settings_frame({Setting.INITIAL_WINDOW_SIZE: 1 << 31}), ErrorCode.FLOW_CONTROL_ERROR),
        (settings_frame({Setting.MAX_FRAME_SIZE: 100}), ErrorCode.PROTOCOL_ERROR),
        (settings_frame({Setting.ENABLE_PUSH: 2}), ErrorCode.PROTOCOL_ERROR),
        (frame(SETTINGS, 0, 0, b"\0" * 6 * 100), ErrorCode.ENHANCE_YOUR_CALM),
        (frame(PUSH_PROMISE, 0, 1, b"1234"), ErrorCode.PROTOCOL_ERROR),
        (frame(PING, 0, 0, b"1234"), ErrorCode.FRAME_SIZE_ERROR),
        (frame(PING, 0, 1, b"12345678"), ErrorCode.PROTOCOL_ERROR),
        (frame(GOAWAY, 0, 0, b"1234"), ErrorCode.PROTOCOL_ERROR),
        (frame(WINDOW_UPDATE, 0, 0, b"123"), ErrorCode.FRAME_SIZE_ERROR),
        (window_update_frame(0, 0), ErrorCode.PROTOCOL_ERROR),
        (window_update_frame(0, MAX_WINDOW), ErrorCode.FLOW_CONTROL_ERROR),
        (window_update_frame(1, 1), ErrorCode.PROTOCOL_ERROR),
        (frame_header((1 << 24) - 1, DATA, 0, 1), ErrorCode.FRAME_SIZE_ERROR),
        (frame_header(1 << 17, HEADERS, 4, 1), ErrorCode.ENHANCE_YOUR_CALM),
        (headers(1, END_STREAM) + frame(CONTINUATION, 0, 1, b"\x00" * 60_000) * 2, ErrorCode.ENHANCE_YOUR_CALM),
        (headers(1, END_STREAM) + frame(CONTINUATION, 0, 1) * 100, ErrorCode.ENHANCE_YOUR_CALM),
    ],
)
def test_who_breaks_the_protocol_is_told_how(data: bytes, code: ErrorCode) -> None:
    connection = greeted()
    assert failure(connection.receive(data, 0.0)).code is code
    goaway = output(connection).rpartition(b"\x07\0\0\0\0\0")[2]
    assert struct.unpack_from(">L", goaway, 4) == (code,)
    assert connection.receive(headers(101), 0.0) == []


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n", PREFACE + headers(1), PREFACE + frame(SETTINGS, ACK, 0)])
def test_what_begins_otherwise_is_not_http2(data: bytes) -> None:
    assert failure(server().receive(data, 0.0)).code is ErrorCode.PROTOCOL_ERROR


@pytest.mark.parametrize(("window", "code"), [(MAX_WINDOW, ErrorCode.FLOW_CONTROL_ERROR), (0, ErrorCode.PROTOCOL_ERROR)])
def test_a_streams_window_that_cannot_be_resets_the_stream(window: int, code: ErrorCode) -> None:
    connection = greeted()
    events = connection.receive(headers(1) + window_update_frame(1, window), 0.0)
    assert events[-1] == StreamReset(1, code)


def test_a_header_list_that_grows_out_of_little_ends_the_connection() -> None:
    connection = greeted()
    entry = b"\x40\x01a" + b"\x7f\xa1\x1d" + b"x" * (127 + 0x21 + (0x1D << 7))
    assert failure(connection.receive(headers(1, 5, entry + b"\xbe" * 100), 0.0)).code is ErrorCode.ENHANCE_YOUR_CALM


@pytest.mark.parametrize(
    "nuisance",
    [
        frame(PING, 0, 0, b"12345678"),
        frame(SETTINGS, 0, 0),
        frame(DATA, 0, 1),
        frame(PRIORITY, 0, 1, struct.pack(">LB", 3, 1)),
        frame(0xBE, 0, 0, b""),
        rst_stream_frame(1, 8),
    ],
)
def test_a_flood_of_what_asks_for_nothing_ends_the_connection_and_a_trickle_does_not(nuisance: bytes) -> None:
    connection = greeted(budget=FloodBudget(per_s=10, burst=100))
    connection.receive(headers(1, END_HEADERS), 0.0)
    for second in range(100):
        events = connection.receive(nuisance * 10, float(second))
        assert not any(isinstance(event, ConnectionFailed) for event in events)
        output(connection)
    assert failure(connection.receive(nuisance * 200, 100.0)).code is ErrorCode.ENHANCE_YOUR_CALM


def test_rapid_resets_end_the_connection() -> None:
    connection = greeted(budget=FloodBudget(per_s=10, burst=100))
    data = b"".join(headers(stream_id) + rst_stream_frame(stream_id, 8) for stream_id in range(1, 401, 2))
    events = connection.receive(data, 0.0)
    assert failure(events).code is ErrorCode.ENHANCE_YOUR_CALM
    assert connection.open_streams == 0


@pytest.mark.parametrize(
    "offence",
    [
        lambda stream_id: window_update_frame(stream_id, 0),
        lambda stream_id: window_update_frame(stream_id, MAX_WINDOW),
        lambda stream_id: frame(DATA, END_STREAM, stream_id) * 2,
        lambda stream_id: headers(stream_id, END_HEADERS),
    ],
)
def test_having_streams_reset_counts_as_resetting_them(offence: Callable[[int], bytes]) -> None:
    connection = greeted(budget=FloodBudget(per_s=10, burst=100))
    events: list[Event[Any]] = []
    for stream_id in range(1, 401, 2):
        events += connection.receive(headers(stream_id, END_HEADERS) + offence(stream_id), 0.0)
        output(connection)
    assert failure(events).code is ErrorCode.ENHANCE_YOUR_CALM
    assert sum(isinstance(event, StreamReset) for event in events) < 100


def test_a_window_that_changes_for_many_streams_counts_for_as_many_frames() -> None:
    connection = greeted(budget=FloodBudget(per_s=10, burst=100))
    for stream_id in range(1, 2001, 2):
        connection.receive(headers(stream_id), 0.0)
    changes = b"".join(struct.pack(">HL", Setting.INITIAL_WINDOW_SIZE, size) for size in range(4))
    assert failure(connection.receive(frame(SETTINGS, 0, 0, changes), 0.0)).code is ErrorCode.ENHANCE_YOUR_CALM


def test_the_same_window_again_is_no_change() -> None:
    connection = greeted(budget=FloodBudget(per_s=10, burst=100))
    for stream_id in range(1, 2001, 2):
        connection.receive(headers(stream_id), 0.0)
    same = struct.pack(">HL", Setting.INITIAL_WINDOW_SIZE, DEFAULT_WINDOW) * 10
    assert connection.receive(frame(SETTINGS, 0, 0, same), 0.0) == []


def test_a_failure_after_a_drain_takes_back_none_of_its_streams() -> None:
    connection = greeted()
    connection.receive(headers(1), 0.0)
    connection.begin_drain()
    connection.finish_drain()
    output(connection)
    told = failure(connection.receive(headers(3) + frame(PUSH_PROMISE, 0, 3), 0.0))
    said = struct.pack(">LL", 1, ErrorCode.PROTOCOL_ERROR) + told.reason.encode()
    assert output(connection) == frame(GOAWAY, 0, 0, said)


def test_who_asks_and_does_not_read_is_cut_off() -> None:
    connection = greeted(Http2Limits(max_unread_bytes=1000))
    events: list[Event[Any]] = []
    for _ in range(100):
        events += connection.receive(frame(PING, 0, 0, b"12345678"), 0.0)
    assert failure(events).code is ErrorCode.ENHANCE_YOUR_CALM


def conversation() -> bytes:
    """Some of everything that a peer may send, and requests that a memory of blocks takes for known."""
    pieces = [GREETING, settings_frame({Setting.INITIAL_WINDOW_SIZE: 70_000})]
    for stream_id in range(1, 20, 2):
        pieces += [
            headers(stream_id, END_HEADERS, BLOCK + b"\x40\x01a\x01" + bytes((65 + stream_id,)) if stream_id % 3 else BLOCK),
            frame(DATA, 0, stream_id, b"part"),
            frame(DATA, PADDED, stream_id, b"\x05padded" + b"\0" * 5),
            frame(PING, 0, 0, b"12345678"),
            frame(0xBE, 0, 0, b"unknown" * 9),
            frame(DATA, END_STREAM | PADDED, stream_id, b"\x03" + b"a" * (stream_id * 300) + b"\0" * 3),
        ]
    pieces.append(frame(WINDOW_UPDATE, 0, 0, b"123"))
    return b"".join(pieces)


CONVERSATION = conversation()


def outcome(chunks: list[bytes]) -> tuple[list[Any], bytes]:
    """The events, with what comes of one body in a row put together, and all that was written."""
    connection = server()
    happened: list[Any] = []
    for chunk in chunks:
        for event in connection.receive(chunk, 0.0):
            last = happened[-1] if happened else None
            if isinstance(event, DataReceived) and isinstance(last, DataReceived) and last.stream_id == event.stream_id:
                happened[-1] = DataReceived(event.stream_id, bytes(last.data) + bytes(event.data), event.ends)
            else:
                happened.append(event)
    return happened, output(connection)


WHOLE = outcome([CONVERSATION])


@settings(deadline=None)
@given(st.lists(st.integers(0, len(CONVERSATION)), max_size=60))
def test_any_split_of_the_bytes_means_the_same(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(CONVERSATION)]
    assert outcome([CONVERSATION[start:stop] for start, stop in pairwise(edges)]) == WHOLE


def test_bytes_one_by_one_mean_the_same() -> None:
    assert outcome([bytes((byte,)) for byte in CONVERSATION]) == WHOLE
    assert failure(WHOLE[0]).code is ErrorCode.FRAME_SIZE_ERROR
    assert len([event for event in WHOLE[0] if isinstance(event, RequestStarted)]) == 10


frames = st.builds(
    frame,
    st.integers(0, 11),
    st.integers(0, 255),
    st.integers(0, 9),
    st.binary(max_size=40) | st.just(BLOCK) | st.builds(lambda tail: BLOCK + tail, st.binary(max_size=20)),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(frames | st.binary(max_size=30), max_size=30), st.booleans())
def test_no_bytes_raise(pieces: list[bytes], greets: bool) -> None:
    connection = greeted() if greets else server()
    for piece in pieces:
        for event in connection.receive(piece, 0.0):
            if isinstance(event, RequestStarted):
                connection.respond(event.stream_id, HEAD, b"answer", TRAILERS)
            elif isinstance(event, DataReceived):
                connection.grant(event.stream_id, len(event.data))
        output(connection)
    assert connection.unsent_bytes == 0 or connection.open_streams
