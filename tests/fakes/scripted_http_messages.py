"""HTTP messages as bytes, for tests that send what no client library would."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RawAnswer:
    status: int
    headers: dict[bytes, bytes]
    body: bytes


def get(target: str, *headers: str, version: str = "1.1", method: str = "GET") -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/{version}", "Host: test", *headers, "", ""]).encode()


def post(target: str, body: bytes, *headers: str) -> bytes:
    return get(target, f"Content-Length: {len(body)}", *headers, method="POST") + body


def chunked(target: str, *chunks: bytes, trailers: Sequence[str] = ()) -> bytes:
    head = get(target, "Transfer-Encoding: chunked", method="POST")
    data = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks if chunk)
    return head + data + b"0\r\n" + b"".join(f"{trailer}\r\n".encode() for trailer in trailers) + b"\r\n"


def answers_in(data: bytes) -> list[RawAnswer]:
    """The answers that a connection has brought; one that was cut off counts as far as it came."""
    return list(_answers(data))


def _answers(data: bytes) -> Iterator[RawAnswer]:
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        status_line, *lines = head.split(b"\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(b": ") for line in lines)}
        size = int(headers.get(b"content-length", b"0"))
        yield RawAnswer(int(status_line.split()[1]), headers, data[:size])
        data = data[size:]
