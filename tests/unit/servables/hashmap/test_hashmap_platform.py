"""The hashmap platform's files and lookups."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cluster.core.errors import DataLoss, InvalidArgument, NotFound
from servables.hashmap.platform import HashmapPlatform
from servables.servable import PlatformOptions


def strings(*values: bytes) -> np.ndarray:
    return np.array(values, dtype=np.object_)


def look_up(directory: Path, *keys: bytes) -> list[bytes]:
    servable = HashmapPlatform().load(str(directory), PlatformOptions())
    return list(servable.run("serving_default", {"keys": strings(*keys)}, ["values"], None)["values"])


def test_looks_up_every_key(tmp_path: Path) -> None:
    (tmp_path / "hashmap.csv").write_text("a,1\nb,2\nempty,\n")
    assert look_up(tmp_path, b"b", b"a", b"b", b"empty") == [b"2", b"1", b"2", b""]


def test_no_keys_give_no_values(tmp_path: Path) -> None:
    (tmp_path / "hashmap.csv").write_text("a,1\n")
    assert look_up(tmp_path) == []


def test_values_have_the_shape_of_the_keys(tmp_path: Path) -> None:
    (tmp_path / "hashmap.csv").write_text("a,1\nb,2\n")
    servable = HashmapPlatform().load(str(tmp_path), PlatformOptions())
    keys = strings(b"a", b"b", b"b", b"a").reshape(2, 2)
    assert servable.run("serving_default", {"keys": keys}, ["values"], None)["values"].tolist() == [[b"1", b"2"], [b"2", b"1"]]
    scalar = np.array(b"a", dtype=np.object_)
    assert servable.run("serving_default", {"keys": scalar}, ["values"], None)["values"].item() == b"1"


def test_the_first_of_equal_keys_counts(tmp_path: Path) -> None:
    (tmp_path / "hashmap.csv").write_text("a,first\na,second\n")
    assert look_up(tmp_path, b"a") == [b"first"]


def test_takes_a_single_csv_file_of_any_name(tmp_path: Path) -> None:
    (tmp_path / "cities.csv").write_text("a,1\n")
    assert look_up(tmp_path, b"a") == [b"1"]


def test_prefers_the_default_file_to_others(tmp_path: Path) -> None:
    (tmp_path / "hashmap.csv").write_text("a,right\n")
    (tmp_path / "another.csv").write_text("a,wrong\n")
    assert look_up(tmp_path, b"a") == [b"right"]


def test_refuses_to_choose_between_files(tmp_path: Path) -> None:
    for name in ("one.csv", "two.csv"):
        (tmp_path / name).write_text("a,1\n")
    with pytest.raises(NotFound, match="more than one"):
        HashmapPlatform().check(str(tmp_path), PlatformOptions())


def test_a_key_without_a_value_is_not_found(tmp_path: Path) -> None:
    (tmp_path / "hashmap.csv").write_text("a,1\n")
    with pytest.raises(NotFound, match=r"^No value for key: zürich$"):
        look_up(tmp_path, b"a", "zürich".encode())


@pytest.mark.parametrize("line", ["no comma", "two,commas,here", ""])
def test_names_the_line_that_is_not_key_and_value(tmp_path: Path, line: str) -> None:
    (tmp_path / "hashmap.csv").write_text(f"a,1\n{line}\nb,2\n")
    with pytest.raises(InvalidArgument, match=r"hashmap\.csv:2: expected key,value"):
        HashmapPlatform().load(str(tmp_path), PlatformOptions())


def test_a_file_that_cannot_be_read_is_data_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hashmap.csv").write_text("a,1\n")

    def fail(_self: Path) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(DataLoss, match="Input/output error"):
        HashmapPlatform().load(str(tmp_path), PlatformOptions())
