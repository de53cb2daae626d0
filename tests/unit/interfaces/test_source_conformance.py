"""What every `Source` owes to the actor that polls it."""

from __future__ import annotations

import pickle
from collections.abc import Callable

import pytest

from cluster.config.model_config import ModelConfig
from cluster.core.aspired_version import AspiredVersion
from cluster.core.errors import NotFound
from cluster.core.servable_id import ServableId
from cluster.core.source import Source
from cluster.sources.file_system_storage_path_source import FileSystemStoragePathSource
from cluster.sources.static_source import StaticSource
from cluster.storage.local_storage import LocalStorage
from tests.fakes.fake_storage import FakeStorage


def static_source() -> Source:
    versions = [AspiredVersion(ServableId("b", 1), "/models/b/1"), AspiredVersion(ServableId("b", 2), "/models/b/2")]
    return StaticSource({"b": versions, "a": []})


def file_system_source() -> Source:
    storage = FakeStorage()
    storage.put("/models/b", "1")
    storage.put("/models/b", "2")
    storage.add_base_path("/models/a")
    return FileSystemStoragePathSource([ModelConfig("b", "/models/b"), ModelConfig("a", "/models/a")], storage)


@pytest.mark.parametrize("make", [static_source, file_system_source])
class TestEverySource:
    def test_names_its_streams_in_the_order_of_the_config(self, make: Callable[[], Source]) -> None:
        assert list(make().streams()) == ["b", "a"]

    def test_emits_only_versions_of_the_stream_that_is_polled(self, make: Callable[[], Source]) -> None:
        source = make()
        for stream in source.streams():
            assert {version.id.name for version in source.poll(stream, 0.0) or ()} <= {stream}

    def test_emits_the_full_list_at_every_poll(self, make: Callable[[], Source]) -> None:
        source = make()
        first = source.poll("b", 0.0)
        assert first
        assert source.poll("b", 1.0) == first

    def test_aspires_nothing_for_a_stream_without_versions(self, make: Callable[[], Source]) -> None:
        versions = make().poll("a", 0.0)
        assert versions is not None
        assert len(versions) == 0

    def test_refuses_a_stream_that_it_does_not_have(self, make: Callable[[], Source]) -> None:
        with pytest.raises(NotFound, match="nobody"):
            make().poll("nobody", 0.0)


@pytest.mark.parametrize(
    "source",
    [static_source(), FileSystemStoragePathSource([ModelConfig("m", "/models/m")], LocalStorage())],
    ids=["static", "files"],
)
def test_a_source_travels_to_its_actor(source: Source) -> None:
    assert list(pickle.loads(pickle.dumps(source)).streams()) == list(source.streams())
