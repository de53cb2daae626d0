"""An S3 server of its own process, and a gate before it that can be shut, slowed and made to fail."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any

START_TIMEOUT_S = 60.0
_CHUNK_BYTES = 1 << 16
_HEAR_OUT_S = 5.0
_ERROR_BODY = "<?xml version='1.0'?><Error><Code>{}</Code><Message>ordered</Message></Error>"


class S3Server:
    """moto's server in a process. Its objects live in its memory: `kill` loses them, `stop` too.

    `tls` are the files of a certificate and its key: it then speaks TLS alone. `environment` is what a process needs to reach
    it by the SDK's own variables.
    """

    def __init__(self, port: int | None = None, tls: tuple[str, str] | None = None) -> None:
        self._held = held_port(port or 0)
        self.port: int = self._held.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self._tls = ("-s", "-c", tls[0], "-k", tls[1]) if tls else ()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        return s3_environment(self.url)

    def start(self) -> None:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port), *self._tls]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            assert self._process.poll() is None, f"moto's server has ended with {self._process.returncode}"
            assert time.monotonic() < deadline, "moto's server does not listen"
            time.sleep(0.05)

    def kill(self) -> None:
        """As a crash does. `start` brings an empty one up at the same address."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def client(self) -> Any:
        """A boto3 client of this server alone, whatever the environment says."""
        return s3_client_of(self.url)

    def __enter__(self) -> S3Server:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.kill()
        self._held.close()


class FaultyGate:
    """A TCP proxy before `port` on loopback. Give its `url` to what is tested; turn its faults on and off at any time.

    `shut`: refuses connections and breaks those that are open. `bytes_per_s`: how fast replies come, for each connection.
    `stalled`: replies stop where they are. `status`: every request is answered with it (500, 503), none reaches the server;
    `code` is S3's word for it, by default InternalError, or SlowDown with 503.
    `cut_after`: breaks each connection once it has passed so many bytes of replies. `passed` counts bytes of replies.
    `requests` counts requests seen as such (by their first line) while `status` is None.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._held = held_port()
        self.port: int = self._held.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.bytes_per_s: float | None = None
        self.stalled = False
        self.status: int | None = None
        self.code = ""
        self.cut_after: int | None = None
        self.passed = 0
        self.requests = 0
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="gate", daemon=True)

    @property
    def environment(self) -> dict[str, str]:
        return s3_environment(self.url)

    def open(self) -> None:
        if self._server is None:
            self._server = self._call(asyncio.start_server(self._serve, "127.0.0.1", self.port))

    def shut(self) -> None:
        self._call(self._close())

    def __enter__(self) -> FaultyGate:
        self._thread.start()
        self.open()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.shut()
        self._call(self._cancel_others())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._held.close()

    def _call(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in tuple(self._writers):
            writer.transport.abort()

    async def _cancel_others(self) -> None:
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        upstream: asyncio.StreamWriter | None = None
        try:
            if self.status is not None:
                await self._refuse(reader, writer)
                return
            server_reader, upstream = await asyncio.open_connection("127.0.0.1", self._target)
            self._writers.add(upstream)
            forth = asyncio.ensure_future(self._forth(reader, upstream, writer))
            try:
                await self._back(server_reader, writer)
            finally:
                forth.cancel()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            for end in (writer, upstream):
                if end is not None:
                    self._writers.discard(end)
                    end.transport.abort()

    async def _forth(self, reader: asyncio.StreamReader, upstream: asyncio.StreamWriter, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while piece := await reader.read(_CHUNK_BYTES):
                if self.status is not None:  # a connection that was open before the fault
                    writer.transport.abort()
                    return
                self.requests += piece.count(b" HTTP/1.1\r\n")
                upstream.write(piece)
                await upstream.drain()
            upstream.write_eof()

    async def _back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        passed = 0
        while piece := await reader.read(_CHUNK_BYTES if self.bytes_per_s is None else 4096):
            while self.stalled:
                await asyncio.sleep(0.02)
            if self.bytes_per_s is not None:
                await asyncio.sleep(len(piece) / self.bytes_per_s)
            if self.cut_after is not None and passed + len(piece) > self.cut_after:
                writer.write(piece[: max(0, self.cut_after - passed)])
                await writer.drain()
                return
            passed += len(piece)
            self.passed += len(piece)
            writer.write(piece)
            await writer.drain()

    async def _refuse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = _ERROR_BODY.format(self.code or ("SlowDown" if self.status == 503 else "InternalError")).encode()
        writer.write(b"HTTP/1.1 %d Fault\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % (self.status or 500, len(body)))
        writer.write(body)
        await writer.drain()
        # A connection that is broken off with bytes unread takes the answer with it.
        writer.write_eof()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_HEAR_OUT_S):
                while await reader.read(_CHUNK_BYTES):
                    pass


def s3_environment(url: str) -> dict[str, str]:
    """The variables by which a process reaches the S3 server at `url`."""
    return {
        "S3_ENDPOINT": url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test-secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def s3_client_of(url: str) -> Any:
    import boto3

    return boto3.session.Session().client(
        "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test-secret"
    )


def held_port(port: int = 0) -> socket.socket:
    """A port of loopback, by default a free one, that only servers which reuse addresses can listen on until this is closed.

    Without it, a port that nobody listens on for a while may become that of any connection on this machine.
    """
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", port))
    return held


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def upload_directory(client: Any, directory: Any, bucket: str, prefix: str) -> Iterator[str]:
    """Uploads a directory as a user's script would, file by file in order of names; yields each key once it is there."""
    for file in sorted(path for path in directory.rglob("*") if path.is_file()):
        key = f"{prefix}/{file.relative_to(directory).as_posix()}"
        client.upload_file(str(file), bucket, key)
        yield key
