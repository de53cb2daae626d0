from __future__ import annotations

import os
from pathlib import Path

import pytest

from servables.fork_server import code_version as module
from servables.fork_server.code_version import code_version


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The code of a server, in a directory of its own: one module in each package."""
    for package in ("cluster", "servables"):
        (tmp_path / package / "inner" / "__pycache__").mkdir(parents=True)
        (tmp_path / package / "inner" / "module.py").write_text("x = 1\n")
    monkeypatch.setattr(module, "ROOT", str(tmp_path))
    return tmp_path


def test_the_same_code_has_the_same_version(code: Path) -> None:
    before = code_version()
    (code / "servables" / "inner" / "__pycache__" / "module.cpython-311.pyc").write_bytes(b"compiled")
    (code / "servables" / "notes.txt").write_text("no code")
    assert code_version() == before


def test_a_module_that_is_changed_added_or_removed_makes_another_version(code: Path) -> None:
    changed = code / "cluster" / "inner" / "module.py"
    versions = [code_version()]
    os.utime(changed, ns=(0, 0))
    versions.append(code_version())
    (code / "servables" / "inner" / "another.py").touch()
    versions.append(code_version())
    changed.unlink()
    versions.append(code_version())
    assert len(set(versions)) == len(versions)


def test_another_python_makes_another_version(code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = code_version()
    monkeypatch.setattr("sys.executable", "/another/python")
    assert code_version() != before
