from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from cluster.config.model_config import ModelConfig
from cluster.config.server_config import ModelConfigFile, read_server_config
from cluster.config.server_options import ServerOptions
from cluster.core.errors import ConfigError, NotFound, Unavailable, Unimplemented
from cluster.storage.storages import SCHEMES, Storages
from cluster.stored_text import StoredText
from tests.fakes.fake_storage import FakeStorage

STORE = FakeStorage()
URI = "fake://bucket/models.yaml"


def store() -> FakeStorage:
    return STORE


@pytest.fixture
def read_text() -> StoredText:
    STORE.put_file(URI, b"models: [{name: m, base_path: 's3://bucket/m'}]")
    return StoredText(Storages({**SCHEMES, "fake": store}))


def test_a_model_config_file_may_lie_in_a_bucket(read_text: StoredText) -> None:
    config = read_server_config(ServerOptions(model_config_file=URI), read_text)
    assert config.models.models == (ModelConfig("m", "s3://bucket/m"),)


def test_it_is_read_again_wherever_it_is_taken(read_text: StoredText) -> None:
    file = pickle.loads(pickle.dumps(ModelConfigFile(URI, read_text)))
    assert [model.name for model in file.read(None).models] == ["m"]
    STORE.put_file(URI, b"models: []")
    assert file.read(None).models == ()


def test_files_of_this_machine_are_read_by_path_and_by_uri(read_text: StoredText, tmp_path: Path) -> None:
    (tmp_path / "models.yaml").write_text("models: []")
    assert read_text(f"{tmp_path}/models.yaml", "f") == read_text(f"file://{tmp_path}/models.yaml", "f") == "models: []"


def test_what_cannot_be_read_names_the_flag_and_the_reason(read_text: StoredText) -> None:
    with pytest.raises(NotFound, match=r"^--model_config_file=fake://bucket/gone: No such file"):
        read_text("fake://bucket/gone", "--model_config_file=fake://bucket/gone")
    with pytest.raises(Unimplemented, match=r"^f: no storage can read hdfs:// paths"):
        read_text("hdfs://x", "f")
    with pytest.raises(ConfigError, match=r"^f: cannot be read: No such file or directory$"):
        read_text("/missing", "f")
    STORE.put_file(URI, b"\xff")
    with pytest.raises(ConfigError, match=r"^f: not a text file: "):
        read_text(URI, "f")
    STORE.fail(URI, Unavailable("the store is down"))
    with pytest.raises(Unavailable, match=r"^f: the store is down$"):
        read_text(URI, "f")
    STORE.heal(URI)
