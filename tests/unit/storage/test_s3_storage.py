"""Against a real S3 protocol server over a socket."""

from __future__ import annotations

import itertools
import logging
import random
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from cluster.core.errors import (
    Aborted,
    AspiredError,
    FailedPrecondition,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)
from cluster.storage import s3_storage
from cluster.storage.s3_client import s3_client
from cluster.storage.s3_storage import S3Storage
from cluster.storage.storage import StoredFile
from cluster.storage.version_manifest import CLAIM_PREFIX
from tests.fakes.s3_server import FaultyGate, S3Server

SECRET = "test-secret"
_NUMBERS = itertools.count()


@pytest.fixture
def bucket(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A bucket of its own, which S3Storage reaches by the environment."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return Bucket(s3_server.client(), f"models-{next(_NUMBERS)}")


class Bucket:
    def __init__(self, client: Any, name: str) -> None:
        self.client, self.name = client, name
        client.create_bucket(Bucket=name)

    def put(self, key: str, content: bytes = b"graph") -> None:
        self.client.put_object(Bucket=self.name, Key=key, Body=content)

    def uri(self, key: str) -> str:
        return f"s3://{self.name}/{key}"


@pytest.fixture
def gate(s3_server: S3Server, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyGate]:
    with FaultyGate(s3_server.port) as gate:
        monkeypatch.setenv("S3_ENDPOINT", gate.url)
        yield gate


def impatient() -> Any:
    return s3_client(connect_timeout_s=2.0, read_timeout_s=0.3, attempts=1)


def test_versions_are_listed_with_one_request_however_many_files_they_have(bucket: Bucket, gate: FaultyGate) -> None:
    for version in range(3):
        for file in range(4):
            bucket.put(f"m/{version}/variables/{file}")
    storage = S3Storage()
    storage.children(bucket.uri("m"))
    before = gate.requests
    assert sorted(storage.children(bucket.uri("m/"))) == ["0", "1", "2"]
    assert gate.requests - before == 1


def test_more_than_a_thousand_names_come_with_a_request_for_each_thousand(bucket: Bucket, gate: FaultyGate) -> None:
    for version in range(1001):
        bucket.put(f"m/{version}/saved_model.pb", b"")
    storage = S3Storage()
    assert len(storage.children(bucket.uri("m"))) == 1001
    assert gate.requests == 2
    assert storage.tree(bucket.uri("m")).entries == 1001


def test_a_bucket_may_be_the_base_path_itself(bucket: Bucket) -> None:
    bucket.put("1/saved_model.pb")
    storage = S3Storage()
    for uri in (f"s3://{bucket.name}", f"S3://{bucket.name}/"):
        assert list(storage.children(uri)) == ["1"]
        assert storage.tree(storage.join(uri, "1")).size_bytes == 5


def test_a_prefix_is_not_mistaken_for_a_longer_one(bucket: Bucket) -> None:
    bucket.put("m/1/saved_model.pb")
    bucket.put("m/10/saved_model.pb")
    bucket.put("m2/1/saved_model.pb")
    storage = S3Storage()
    assert sorted(storage.children(bucket.uri("m"))) == ["1", "10"]
    assert storage.tree(bucket.uri("m/1")).entries == 1


def test_marks_of_directories_are_no_files(bucket: Bucket) -> None:
    for key in ("m/", "m/1/", "m/1/variables/", "m/1/variables"):
        bucket.put(key, b"")
    bucket.put("m/1/variables/index", b"1")
    storage = S3Storage()
    assert list(storage.children(bucket.uri("m"))) == ["1"]
    assert [file.name for file in storage.tree(bucket.uri("m/1")).files] == ["variables/index"]


def test_keys_that_would_lead_out_of_a_directory_are_passed_over_and_named_once(
    bucket: Bucket, caplog: pytest.LogCaptureFixture
) -> None:
    class Client:
        exceptions = ClientError

        def list_objects_v2(self, **_: Any) -> Mapping[str, Any]:
            keys = ["m/1/../../passwd", "m/1//x", "m/1/a\\b", "m/1/saved_model.pb"]
            entries = [{"Key": key, "Size": 1, "ETag": '"e"', "LastModified": datetime.now(UTC)} for key in keys]
            return {"Contents": entries, "IsTruncated": False, "ResponseMetadata": {"HTTPHeaders": {}}}

    storage = S3Storage(Client)
    for _ in range(2):
        assert [file.name for file in storage.tree(bucket.uri("m/1")).files] == ["saved_model.pb"]
    assert ["m/1/../../passwd" in record.getMessage() for record in caplog.records] == [True, False, False]


def test_the_fingerprint_changes_when_an_object_is_overwritten_in_its_size(bucket: Bucket) -> None:
    bucket.put("m/1/saved_model.pb", b"one")
    storage = S3Storage()
    before = storage.tree(bucket.uri("m/1"))
    bucket.put("m/1/saved_model.pb", b"two")
    after = storage.tree(bucket.uri("m/1"))
    assert (before.size_bytes, before.fingerprint != after.fingerprint) == (after.size_bytes, True)
    bucket.put(f"m/1/{CLAIM_PREFIX}x", b"")
    assert storage.tree(bucket.uri("m/1")).fingerprint == after.fingerprint


@pytest.mark.parametrize(("seconds", "age_s"), [(60, 59.0), (0, 0.0), (-60, 0.0)])
def test_the_age_is_by_the_stores_clock_and_never_too_high(seconds: int, age_s: float) -> None:
    class Client:
        def list_objects_v2(self, **_: Any) -> Mapping[str, Any]:
            then = datetime(2001, 1, 1, tzinfo=UTC)
            entry = {"Key": "m/1/x", "Size": 1, "ETag": '"e"', "LastModified": then}
            date = (then + timedelta(seconds=seconds)).strftime("%a, %d %b %Y %H:%M:%S GMT")
            return {"Contents": [entry], "IsTruncated": False, "ResponseMetadata": {"HTTPHeaders": {"date": date}}}

    assert S3Storage(Client).tree("s3://bucket/m/1").age_s == age_s


def test_files_are_written_read_in_parts_and_deleted(bucket: Bucket, tmp_path: Path) -> None:
    storage = S3Storage()
    content = random.Random(1).randbytes(9 << 20)  # more than one part of an upload
    (tmp_path / "data").write_bytes(content)
    sent: list[int] = []
    storage.upload(tmp_path / "data", bucket.uri("m/1/variables/data"), sent.append)
    storage.write(bucket.uri("m/1/saved_model.pb"), b"graph")
    assert sum(sent) == len(content)
    assert storage.read(bucket.uri("m/1/saved_model.pb")) == b"graph"
    tree = storage.tree(bucket.uri("m/1"))
    assert [(file.name, file.size_bytes) for file in tree.files] == [("saved_model.pb", 5), ("variables/data", len(content))]
    data = tree.files[1]
    parts = [b"".join(storage.read_range(bucket.uri("m/1"), data, start, start + (3 << 20))) for start in (0, 3 << 20, 6 << 20)]
    assert b"".join(parts) == content
    assert list(storage.read_range(bucket.uri("m/1"), data, 5, 5)) == []
    storage.delete(bucket.uri("m/1"), ["variables/data", "gone", "saved_model.pb"])
    with pytest.raises(NotFound):
        storage.tree(bucket.uri("m/1"))


def test_a_file_that_cannot_be_read_here_is_not_uploaded(bucket: Bucket, tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match=r"gone: No such file or directory"):
        S3Storage().upload(tmp_path / "gone", bucket.uri("m/1/x"), lambda _: None)


def test_a_file_that_has_changed_or_gone_since_it_was_listed_is_not_read(bucket: Bucket) -> None:
    bucket.put("m/1/x", b"old")
    storage = S3Storage()
    (file,) = storage.tree(bucket.uri("m/1")).files
    bucket.put("m/1/x", b"new")
    with pytest.raises(Aborted, match="m/1/x has changed since it was listed"):
        next(storage.read_range(bucket.uri("m/1"), file, 0, 3))
    bucket.client.delete_object(Bucket=bucket.name, Key="m/1/x")
    with pytest.raises(Aborted, match="m/1/x is gone since it was listed"):
        next(storage.read_range(bucket.uri("m/1"), file, 0, 3))


def test_a_whole_read_is_bounded(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_storage, "MAX_READ_BYTES", 3)
    bucket.put("m/1/x", b"1234")
    with pytest.raises(ResourceExhausted, match="larger than 3 bytes"):
        S3Storage().read(bucket.uri("m/1/x"))


def test_a_missing_object_and_an_empty_prefix_are_not_found(bucket: Bucket) -> None:
    storage = S3Storage()
    with pytest.raises(NotFound, match="there is no such object"):
        storage.read(bucket.uri("m/1/x"))
    with pytest.raises(NotFound, match=rf"bucket {bucket.name} has no keys under m/"):
        storage.children(bucket.uri("m"))


def test_a_missing_bucket_is_not_taken_for_an_empty_one(s3_server: S3Server, bucket: Bucket) -> None:
    with pytest.raises(FailedPrecondition, match=rf"S3 at {s3_server.url} has no bucket nowhere: create it, or correct"):
        S3Storage().children("s3://nowhere/m")


def test_what_ends_in_the_middle_is_unavailable_and_can_be_asked_for_again(bucket: Bucket, gate: FaultyGate) -> None:
    content = bytes(3 << 20)
    bucket.put("m/1/x", content)
    storage = S3Storage(impatient)
    (file,) = storage.tree(bucket.uri("m/1")).files
    gate.cut_after = 2 << 20
    with pytest.raises(Unavailable, match=r"m/1/x: S3 at http://127.0.0.1:\d+ broke off"):
        list(storage.read_range(bucket.uri("m/1"), file, 0, len(content)))
    gate.cut_after = None
    assert b"".join(storage.read_range(bucket.uri("m/1"), file, 0, len(content))) == content


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        ({"status": 500}, Unavailable, "answered 500 \\(InternalError\\)"),
        ({"status": 503}, ResourceExhausted, "asks for fewer requests \\(SlowDown\\)"),
        ({"stalled": True}, Unavailable, "has stopped answering"),
        ({"cut_after": 100}, Unavailable, "broke off in its headers"),
        ({"cut_after": 400}, Unavailable, "answered 500"),  # what the SDK makes of half a listing
    ],
)
def test_faults_of_the_store_are_named_and_pass(
    bucket: Bucket, gate: FaultyGate, fault: Mapping[str, Any], error: type[AspiredError], message: str
) -> None:
    bucket.put("m/1/x")
    storage = S3Storage(impatient)
    before = {name: getattr(gate, name) for name in fault}
    for name, value in fault.items():
        setattr(gate, name, value)
    with pytest.raises(error, match=message):
        storage.children(bucket.uri("m"))
    for name, value in before.items():
        setattr(gate, name, value)
    assert list(storage.children(bucket.uri("m"))) == ["1"]


