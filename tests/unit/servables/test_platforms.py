"""The registry of platforms."""

from __future__ import annotations

import subprocess
import sys

import pytest

from cluster.core.errors import AlreadyExists, InvalidArgument
from servables import platforms
from servables.hashmap.platform import HashmapPlatform
from servables.servable import Platform, PlatformOptions, Servable


class NullPlatform(Platform):
    name = "null"

    def check(self, path: str, options: PlatformOptions) -> None:
        pass

    def load(self, path: str, options: PlatformOptions) -> Servable:
        raise AssertionError("not loaded here")


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
