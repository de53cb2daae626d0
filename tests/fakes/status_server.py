"""A server that tells the states of a model's versions, and nothing else."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class StatusServer:
    """`states` gives the states by version, at each request anew; `errors` the messages of failed loads.

    Without any it answers as one that does not have the model.
    """

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.states: Callable[[], dict[int, str]] = dict
        self.errors: dict[int, str] = {}
        self.asked: list[str] = []

    def reply(self, path: str) -> tuple[int, bytes]:
        self.asked.append(path)
        states = self.states()
        if not states:
            return 404, b'{"error": "Could not find any versions of model"}'
        rows = [
            {
                "version": str(version),
                "state": state,
                "status": {
                    "error_code": "INVALID_ARGUMENT" if version in self.errors else "OK",
                    "error_message": self.errors.get(version, ""),
                },
            }
            for version, state in states.items()
        ]
        return 200, json.dumps({"model_version_status": rows}).encode()


@contextmanager
def status_server() -> Iterator[StatusServer]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = server.reply(self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            """Nobody reads it."""

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server = StatusServer(listener.server_address[1])
    thread = threading.Thread(target=listener.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server
    finally:
        listener.shutdown()
        thread.join()
        listener.server_close()
