"""An HTTP server on a raw socket that does to its connections whatever a test wants."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

Behaviour = Callable[[socket.socket], None]
"""Gets a connection on which a request has just arrived, as often as one does. Raises ConnectionError to hang up."""


@dataclass
class ScriptedHttpServer:
    port: int = 0
    connections: int = 0
    requests: list[bytes] = field(default_factory=list)


@contextmanager
def scripted_http_server(behaviour: Behaviour) -> Iterator[ScriptedHttpServer]:
    """Serves on a free port of 127.0.0.1, one thread a connection; requests must have no body."""
    server = ScriptedHttpServer()
    threads: list[threading.Thread] = []

    def serve(connection: socket.socket) -> None:
        with connection:
            try:
                while request := _read_request(connection):
                    server.requests.append(request)
                    behaviour(connection)
            except OSError:
                return

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            server.connections += 1
            threads.append(threading.Thread(target=serve, args=(connection,)))
            threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server.port = listener.getsockname()[1]
        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield server
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()
            for thread in threads:
                thread.join()


def http_reply(body: bytes, status: str = "200 OK", headers: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


def _read_request(connection: socket.socket) -> bytes:
    request = b""
    while b"\r\n\r\n" not in request:
        received = connection.recv(65536)
        if not received:
            return b""
        request += received
    return request
