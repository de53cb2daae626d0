from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from cluster.core.errors import Unimplemented
from cluster.storage.storages import SCHEMES, Storages, scheme_of
from tests.fakes.fake_storage import FakeStorage


@pytest.mark.parametrize(
    ("path", "scheme"), [("/models/m", "file"), ("file:///models/m", "file"), ("s3://b/m", "s3"), ("S3://b/m", "s3")]
)
def test_the_scheme_of_a_path(path: str, scheme: str) -> None:
    assert scheme_of(path) == scheme


def test_each_path_is_read_by_the_storage_of_its_scheme(tmp_path: Path) -> None:
    made = []

    def fake() -> FakeStorage:
        storage = FakeStorage()
        storage.put("fake://b/m", "7")
        made.append(storage)
        return storage

    storages = Storages({**SCHEMES, "fake": fake})
    (tmp_path / "1").mkdir()
    assert storages.children(str(tmp_path)) == ["1"]
    assert not made
    assert storages.children("fake://b/m") == ["7"]
    assert storages.tree(storages.join("fake://b/m", "7")).fingerprint == "whole"
    assert len(made) == 1
    assert storages.local_path("fake://b/m/7") is None
    assert storages.local_path(str(tmp_path)) == str(tmp_path)


def test_an_unknown_scheme_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(Unimplemented, match=r"hdfs://b/m: no storage can read hdfs:// paths; there are .*file://"):
        Storages().children("hdfs://b/m")


def test_what_can_only_be_read_is_not_published_to() -> None:
    with pytest.raises(Unimplemented, match="only read from there"):
        Storages({"fake": FakeStorage}).writable("fake://b/m")


def test_travels_to_other_processes(tmp_path: Path) -> None:
    storages = Storages()
    storages.children(str(tmp_path))
    assert pickle.loads(pickle.dumps(storages)).children(str(tmp_path)) == []
