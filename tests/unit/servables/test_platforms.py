"""The registry of platforms."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.config import platform_names
from cluster.config.model_config import parse_model_server_config
from cluster.core.errors import AlreadyExists, FailedPrecondition, InvalidArgument
from servables import platforms
from servables.hashmap.platform import HashmapPlatform
from servables.servable import Platform, PlatformOptions, Servable


class NullPlatform(Platform):
    name = "null"

    def check(self, path: str, options: PlatformOptions) -> None:
        pass

    def load(self, path: str, options: PlatformOptions) -> Servable:
        raise AssertionError("not loaded here")


@pytest.fixture
def plug_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two platforms of a package that is installed, one of which cannot be imported, and one under a name that is taken."""
    installed = tmp_path / "null_platform-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: null-platform\nVersion: 1.0\n")
    points = f"[{platform_names.GROUP}]\nnull = {__name__}:NullPlatform\nbroken = absent.module:Platform\n"
    (installed / "entry_points.txt").write_text(f"{points}hashmap = {__name__}:NullPlatform\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    platform_names.plug_ins.cache_clear()
    yield
    platform_names.plug_ins.cache_clear()


@pytest.fixture(autouse=True)
def _restore_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platforms, "_FACTORIES", dict(platforms._FACTORIES))


@pytest.mark.parametrize("name", ["tensorflow", "tflite", "hashmap"])
def test_gives_a_platform_that_goes_by_its_name(name: str) -> None:
    assert platforms.platform(name).name == name
    assert name in platforms.platform_names()


def test_names_the_known_platforms_when_asked_for_another() -> None:
    with pytest.raises(InvalidArgument, match=r'^Unknown platform "pytorch"; known platforms: hashmap, tensorflow, tflite$'):
        platforms.platform("pytorch")


def test_gives_a_platform_that_was_registered() -> None:
    platforms.register("null", NullPlatform)
    assert isinstance(platforms.platform("null"), NullPlatform)
    assert "null" in platforms.platform_names()


def test_a_name_is_taken_once() -> None:
    with pytest.raises(AlreadyExists):
        platforms.register("hashmap", NullPlatform)
    assert isinstance(platforms.platform("hashmap"), HashmapPlatform)


@pytest.mark.usefixtures("plug_ins")
def test_an_installed_package_adds_its_platform() -> None:
    assert type(platforms.platform("null")).__name__ == "NullPlatform"
    assert platforms.platform_names() == {"tensorflow", "tflite", "hashmap", "null", "broken"}
    text = "model_config_list { config { name: 'm' base_path: '/m' model_platform: 'null' } }"
    assert parse_model_server_config(text, "models.config").models[0].platform == "null"
    with pytest.raises(AlreadyExists):
        platforms.register("null", NullPlatform)


@pytest.mark.usefixtures("plug_ins")
def test_a_package_takes_no_built_in_name() -> None:
    assert isinstance(platforms.platform("hashmap"), HashmapPlatform)


@pytest.mark.usefixtures("plug_ins")
def test_a_package_that_cannot_be_imported_is_named() -> None:
    text = (
        r'^Platform "broken" cannot be imported from absent\.module:Platform: ModuleNotFoundError: No module named \'absent\'$'
    )
    with pytest.raises(FailedPrecondition, match=text):
        platforms.platform("broken")


def test_a_config_may_name_what_there_is() -> None:
    assert platforms.platform_names() == platform_names.known_platforms() == platform_names.BUILT_IN


def test_checking_files_does_not_import_tensorflow(tmp_path: object) -> None:
    program = (
        "import sys; from servables.platforms import platform; from cluster.core.errors import NotFound\n"
        "from servables.servable import PlatformOptions\n"
        "for name in ('tensorflow', 'tflite', 'hashmap'):\n"
        "    try: platform(name).check(sys.argv[1], PlatformOptions(prefer_tflite_model=True))\n"
        "    except NotFound: continue\n"
        "    raise SystemExit('nothing there, yet nothing missed')\n"
        "raise SystemExit('tensorflow' in sys.modules)"
    )
    environment_path = ":".join(path for path in sys.path if path)
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True, env={"PYTHONPATH": environment_path}, timeout=60)
