"""Against a real S3 protocol server over a socket."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from cluster.storage.s3_client import s3_client
from servables.request_log.record_files import FileLimits
from servables.request_log.s3_record_files import RETRY_INTERVAL_S, S3RecordFiles
from servables.tf_record import encode_record, read_records
from tests.fakes.manual_clock import ManualClock

LIMITS = FileLimits(max_file_bytes=1000, max_file_age_s=60, max_total_bytes=10_000)


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    for name, value in (("AWS_ACCESS_KEY_ID", "key"), ("AWS_SECRET_ACCESS_KEY", "secret"), ("AWS_DEFAULT_REGION", "us-east-1")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("S3_ENDPOINT", endpoint)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    bucket = boto3.resource("s3", endpoint_url=endpoint).create_bucket(Bucket="logs")
    bucket.objects.all().delete()
    return bucket


def records_in(bucket: Any) -> list[bytes]:
    bodies = [one.get()["Body"].read() for one in sorted(bucket.objects.all(), key=lambda one: one.key)]
    return [record for body in bodies for record in read_records(io.BytesIO(body))]


def left_behind() -> list[str]:
    return [name for name in os.listdir(tempfile.gettempdir()) if name.startswith("aspired-request-log-")]


def test_a_complete_file_becomes_an_object_and_nothing_stays_here(bucket: Any) -> None:
    sink = S3RecordFiles("s3://logs/models/m", "f1", LIMITS)
    for record in (b"one", b"two"):
        sink.write(encode_record(record))
    assert not list(bucket.objects.all())
    sink.complete()
    (found,) = bucket.objects.all()
    assert found.key.startswith("models/m-")
    assert found.key.endswith("-f1-1.tfrecord")
    assert records_in(bucket) == [b"one", b"two"]
    assert left_behind() == []


def test_more_may_come_after_a_file_is_complete(bucket: Any) -> None:
    sink = S3RecordFiles("s3://logs/m", "f1", LIMITS)
    for record in (b"one", b"two"):
        sink.write(encode_record(record))
        sink.complete()
    assert records_in(bucket) == [b"one", b"two"]


def test_a_full_file_is_sent_at_once(bucket: Any) -> None:
    sink = S3RecordFiles("s3://logs/m", "f1", LIMITS)
    for _ in range(3):
        sink.write(encode_record(bytes(600)))
    assert records_in(bucket) == [bytes(600)] * 2
    sink.complete()
    assert records_in(bucket) == [bytes(600)] * 3


def test_what_the_store_did_not_take_is_sent_when_it_is_back(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ManualClock()
    away = True

    def client() -> Any:
        with pytest.MonkeyPatch.context() as patched:
            if away:
                patched.setenv("S3_ENDPOINT", "http://127.0.0.1:1")
            return s3_client()

    sink = S3RecordFiles("s3://logs/m", "f1", LIMITS, clock, client)
    sink.write(encode_record(b"kept"))
    with pytest.raises(OSError, match=r"s3://logs/m-.* cannot be written: "):
        sink.complete()
    assert sink.due_at() == clock() + RETRY_INTERVAL_S
    sink.write(encode_record(b"also"))
    away, sink._client = False, None
    sink.complete()
    assert records_in(bucket) == [b"kept", b"also"]
    assert sink.due_at() is None
    assert left_behind() == []


def test_what_cannot_be_sent_takes_bounded_space_and_the_oldest_goes_first(bucket: Any) -> None:
    sink = S3RecordFiles("s3://no-such-bucket/m", "f1", LIMITS)
    for number in range(100):
        try:
            sink.write(encode_record(bytes([number]) * 600))
            sink.complete()
        except OSError:
            pass
    directory = Path(tempfile.gettempdir()) / left_behind()[0]
    kept = sorted(directory.iterdir(), key=lambda path: int(path.stem.rpartition("-")[2]))
    assert sum(path.stat().st_size for path in kept) <= LIMITS.max_total_bytes
    assert kept[-1].read_bytes() == encode_record(bytes([99]) * 600)
    assert len(kept) == LIMITS.max_total_bytes // 616
