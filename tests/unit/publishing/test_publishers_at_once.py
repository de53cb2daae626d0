"""Publishers of several processes in one base path: no number twice, nothing lost, and the dead harm nobody."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cluster import client
from cluster.client import VersionState
from cluster.config.model_config import ModelConfig
from cluster.sources.file_system_storage_path_source import FileSystemStoragePathSource
from cluster.storage.storages import Storages
from tests.unit.publishing.conftest import Place

ROOT = Path(__file__).parents[3]
PUBLISHERS = 6
EACH = 3

# Waits for a line, so that all begin at once.
_PUBLISHES = """
import json, sys
from cluster.client import publish
input()
print(json.dumps([publish(sys.argv[1], sys.argv[2]).version for _ in range(int(sys.argv[3]))]))
"""

# Stops when everything has been uploaded and nothing is published yet, until it is told to go on.
_STOPS_HALFWAY = """
import sys
from cluster.client import publish
def halfway(progress):
    if progress.transfer.files_done == progress.transfer.files:
        print("uploaded", flush=True)
        input()
publish(sys.argv[1], sys.argv[2], progress=halfway)
"""


def start(code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextmanager
def halfway(export: Path, base_path: str) -> Iterator[subprocess.Popen[str]]:
    publisher = start(_STOPS_HALFWAY, str(export), base_path)
    try:
        assert publisher.stdout is not None
        assert publisher.stdout.readline() == "uploaded\n"
        yield publisher
    finally:
        publisher.kill()
        publisher.communicate()


def test_no_number_is_given_twice(place: Place, export: Path) -> None:
    publishers = [start(_PUBLISHES, str(export), place.base_path, str(EACH)) for _ in range(PUBLISHERS)]
    given = []
    for publisher in publishers:
        assert publisher.stdin is not None
        publisher.stdin.write("go\n")
        publisher.stdin.flush()
    for publisher in publishers:
        out, err = publisher.communicate(timeout=100)
        assert publisher.returncode == 0, err
        given += json.loads(out)
    assert len(set(given)) == PUBLISHERS * EACH
    found = client.versions(place.base_path)
    assert {version.version for version in found} == set(given)
    assert {(version.state, version.files) for version in found} == {(VersionState.PUBLISHED, 5)}


def test_of_two_that_want_one_number_one_gets_it(place: Place, export: Path) -> None:
    with halfway(export, place.base_path) as first:
        with pytest.raises(client.AlreadyExists, match="is being published by another"):
            client.publish(export, place.base_path, version=1)
        assert client.publish(export, place.base_path).version == 2
        assert first.communicate("go on\n")[1] == ""
    assert [version.version for version in client.versions(place.base_path)] == [2, 1]


def test_a_killed_publisher_is_seen_and_never_served_and_its_number_is_not_used_again(place: Place, export: Path) -> None:
    client.publish(export, place.base_path)
    source = FileSystemStoragePathSource([ModelConfig("m", place.base_path)], Storages(), settle_s=0.0)
    with halfway(export, place.base_path) as publisher:
        publisher.kill()
        publisher.wait()
    left = client.versions(place.base_path)[0]
    assert (left.version, left.state, left.files) == (2, VersionState.BEING_PUBLISHED, 5)
    assert f"(pid {publisher.pid})" in left.publisher
    assert left.published_at
    assert [version.id.version for version in source.poll("m", time.monotonic()) or ()] == [1]
    with pytest.raises(client.FailedPrecondition, match="is being published by"):
        client.unpublish(place.base_path, 2)
    assert client.publish(export, place.base_path).version == 3
    client.unpublish(place.base_path, 2, force=True)
    assert [version.version for version in client.versions(place.base_path)] == [3, 1]


def test_an_interrupted_publisher_leaves_nothing(place: Place, export: Path) -> None:
    with halfway(export, place.base_path) as publisher:
        publisher.send_signal(signal.SIGINT)
        _, err = publisher.communicate(timeout=60)
    assert "What was written of version 1 has been removed." in err
    assert place.names() == set()


def test_who_has_lost_its_claim_while_it_slept_publishes_nothing(place: Place, export: Path) -> None:
    with halfway(export, place.base_path) as sleeper:
        client.unpublish(place.base_path, 1, force=True)
        assert client.publish(export, place.base_path).version == 2
        _, err = sleeper.communicate("go on\n", timeout=60)
    assert sleeper.returncode != 0
    assert "removed" in err
    assert [version.version for version in client.versions(place.base_path)] == [2]
