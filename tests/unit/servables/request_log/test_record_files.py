"""Files of records: whole, rotated, renamed when complete, bounded together."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from servables.request_log import record_files
from servables.request_log.record_files import FileLimits, LogFile, RecordFiles, files_to_delete, find_log_files
from servables.tf_record import encode_record, read_records
from tests.fakes.manual_clock import ManualClock

RECORD = encode_record(b"x" * 84)  # 100 bytes
FIRST = "m-20260101T000000Z-f1-1.tfrecord"
NEW_YEAR_S = 1767225600.0


class World:
    def __init__(self, directory: Path, frontend: str = "f1", **limits: float) -> None:
        self.directory = directory / "logs"
        self.prefix = str(self.directory / "m")
        self.clock = ManualClock(NEW_YEAR_S)
        self.files = RecordFiles(self.prefix, frontend, FileLimits(**limits), self.clock)  # type: ignore[arg-type]

    def names(self) -> list[str]:
        return sorted(os.listdir(self.directory))

    def records(self, name: str) -> list[bytes]:
        with open(self.directory / name, "rb") as file:
            return list(read_records(file))


def test_a_file_has_its_name_once_it_is_complete(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.files.write(RECORD)
    world.files.write(RECORD)
    assert world.names() == [f"{FIRST}.partial"]
    world.files.complete()
    assert world.names() == [FIRST]
    assert world.records(FIRST) == [b"x" * 84] * 2


def test_nothing_written_makes_no_file(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.files.complete()
    assert not world.directory.exists()


def test_a_file_is_complete_before_it_grows_beyond_its_size(tmp_path: Path) -> None:
    world = World(tmp_path, max_file_bytes=250)
    for _ in range(5):
        world.files.write(RECORD)
    second, third = FIRST.replace("f1-1", "f1-2"), FIRST.replace("f1-1", "f1-3")
    assert world.names() == [FIRST, second, f"{third}.partial"]
    assert len(world.records(second)) == 2


def test_a_record_larger_than_a_file_gets_one_for_itself(tmp_path: Path) -> None:
    world = World(tmp_path, max_file_bytes=50)
    world.files.write(RECORD)
    world.files.write(RECORD)
    assert len(world.names()) == 2


def test_a_file_is_due_when_it_is_old_enough(tmp_path: Path) -> None:
    world = World(tmp_path, max_file_age_s=60.0)
    assert world.files.due_at() is None
    world.files.write(RECORD)
    assert world.files.due_at() == NEW_YEAR_S + 60
    world.clock.advance(60)
    world.files.complete()
    assert world.files.due_at() is None
    world.files.write(RECORD)
    world.files.complete()
    assert world.names() == [FIRST, "m-20260101T000100Z-f1-2.tfrecord"]


def test_the_oldest_files_go_when_all_are_too_large_whoever_wrote_them(tmp_path: Path) -> None:
    world = World(tmp_path, max_total_bytes=250)
    other = World(tmp_path, frontend="f2", max_total_bytes=250)
    for files in (other.files, world.files, world.files):
        files.write(RECORD)
        files.complete()
    foreign = world.directory / "m-notes.txt"
    foreign.write_bytes(b"x" * 1000)
    other.clock.advance(60)
    other.files.write(RECORD)
    other.files.complete()
    assert world.names() == ["m-20260101T000000Z-f2-1.tfrecord", "m-20260101T000100Z-f2-2.tfrecord", foreign.name]


def test_files_of_a_longer_prefix_are_no_files_of_this_one(tmp_path: Path) -> None:
    world = World(tmp_path)
    (tmp_path / "logs").mkdir()
    (world.directory / "m-2-20260101T000000Z-f1-1.tfrecord").write_bytes(b"")
    assert find_log_files(world.prefix, 0.0) == []


def test_a_record_that_does_not_fit_on_the_disk_leaves_no_trace_and_the_next_one_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path)
    world.files.write(RECORD)
    fill_disk_during_write(world, monkeypatch)
    world.files.write(RECORD)
    world.files.complete()
    assert world.records(FIRST) == [b"x" * 84] * 2


def test_a_file_without_a_record_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path)
    fill_disk_during_write(world, monkeypatch)
    world.files.complete()
    assert world.names() == []


def test_what_a_frontend_may_be_writing_is_never_deleted() -> None:
    limits = FileLimits(max_total_bytes=100, max_file_age_s=60.0)
    dead = log_file("a", partial=True, quiet_s=121.0)
    alive = log_file("b", partial=True, quiet_s=119.0)
    complete = log_file("c")
    assert files_to_delete([dead, alive, complete], limits) == [dead, complete]


def log_file(name: str, *, partial: bool = False, quiet_s: float = 0.0) -> LogFile:
    return LogFile(Path(name), "20260101T000000Z", 100, partial, quiet_s)


def fill_disk_during_write(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writes a record of which 40 bytes find room."""
    room, write = 40, os.write

    def write_some(descriptor: int, data: memoryview) -> int:
        nonlocal room
        if not room:
            raise OSError(28, "No space left on device")
        written = write(descriptor, data[:room])
        room -= written
        return written

    with monkeypatch.context() as full:
        full.setattr(record_files.os, "write", write_some)
        with pytest.raises(OSError, match="No space"):
            world.files.write(RECORD)
