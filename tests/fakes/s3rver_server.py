"""A second implementation of S3's protocol, in JavaScript, for the tests that find it installed.

npm install --prefix .aspired/peers/s3rver s3rver@3
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.fakes.s3_server import START_TIMEOUT_S, free_port

COMMAND = Path(__file__).parents[2] / ".aspired" / "peers" / "s3rver" / "node_modules" / ".bin" / "s3rver"
KEY = "S3RVER"
"""The one access key that it knows, and its secret."""


class S3rverServer:
    """Keeps its objects in a directory of its own, which goes with it."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._directory = tempfile.mkdtemp(prefix="s3rver-")
        self._process: subprocess.Popen[bytes] | None = None

    def client(self) -> Any:
        import boto3

        keys = {"aws_access_key_id": KEY, "aws_secret_access_key": KEY}
        return boto3.session.Session().client("s3", endpoint_url=self.url, region_name="us-east-1", **keys)

    def __enter__(self) -> S3rverServer:
        command = [str(COMMAND), "-a", "127.0.0.1", "-p", str(self.port), "-d", self._directory, "--silent"]
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet)
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return self
            assert self._process.poll() is None, f"s3rver has ended with {self._process.returncode}"
            assert time.monotonic() < deadline, "s3rver does not listen"
            time.sleep(0.05)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._directory, ignore_errors=True)
