from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from cluster.core.errors import FailedPrecondition, NotFound, PermissionDenied, Unimplemented
from cluster.sources.storage import LocalStorage


@pytest.fixture
def version(tmp_path: Path) -> Path:
    directory = tmp_path / "m" / "1"
    (directory / "variables").mkdir(parents=True)
    (directory / "saved_model.pb").write_bytes(b"x" * 100)
    (directory / "variables" / "variables.index").write_bytes(b"y" * 20)
    return directory


def fingerprint(path: Path) -> str:
    return LocalStorage().tree(str(path)).fingerprint


def test_counts_bytes_and_entries_of_the_whole_tree(version: Path) -> None:
    tree = LocalStorage().tree(str(version))
    assert tree.size_bytes == 120
    assert tree.entries == 4  # itself, a directory and two files


@pytest.mark.parametrize(
    "change",
    [
        lambda path: (path / "saved_model.pb").write_bytes(b"x" * 101),
        lambda path: os.utime(path / "variables" / "variables.index", ns=(1, 1)),
        lambda path: (path / "saved_model.pb").rename(path / "saved_model.pbtxt"),
        lambda path: (path / "assets").mkdir(),
        lambda path: (path / "variables" / "variables.index").unlink(),
    ],
    ids=["size", "time", "name", "directory", "deletion"],
)
def test_the_fingerprint_changes_with_any_file(version: Path, change: object) -> None:
    before = fingerprint(version)
    assert callable(change)
    change(version)
    assert fingerprint(version) != before


def test_the_fingerprint_does_not_depend_on_where_the_tree_lies(version: Path) -> None:
    before = fingerprint(version)
    moved = version.rename(version.with_name("2"))
    assert fingerprint(moved) == before


def test_the_fingerprint_survives_a_second_hard_link(version: Path) -> None:
    # Backups link files; what is served has not changed.
    before = fingerprint(version)
    os.link(version / "saved_model.pb", version.parent / "backup.pb")
    assert fingerprint(version) == before


def test_a_copy_that_keeps_its_times_is_as_young_as_its_arrival(version: Path) -> None:
    for path in (version / "saved_model.pb", version / "variables" / "variables.index", version / "variables", version):
        os.utime(path, (1, 1))
    age_s = LocalStorage().tree(str(version)).age_s
    assert age_s is not None
    assert age_s < time.time() - 1e9  # by the times of modification it would be from 1970


def test_a_version_that_is_a_file_is_one_entry(tmp_path: Path) -> None:
    (tmp_path / "1").write_bytes(b"abc")
    tree = LocalStorage().tree(str(tmp_path / "1"))
    assert (tree.size_bytes, tree.entries) == (3, 1)


def test_links_are_followed_and_a_new_target_is_a_change(version: Path, tmp_path: Path) -> None:
    for name in ("blue", "green"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "data").write_bytes(b"1234567890")
        os.utime(tmp_path / name / "data", ns=(5, 5))
    link = version / "assets"
    link.symlink_to(tmp_path / "blue")
    first = LocalStorage().tree(str(version))
    assert first.size_bytes == 130
    link.unlink()
    link.symlink_to(tmp_path / "green")
    assert fingerprint(version) != first.fingerprint


def test_links_in_a_circle_and_links_to_nowhere_do_no_harm(version: Path) -> None:
    (version / "loop").symlink_to(version)
    (version / "self").symlink_to(version / "self")
    (version / "nowhere").symlink_to(version / "missing")
    assert LocalStorage().tree(str(version)).size_bytes == 120


def test_names_that_are_not_utf8_do_no_harm(version: Path) -> None:
    with open(os.fsencode(version) + b"/\xff", "wb") as file:
        file.write(b"1")
    assert LocalStorage().tree(str(version)).size_bytes == 121


def test_file_uris_are_paths(version: Path) -> None:
    storage = LocalStorage()
    uri = f"file://{version.parent}"
    assert list(storage.children(uri)) == ["1"]
    assert storage.join(uri, "1") == str(version)


def test_a_base_path_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(b"")
    with pytest.raises(FailedPrecondition, match=f"{tmp_path}/m: Not a directory"):
        LocalStorage().children(str(tmp_path / "m"))


def test_other_schemes_are_refused_by_name() -> None:
    with pytest.raises(Unimplemented, match="s3://bucket/m: no storage can read s3:// paths"):
        LocalStorage().children("s3://bucket/m")


def test_a_missing_version_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="No such file or directory"):
        LocalStorage().tree(str(tmp_path / "7"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_directory_that_may_not_be_read_is_permission_denied(version: Path) -> None:
    version.chmod(0)
    try:
        with pytest.raises(PermissionDenied, match="Permission denied"):
            LocalStorage().tree(str(version))
    finally:
        version.chmod(0o755)
