"""Logged requests become a version's warm-up file."""

from __future__ import annotations

import io
import re
import shlex
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner

from cluster.config.model_config import parse_model_server_config
from cluster.core.errors import DataLoss, InvalidArgument, NotFound
from servables.tf_record import encode_record, read_records
from servables.warmup.warmup_file import main, write_warmup_file

ROOT = Path(__file__).parents[4]


class World:
    def __init__(self, directory: Path) -> None:
        self.logs = directory / "logs"
        self.logs.mkdir()
        self.prefix = str(self.logs / "m")
        self.version = directory / "m" / "2"
        self.file = self.version / "assets.extra" / "tf_serving_warmup_requests"

    def log(self, minute: int, *records: bytes, suffix: str = "") -> Path:
        path = Path(f"{self.prefix}-20260101T00{minute:02}00Z-f1-1.tfrecord{suffix}")
        path.write_bytes(b"".join(map(encode_record, records)))
        return path

    def write(self, max_records: int = 1000) -> int:
        return write_warmup_file(self.prefix, str(self.version), max_records)

    def written(self) -> list[bytes]:
        return list(read_records(io.BytesIO(self.file.read_bytes())))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_takes_all_complete_files_in_their_order(world: World) -> None:
    world.log(2, b"c", b"d")
    world.log(1, b"a", b"b")
    world.log(3, b"unfinished", suffix=".partial")
    assert world.write() == 4
    assert world.written() == [b"a", b"b", b"c", b"d"]


def test_takes_the_newest_of_too_many(world: World) -> None:
    world.log(1, b"a", b"b", b"c")
    world.log(2, b"d")
    assert world.write(max_records=3) == 3
    assert world.written() == [b"b", b"c", b"d"]


def test_a_file_that_is_there_is_replaced_by_one_that_everybody_can_read(world: World) -> None:
    world.log(1, b"a")
    world.file.parent.mkdir(parents=True)
    world.file.write_bytes(b"old")
    world.write()
    assert [path.name for path in world.file.parent.iterdir()] == [world.file.name]
    assert stat.filemode(world.file.stat().st_mode) == "-rw-r--r--"


def test_without_records_nothing_is_written(world: World) -> None:
    world.log(1, b"unfinished", suffix=".partial")
    with pytest.raises(NotFound, match="there are no complete files with records"):
        world.write()
    assert not world.file.exists()


def test_a_damaged_file_is_named(world: World) -> None:
    path = world.log(1, b"a")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataLoss, match=rf"^{re.escape(str(path))}: truncated record at 0$"):
        world.write()


def test_a_directory_that_is_missing_is_named(world: World) -> None:
    world.prefix = "/missing/m"
    with pytest.raises(InvalidArgument, match=r"^/missing: No such file or directory$"):
        world.write()


def test_the_command_tells_what_it_wrote_or_why_not_in_one_line(world: World) -> None:
    arguments = [f"--filename_prefix={world.prefix}", f"--version={world.version}"]
    refused = CliRunner().invoke(main, arguments)
    assert refused.exit_code == 1
    assert refused.stderr == f"Error: {world.prefix}-*.tfrecord: there are no complete files with records\n"
    world.log(1, b"a")
    done = CliRunner().invoke(main, arguments)
    assert (done.exit_code, done.stdout) == (0, f"{world.file}: 1 requests\n")


def test_the_page_about_it_shows_a_config_and_a_command_that_work(world: World) -> None:
    page = (ROOT / "docs" / "request-logging.md").read_text()
    (config,) = re.findall(r"```\n(.*?)```", page, flags=re.DOTALL)[:1]
    (model,) = parse_model_server_config(config, "the page").models
    assert model.request_logging is not None
    (command,) = re.findall(r"```sh\n(python -m servables\.warmup\.warmup_file .*?)```", page, flags=re.DOTALL)
    flags = shlex.split(command)[3:]
    assert f"--filename_prefix={model.request_logging.filename_prefix}" in flags
    world.log(1, b"a")
    done = CliRunner().invoke(main, [*flags, f"--filename_prefix={world.prefix}", f"--version={world.version}"])
    assert done.exit_code == 0
