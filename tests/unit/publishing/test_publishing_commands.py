"""`aspired publish`, `versions`, `pull` and `unpublish`: what they print, and where."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from cluster.main import main
from cluster.publishing_report import size_text
from cluster.storage.version_manifest import CLAIM_PREFIX
from cluster.terminal import Terminal
from tests.fakes.exports import write_export
from tests.fakes.status_server import StatusServer
from tests.unit.publishing.conftest import Place

SIGNATURES = (
    "SIGNATURE        TENSOR  NAME  TYPE   SHAPE\n"
    "serving_default  input   x     float  (?, 3)\n"
    "serving_default  output  y     float  any\n"
    "\n"
)


@dataclass
class Outcome:
    status: int
    out: str
    err: str


class TerminalFile(io.StringIO):
    """A file that says it is a terminal."""

    def isatty(self) -> bool:
        return True


class InterruptedTerminal(Terminal):
    """Somebody presses Ctrl-C as soon as there is progress."""

    @contextmanager
    def progress(self) -> Iterator[Callable[[str, int, int], None]]:
        def show(text: str, done: int, total: int) -> None:
            raise KeyboardInterrupt

        yield show


def run(*arguments: object, files: type[io.StringIO] = io.StringIO, terminal: type[Terminal] = Terminal) -> Outcome:
    out, err = files(), files()
    status = main([str(argument) for argument in arguments], terminal=terminal(out, err))
    return Outcome(status, out.getvalue(), err.getvalue())


class TestPublish:
    def test_shows_the_signatures_and_where_the_version_is(self, place: Place, export: Path) -> None:
        outcome = run("publish", export, place.base_path)
        assert outcome.status == 0
        assert re.fullmatch(
            re.escape(SIGNATURES) + rf"Published version 1 in {place.base_path}/1: 5 files, \d+ B, after \d\.\d s\.\n",
            outcome.out,
        )
        assert re.fullmatch(r"Uploading version 1: 5 files, \d+ B \.\.\.\n", outcome.err)

    def test_waits_for_a_server_and_keeps_so_many(self, local_place: Place, export: Path, model_server: StatusServer) -> None:
        for _ in range(3):
            run("publish", export, local_place.base_path)
        model_server.states = lambda: {1: "AVAILABLE", 4: "AVAILABLE"}
        command = ("publish", export, local_place.base_path, "--version=4", "--wait", model_server.url, "--keep=1")
        outcome = run(*command)
        assert outcome.out.endswith(f"\n{model_server.url} has it AVAILABLE.\nDeleted versions 2, 3.\n")
        assert outcome.err.endswith(
            f"Version 4 is published; waiting for {model_server.url} ...\nKept version 1 besides: the server has it.\n"
        )

    def test_json_is_one_object(self, local_place: Place, export: Path) -> None:
        outcome = run("publish", export, local_place.base_path, "--annotate=commit=a=b", "--keep=3", "--json")
        document = json.loads(outcome.out)
        assert (document["version"], document["path"], document["files"]) == (1, f"{local_place.base_path}/1", 5)
        assert document["signatures"]["serving_default"] == {
            "method_name": "tensorflow/serving/predict",
            "inputs": {"x": {"dtype": "DT_FLOAT", "shape": [-1, 3]}},
            "outputs": {"y": {"dtype": "DT_FLOAT", "shape": None}},
        }
        assert document["removed"] == {"versions": [], "kept_served": [], "server_asked": False}
        (version,) = json.loads(run("versions", local_place.base_path, "--json").out)
        assert version["annotations"] == {"commit": "a=b"}

    def test_a_dry_run_writes_nothing(self, place: Place, export: Path) -> None:
        outcome = run("publish", export, place.base_path, "--dry-run")
        assert outcome.out.startswith(SIGNATURES)
        assert f"Would publish version 1 in {place.base_path}/1: 5 files" in outcome.out
        assert json.loads(run("publish", export, place.base_path, "--dry_run", "--json").out)["dry_run"] is True
        assert place.names() == set()

    def test_ctrl_c_says_that_nothing_is_left(self, place: Place, export: Path) -> None:
        outcome = run("publish", export, place.base_path, terminal=InterruptedTerminal)
        assert (outcome.status, outcome.out) == (130, "")
        assert outcome.err == "What was written of version 1 has been removed.\n"
        assert place.names() == set()

    def test_draws_a_bar_on_a_terminal(self, local_place: Place, export: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in (("TERM", "xterm-256color"), ("COLUMNS", "120")):
            monkeypatch.setenv(name, value)
        outcome = run("publish", export, local_place.base_path, files=TerminalFile)
        assert "Uploading version 1" in outcome.err
        assert "━" in outcome.err

    @pytest.mark.parametrize(
        ("arguments", "status", "message"),
        [
            (["--annotate=commit"], 2, "--annotate=commit: expected KEY=VALUE, as in --annotate=accuracy=0.93"),
            (["--model=m"], 2, "--model is the name on the server that --wait names: add --wait=URL, or leave it out"),
            (["--keep=0"], 2, "Invalid value for '--keep': 0 is not in the range x>=1."),
            (["--version=1"], 1, "{base}/1 exists already: leave the number out to get the next one"),
            (["--wait=here"], 1, ""),
        ],
    )
    def test_what_cannot_be_done_is_one_line(
        self, local_place: Place, export: Path, arguments: list[str], status: int, message: str
    ) -> None:
        local_place.put("1/saved_model.pb", b"")
        outcome = run("publish", export, local_place.base_path, *arguments)
        assert (outcome.status, outcome.out) == (status, "")
        assert outcome.err.startswith(f"aspired: error: {message.format(base=local_place.base_path)}")
        assert len(outcome.err.splitlines()) == 1

    def test_a_remark_is_a_warning(self, local_place: Place, tmp_path: Path) -> None:
        outcome = run("publish", write_export(tmp_path / "export", tags=("serve", "gpu")), local_place.base_path)
        assert outcome.status == 0
        assert "aspired: warning: No graph has the tag {serve} alone" in outcome.err


class TestVersions:
    def test_shows_a_row_for_each(self, place: Place, export: Path) -> None:
        run("publish", export, place.base_path, "--annotate=commit=abc", "--annotate=accuracy=0.93")
        run("publish", export, place.base_path)
        place.delete("2/saved_model.pb")
        place.put("3/saved_model.pb", b"12345")
        outcome = run("versions", place.base_path)
        assert (outcome.status, outcome.err) == (0, "")
        heading, third, second, first = (re.split(r"\s{2,}", line) for line in outcome.out.splitlines())
        assert heading == ["VERSION", "STATE", "FILES", "SIZE", "PUBLISHED", "BY", "ANNOTATIONS"]
        assert third == ["3", "unmanifested", "1", "5 B", "-", "-", "-"]
        assert second[:3] == ["2", "broken: saved_model.pb is missing", "4"]
        assert (first[1], first[-1]) == ("published", "accuracy=0.93, commit=abc")

    def test_shows_what_a_server_makes_of_them(self, local_place: Place, export: Path, model_server: StatusServer) -> None:
        for _ in range(3):
            run("publish", export, local_place.base_path)
        model_server.states = lambda: {1: "AVAILABLE", 2: "END"}
        model_server.errors = {2: "not a\nSavedModel"}
        rows = run("versions", local_place.base_path, "--server", model_server.url).out.splitlines()
        assert [re.split(r"\s{2,}", row)[2] for row in rows] == ["SERVED", "-", "END: not a SavedModel", "AVAILABLE"]
        told = json.loads(run("versions", local_place.base_path, "--server", model_server.url, "--json").out)
        assert [version["served"] for version in told] == [None, "END", "AVAILABLE"]

    def test_a_base_path_that_is_not_there_is_one_line(self, tmp_path: Path) -> None:
        outcome = run("versions", tmp_path / "m")
        assert (outcome.status, outcome.err) == (1, f"aspired: error: {tmp_path}/m: No such file or directory\n")


class TestPull:
    def test_says_what_it_has_verified(self, place: Place, export: Path, tmp_path: Path) -> None:
        run("publish", export, place.base_path)
        outcome = run("pull", place.base_path, tmp_path / "pulled")
        assert outcome.status == 0
        assert re.fullmatch(rf"Pulled version 1 to {tmp_path}/pulled: 5 files, \d+ B; every checksum is right\.\n", outcome.out)
        assert json.loads(run("pull", place.base_path, tmp_path / "again", "--json").out)["verified"] is True


class TestUnpublish:
    def test_says_what_it_deleted_and_what_it_does_not_know(self, local_place: Place, export: Path) -> None:
        for _ in range(3):
            run("publish", export, local_place.base_path)
        dry = run("unpublish", local_place.base_path, 1, "--dry-run")
        assert dry.out == "Would delete version 1.\n"
        outcome = run("unpublish", local_place.base_path, 1)
        assert (outcome.status, outcome.out) == (0, "Deleted version 1.\n")
        assert outcome.err == "No server was asked whether it serves what was deleted: name one to have it asked.\n"
        assert run("unpublish", local_place.base_path, "--keep=2").out == "Nothing to delete.\n"
        assert json.loads(run("unpublish", local_place.base_path, 3, "--force", "--json").out)["versions"] == [3]

    def test_the_newest_is_refused(self, local_place: Place, export: Path) -> None:
        run("publish", export, local_place.base_path)
        outcome = run("unpublish", local_place.base_path, 1)
        assert outcome.status == 1
        assert outcome.err.startswith("aspired: error: Version 1 is the newest whole one, which servers load: name a server")

    def test_nothing_to_be_done_is_a_wrong_command_line(self, local_place: Place) -> None:
        outcome = run("unpublish", local_place.base_path)
        assert outcome.status == 2
        assert outcome.err.startswith("aspired: error: say which versions to delete")

    def test_removes_what_a_dead_publisher_left(self, place: Place) -> None:
        place.put(f"{'.aspired-publishing-' if place.local else ''}4/{CLAIM_PREFIX}x", b"{}")
        assert run("unpublish", place.base_path, 4).status == 0
        assert not any(CLAIM_PREFIX in name for name in place.names())


@pytest.mark.parametrize("command", ["publish", "versions", "pull", "unpublish"])
def test_help_teaches_by_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(command, "--help").status == 0
    assert f"\n    aspired {command} s3://" in capsys.readouterr().out.replace("./export ", "")


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 KB"), (23_100, "23.1 KB"), (999_960, "1.0 MB"), (3 * 10**9, "3.0 GB")],
)
def test_sizes_are_short(size_bytes: int, text: str) -> None:
    assert size_text(size_bytes) == text
