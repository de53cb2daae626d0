"""What is refused before anything is written, and what the error says to do."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from google.protobuf import text_format

from cluster.core.errors import AspiredError, FailedPrecondition, InvalidArgument, NotFound, PermissionDenied
from cluster.protos import SavedModel
from cluster.publishing.export import read_export
from cluster.storage.version_manifest import CLAIM_PREFIX, MANIFEST_NAME
from tests.fakes.exports import X, Y, write_export


def test_finds_the_files_and_the_signatures(export: Path) -> None:
    found = read_export(export)
    assert [file.name for file in found.files] == [
        "assets/words-0.txt",
        "assets/words-1.txt",
        "saved_model.pb",
        "variables/variables.data-00000-of-00001",
        "variables/variables.index",
    ]
    assert found.size_bytes == sum(path.stat().st_size for path in export.rglob("*") if path.is_file())
    assert found.platform == "tensorflow"
    assert list(found.signatures) == ["serving_default"]
    assert (found.signatures["serving_default"].inputs, found.signatures["serving_default"].outputs) == ({"x": X}, {"y": Y})
    assert found.remarks == ()


def test_reads_the_text_form_too(export: Path) -> None:
    saved_model = SavedModel.FromString((export / "saved_model.pb").read_bytes())
    (export / "saved_model.pbtxt").write_text("unheard_of: 3\n" + text_format.MessageToString(saved_model))
    (export / "saved_model.pb").unlink()
    assert list(read_export(export).signatures) == ["serving_default"]


def second_shard_is_missing(export: Path) -> None:
    shard = export / "variables" / "variables.data-00000-of-00001"
    shard.rename(shard.with_name("variables.data-00000-of-00002"))


def two_exports_are_mixed(export: Path) -> None:
    (export / "variables" / "variables.data-00000-of-00002").write_bytes(b"v")


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (lambda export: (export / "saved_model.pb").write_bytes(b"\xff\xff"), InvalidArgument, "it cannot be parsed"),
        (lambda export: (export / "saved_model.pb").write_bytes(b""), InvalidArgument, "holds no graph"),
        (
            lambda export: (export / "variables" / "variables.index").unlink(),
            FailedPrecondition,
            "variables/variables.index is missing, and the graph has variables",
        ),
        (
            lambda export: (export / "variables" / "variables.data-00000-of-00001").unlink(),
            FailedPrecondition,
            "variables.data-00000-of-00001 is missing",
        ),
        (second_shard_is_missing, FailedPrecondition, "variables.data-00001-of-00002 is missing, one of 2 parts"),
        (two_exports_are_mixed, FailedPrecondition, "is of several exports, with 1 and 2 parts"),
        (
            lambda export: (export / "assets" / "words-1.txt").unlink(),
            FailedPrecondition,
            "assets/words-1.txt is missing, which the graph reads",
        ),
        (lambda export: (export / "a\\b").touch(), InvalidArgument, "must not have a backslash"),
        (lambda export: os.mkfifo(export / "pipe"), FailedPrecondition, "neither a file nor a directory"),
        (lambda export: (export / "link").symlink_to("nowhere"), FailedPrecondition, "is a link that leads nowhere"),
        (lambda export: (export / "assets" / "up").symlink_to(export), FailedPrecondition, "a directory that it lies in"),
    ],
)
def test_an_export_that_is_not_whole_is_refused(
    export: Path, spoil: Callable[[Path], object], error: type[AspiredError], message: str
) -> None:
    spoil(export)
    with pytest.raises(error) as caught:
        read_export(export)
    assert message in caught.value.message


def test_an_empty_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there is nothing to publish"):
        read_export(tmp_path)
    with pytest.raises(NotFound, match="there is no such directory"):
        read_export(tmp_path / "missing")


def test_a_base_path_is_refused_and_the_newest_version_named(tmp_path: Path) -> None:
    for version in ("2", "10", "9"):
        write_export(tmp_path / "m" / version)
    with pytest.raises(FailedPrecondition) as caught:
        read_export(tmp_path / "m")
    assert caught.value.message.endswith(f"give one of them, as in {tmp_path}/m/10")


def test_a_directory_above_the_export_is_refused_and_the_export_named(tmp_path: Path) -> None:
    write_export(tmp_path / "run" / "saved")
    with pytest.raises(FailedPrecondition, match=f"there is one in {tmp_path}/run/saved"):
        read_export(tmp_path / "run")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_cannot_be_read_is_named(export: Path) -> None:
    (export / "saved_model.pb").chmod(0)
    with pytest.raises(PermissionDenied, match=r"saved_model.pb cannot be read"):
        read_export(export)


def test_links_are_followed_wherever_they_lead(export: Path, tmp_path: Path) -> None:
    blob = tmp_path / "blob"
    (export / "saved_model.pb").rename(blob)
    (export / "saved_model.pb").symlink_to(blob)
    assert "saved_model.pb" in {file.name for file in read_export(export).files}


def test_what_an_earlier_publication_left_is_not_published_again(export: Path) -> None:
    (export / MANIFEST_NAME).write_bytes(b"{}")
    (export / f"{CLAIM_PREFIX}x").write_bytes(b"{}")
    assert len(read_export(export).files) == 5


def test_remarks_on_graphs_that_a_server_does_not_look_for(tmp_path: Path) -> None:
    (remark,) = read_export(write_export(tmp_path / "export", tags=("serve", "gpu"))).remarks
    assert "--saved_model_tags for {gpu, serve}" in remark


class TestOtherPlatforms:
    def test_a_tflite_model_is_recognized(self, tmp_path: Path) -> None:
        (tmp_path / "model.tflite").write_bytes(b"\x1c\0\0\0TFL3....")
        assert read_export(tmp_path).platform == "tflite"

    def test_a_file_of_that_name_is_not_enough(self, tmp_path: Path) -> None:
        (tmp_path / "model.tflite").write_bytes(b"something else")
        with pytest.raises(InvalidArgument, match="is not a TFLite model"):
            read_export(tmp_path)

    def test_files_of_no_known_platform_need_its_name(self, tmp_path: Path) -> None:
        (tmp_path / "hashmap.csv").write_bytes(b"a,b\n")
        with pytest.raises(FailedPrecondition, match="--platform"):
            read_export(tmp_path)
        assert read_export(tmp_path, "hashmap").platform == "hashmap"

    def test_a_named_platform_must_be_what_is_there(self, export: Path) -> None:
        with pytest.raises(FailedPrecondition, match=r"model\.tflite"):
            read_export(export, "tflite")
