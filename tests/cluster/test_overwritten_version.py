"""The files of the version that serves are replaced by another model's, and clients notice nothing but other answers."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.aspired_server import AspiredServer, Load, pids_of, wait_until

pytestmark = pytest.mark.timeout(300)

APPLICATION = "default.half_plus_two.1"


def files_of(export: Path) -> list[Path]:
    return sorted(path.relative_to(export) for path in export.rglob("*") if path.is_file())


def by_rename(export: Path, version: Path) -> None:
    """Each file is written beside the one that it replaces, and renamed."""
    for name in files_of(export):
        beside = version / f"{name}.new"
        shutil.copyfile(export / name, beside)
        beside.replace(version / name)


def slowly(export: Path, version: Path) -> None:
    """A plain copy over what is there, which takes longer than one look at the files."""
    for name in files_of(export):
        content = (export / name).read_bytes()
        with (version / name).open("wb", buffering=0) as file:
            for start in range(0, len(content), 1 + len(content) // 4):
                file.write(content[start : start + 1 + len(content) // 4])
                time.sleep(0.2)


def replicas(server: AspiredServer, copy: int) -> dict[int, str]:
    """The processes of one copy of version 1."""
    name = f"{APPLICATION}.{copy}" if copy else APPLICATION
    return pids_of(server.state, f"ray::ServeReplica:{name}:")


def told(server: AspiredServer) -> dict[str, Any]:
    """What `aspired status` says of version 1."""
    ((version,),) = (model["versions"] for model in server.status()["models"])
    return dict(version)


@pytest.mark.parametrize(
    ("overwrite", "offset", "copy"), [(by_rename, 2, 1), (slowly, 3, 2)], ids=["by renaming files", "by a slow copy"]
)
def test_newer_files_are_served_without_a_failed_request(
    server: AspiredServer, exports: Path, models: Path, overwrite: Callable[[Path, Path], None], offset: int, copy: int
) -> None:
    before, now = offset - 1.0, float(offset)
    with Load(named=1.0).running(server, 4, 4) as load:
        load.wait_for_answers(before)
        overwrite(exports / str(offset), models / "half_plus_two" / "1")
        load.wait_for_answers(now)
        wait_until(lambda: not replicas(server, copy - 1), what="end of the older copy's processes")
        assert server.states("half_plus_two") == {1: "AVAILABLE"}
        load.wait_for_answers(now)
    assert load.failures == []
    assert set(load.answers) == {before, now}
    assert load.last_sent[before] <= load.first_answered[now], "nothing older answers once the newer copy has"
    assert replicas(server, copy)
    status = told(server)
    assert (status["code"], status["message"], status["replicas_ready"]) == ("OK", "", 1)


def test_newer_files_that_cannot_be_loaded_leave_the_older_copy_and_are_told(
    server: AspiredServer, exports: Path, models: Path
) -> None:
    graph = models / "half_plus_two" / "1" / "saved_model.pb"
    with Load(named=1.0).running(server, 2, 2) as load:
        graph.write_bytes(b"this is not a SavedModel")
        wait_until(lambda: told(server)["code"] != "OK", what=f"an error: {told(server)}")
        assert told(server)["state"] == "AVAILABLE"
        assert told(server)["message"].startswith("newer files are not served: ")
        _, body = server.get("/v1/models/half_plus_two/versions/1")
        assert body["model_version_status"][0] == {
            "version": "1",
            "state": "AVAILABLE",
            "status": {"error_code": "OK", "error_message": ""},
        }
        load.wait_for_answers(3.0)
        by_rename(exports / "4", models / "half_plus_two" / "1")
        load.wait_for_answers(4.0)
    assert load.failures == []
    assert set(load.answers) == {3.0, 4.0}


@pytest.mark.parametrize(
    ("title", "offset", "copy"), [("ControllerActor", 5, 4), ("ManagerActor", 6, 5)], ids=["controller", "manager"]
)
def test_a_control_actor_that_is_killed_in_the_middle_costs_no_request(
    server: AspiredServer, exports: Path, models: Path, title: str, offset: int, copy: int
) -> None:
    with Load(named=1.0).running(server, 2, 2) as load:
        load.wait_for_answers(offset - 1.0)
        by_rename(exports / str(offset), models / "half_plus_two" / "1")
        wait_until(lambda: bool(replicas(server, copy)), what="a process of the newer copy")
        (killed,) = pids_of(server.state, f"ray::{title}")
        os.kill(killed, signal.SIGKILL)
        load.wait_for_answers(float(offset))
        wait_until(lambda: not replicas(server, copy - 1), what="end of the older copy's processes")
    assert load.failures == []
    assert set(load.answers) == {offset - 1.0, float(offset)}
    assert load.last_sent[offset - 1.0] <= load.first_answered[float(offset)]
