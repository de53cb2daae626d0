from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from cluster.core.errors import Aborted, FailedPrecondition, NotFound, PermissionDenied, Unavailable, Unimplemented
from cluster.storage.local_storage import LocalStorage
from cluster.storage.version_manifest import CLAIM_PREFIX


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


def test_the_files_of_a_tree_can_be_read_in_parts(version: Path) -> None:
    storage = LocalStorage()
    tree = storage.tree(str(version))
    assert [file.name for file in tree.files] == ["saved_model.pb", "variables/variables.index"]
    file = tree.files[1]
    assert b"".join(storage.read_range(str(version), file, 0, file.size_bytes)) == b"y" * 20
    assert b"".join(storage.read_range(str(version), file, 5, 8)) == b"yyy"
    assert storage.read(str(version / "saved_model.pb")) == b"x" * 100


def test_a_file_that_has_changed_since_it_was_listed_is_not_read(version: Path) -> None:
    storage = LocalStorage()
    file = storage.tree(str(version)).files[0]
    os.utime(version / file.name, ns=(1, 1))
    with pytest.raises(Aborted, match="has changed since it was listed"):
        next(storage.read_range(str(version), file, 0, 1))


def test_a_file_that_ends_early_is_unavailable(version: Path) -> None:
    storage = LocalStorage()
    file = storage.tree(str(version)).files[0]
    with pytest.raises(Unavailable, match="ends at 100 bytes"):
        list(storage.read_range(str(version), file, 90, 110))


def test_writes_all_or_nothing_and_deletes_what_it_is_told(tmp_path: Path) -> None:
    storage = LocalStorage()
    version = tmp_path / "m" / "3"
    source = tmp_path / "export"
    source.write_bytes(b"graph")
    sent: list[int] = []
    storage.upload(source, str(version / "saved_model.pb"), sent.append)
    storage.write(str(version / "variables" / "index"), b"1")
    storage.write(str(version / "variables" / "index"), b"22")
    assert sum(sent) == 5
    assert {file.name: file.size_bytes for file in storage.tree(str(version)).files} == {
        "saved_model.pb": 5,
        "variables/index": 2,
    }
    storage.delete(str(version), ["variables/index", "gone"])
    assert [file.name for file in storage.tree(str(version)).files] == ["saved_model.pb"]
    storage.delete(str(version), ["saved_model.pb"])
    assert not version.exists()


def test_a_claim_does_not_change_the_fingerprint(version: Path) -> None:
    before = fingerprint(version)
    (version / f"{CLAIM_PREFIX}one").write_bytes(b"")
    assert fingerprint(version) == before
