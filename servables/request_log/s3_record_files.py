"""Records in an object store: files are written here first, and sent when they are complete."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cluster.storage.s3_client import s3_client
from servables.request_log.record_files import FileLimits, RecordFiles, find_log_files
from servables.request_log.record_sink import RecordSink

SCHEME = "s3://"
RETRY_INTERVAL_S = 15.0
"""How long what could not be sent waits for another attempt."""

_TIMEOUT_S = 10.0
_ATTEMPTS = 3


class S3RecordFiles(RecordSink):
    """Objects `<prefix>-<time>-<frontend>-<number>.tfrecord` under `s3://bucket/prefix`, each sent whole.

    What the store does not take stays in a directory of this process, up to `limits.max_total_bytes` (the oldest go first), and
    is sent later. A process that is killed takes with it what it had not sent.
    """

    def __init__(
        self,
        prefix: str,
        frontend: str,
        limits: FileLimits,
        clock: Callable[[], float] = time.time,
        make_client: Callable[[], Any] | None = None,
    ) -> None:
        bucket, _, key = prefix.removeprefix(SCHEME).partition("/")
        self._bucket = bucket
        self._folder, _, name = key.rpartition("/")
        self._clock = clock
        self._make_client = make_client or _client
        self._client: Any = None
        self._retry_at: float | None = None
        self._directory = tempfile.mkdtemp(prefix="aspired-request-log-")
        self._prefix = os.path.join(self._directory, name)
        self._files = RecordFiles(self._prefix, frontend, limits, clock)

    def write(self, record: bytes) -> None:
        if not os.path.isdir(self._directory):  # it was completed, and now there is more
            os.makedirs(self._directory, mode=0o700)
        self._files.write(record)
        if self._retry_at is None:
            self._send()  # a file may have become full

    def complete(self) -> None:
        self._files.complete()
        self._send()
        if not os.listdir(self._directory):
            shutil.rmtree(self._directory, ignore_errors=True)

    def due_at(self) -> float | None:
        due = [at for at in (self._retry_at, self._files.due_at()) if at is not None]
        return min(due) if due else None

    def _send(self) -> None:
        """Sends every complete file, the oldest first. Raises OSError when the store does not take one."""
        for file in find_log_files(self._prefix, self._clock()):
            if not file.partial:
                self._send_file(file.path)
        self._retry_at = None

    def _send_file(self, path: Path) -> None:
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        key = f"{self._folder}/{path.name}" if self._folder else path.name
        try:
            if self._client is None:
                self._client = self._make_client()
            self._client.upload_file(str(path), self._bucket, key)
        except (Boto3Error, BotoCoreError, ClientError) as error:
            self._retry_at = self._clock() + RETRY_INTERVAL_S
            raise OSError(f"{SCHEME}{self._bucket}/{key} cannot be written: {error}") from error
        path.unlink(missing_ok=True)


def _client() -> Any:
    return s3_client(connect_timeout_s=_TIMEOUT_S, read_timeout_s=_TIMEOUT_S, attempts=_ATTEMPTS)