@pytest.mark.parametrize("cut_after", [20, 60, 100])
def test_an_object_whose_headers_are_cut_is_not_taken_for_a_shorter_one(
    bucket: Bucket, gate: FaultyGate, cut_after: int
) -> None:
    bucket.put("m/1/x")
    storage = S3Storage(impatient)
    (file,) = storage.tree(bucket.uri("m/1")).files
    gate.cut_after = cut_after
    with pytest.raises(Unavailable):
        storage.read(bucket.uri("m/1/x"))
    with pytest.raises(Unavailable):
        list(storage.read_range(bucket.uri("m/1"), file, 0, 5))


def test_a_store_that_is_down_is_named_with_the_reason(bucket: Bucket, gate: FaultyGate) -> None:
    gate.shut()
    storage = S3Storage(impatient)
    with pytest.raises(Unavailable, match=rf"S3 at {gate.url} cannot be reached: Connection refused"):
        storage.children(bucket.uri("m"))


def test_without_tls_on_the_other_side_the_variables_are_named(
    s3_server: S3Server, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("S3_ENDPOINT", f"127.0.0.1:{s3_server.port}")
    with pytest.raises(Unavailable, match=r"TLS failed: .*S3_VERIFY_SSL=0 trusts any, S3_USE_HTTPS=0 does without TLS"):
        S3Storage(impatient).children(bucket.uri("m"))


@pytest.mark.parametrize(
    ("code", "status", "error", "says"),
    [
        (
            "InvalidAccessKeyId",
            403,
            Unauthenticated,
            "the access key is not known there (InvalidAccessKeyId); set AWS_ACCESS_KEY_ID",
        ),
        ("SignatureDoesNotMatch", 403, Unauthenticated, "the secret key does not belong to the access key"),
        ("ExpiredToken", 400, Unauthenticated, "the credentials have expired"),
        ("AccessDenied", 403, PermissionDenied, "s3:ListBucket on arn:aws:s3:::bucket must be allowed"),
        ("RequestTimeTooSkewed", 403, FailedPrecondition, "set the time of this machine"),
        ("PermanentRedirect", 301, FailedPrecondition, "bucket bucket is in region eu-west-1: set AWS_REGION=eu-west-1"),
        ("ServiceUnavailable", 503, Unavailable, "answered 503 (ServiceUnavailable)"),
        ("TooManyRequests", 429, ResourceExhausted, "asks for fewer requests"),
        ("NotImplemented", 501, Unavailable, "answered 501 (NotImplemented)"),
        ("MethodNotAllowed", 405, FailedPrecondition, "refuses ListObjectsV2: MethodNotAllowed (HTTP 405)"),
    ],
)
def test_refusals_say_what_to_do_and_never_what_was_signed(
    code: str, status: int, error: type[AspiredError], says: str
) -> None:
    class Client:
        class meta:  # noqa: N801
            endpoint_url = f"https://user:{SECRET}@store:9000"

        def list_objects_v2(self, **_: Any) -> None:
            metadata = {"HTTPStatusCode": status, "HTTPHeaders": {"x-amz-bucket-region": "eu-west-1"}}
            told = {"Code": code, "Message": f"https://bucket/?X-Amz-Signature=abc&key={SECRET}"}
            raise ClientError({"Error": told, "ResponseMetadata": metadata}, "ListObjectsV2")

    with pytest.raises(error) as refused:
        S3Storage(Client).children("s3://bucket/m")
    assert says in refused.value.message
    assert "S3 at https://store:9000" in refused.value.message
    assert SECRET not in refused.value.message
    assert "X-Amz" not in refused.value.message


def test_without_credentials_the_variables_are_named(
    s3_server: S3Server, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    credentials = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(credentials))
    monkeypatch.setattr(s3_storage, "_CLIENT_LIFE_S", 0.0)
    bucket.put("m/1/x")
    storage = S3Storage()
    with pytest.raises(Unauthenticated, match="there are no credentials for S3: set AWS_ACCESS_KEY_ID"):
        storage.children(bucket.uri("m"))
    credentials.write_text(f"[default]\naws_access_key_id = test\naws_secret_access_key = {SECRET}\n")
    assert list(storage.children(bucket.uri("m"))) == ["1"], "what has been put into the SDK's files since is found"


@pytest.mark.parametrize(
    ("variable", "value", "error", "says"),
    [
        ("AWS_PROFILE", "nobody", Unauthenticated, r"\(nobody\) could not be found: correct AWS_PROFILE"),
        ("S3_ENDPOINT", "http://[", FailedPrecondition, "S3_ENDPOINT .* is no URL"),
        ("AWS_REGION", "not a region", FailedPrecondition, "is no name of a region"),
    ],
)
def test_a_client_that_cannot_be_made_says_which_variable_is_wrong(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, error: type[AspiredError], says: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(error, match=says):
        S3Storage().children(bucket.uri("m"))


def test_nothing_that_is_logged_holds_a_credential(bucket: Bucket, gate: FaultyGate, caplog: pytest.LogCaptureFixture) -> None:
    bucket.put("m/1/x")
    storage = S3Storage(impatient)
    with caplog.at_level(logging.INFO):
        storage.tree(bucket.uri("m/1"))
        gate.status = 500
        with pytest.raises(Unavailable):
            storage.tree(bucket.uri("m/1"))
        gate.shut()
        with pytest.raises(Unavailable):
            storage.read_range(bucket.uri("m/1"), StoredFile("x", 5, '"e"'), 0, 5).__next__()
    assert SECRET not in caplog.text
    assert "Signature" not in caplog.text
