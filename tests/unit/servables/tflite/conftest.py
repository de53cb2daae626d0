"""TFLite models, each converted once a session."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from servables.servable import PlatformOptions, Servable
from servables.tflite.platform import TfLitePlatform
from tests.fakes import tflite_models

Load = Callable[..., Servable]


@pytest.fixture(scope="session")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    methods = {name: name for name in ("half_plus_two", "pick", "project", "one_row", "add")}
    return tflite_models.convert(tmp_path_factory.mktemp("module"), **methods)


@pytest.fixture(scope="session")
def half_plus_two(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return tflite_models.convert(tmp_path_factory.mktemp("half_plus_two"), serving_default="half_plus_two")


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Load]:
    """Loads models, and closes them when the test is over."""
    loaded: list[Servable] = []

    def load(content: bytes, options: PlatformOptions | None = None) -> Servable:
        version = tflite_models.write(content, tmp_path / str(len(loaded) + 1))
        loaded.append(TfLitePlatform().load(str(version), options or PlatformOptions()))
        return loaded[-1]

    yield load
    for servable in loaded:
        servable.close()


@pytest.fixture(scope="session")
def servable(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servable]:
    version = tflite_models.write(content, tmp_path_factory.mktemp("servable") / "1")
    servable = TfLitePlatform().load(str(version), PlatformOptions(num_tflite_pools=2))
    yield servable
    servable.close()
