"""The chopstick data by month, from CSV files to a training set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from cluster.core.errors import InvalidArgument, NotFound
from scripts.export_measurements import main
from scripts.measurements import Measurements, generate_measurements, parse_csv
from scripts.training_set import read_training_set

HEADER = "length_mm,person,efficiency,class\n"


def rows_of(data: Measurements) -> list[tuple[float, int, int]]:
    return list(zip(data.length_mm.tolist(), data.person.tolist(), data.label.tolist(), strict=True))


def test_every_month_has_people_whom_no_earlier_month_knows() -> None:
    persons = [set(generate_measurements(month).person.tolist()) for month in (1, 2, 3)]
    assert persons == [set(range(1, 32)), set(range(32, 63)), set(range(63, 94))]


def test_a_month_is_the_same_every_time_and_no_copy_of_another() -> None:
    again = generate_measurements(2)
    assert np.array_equal(generate_measurements(2).efficiency, again.efficiency)
    assert not np.array_equal(generate_measurements(3).efficiency, again.efficiency)


def test_a_class_means_the_same_in_every_month() -> None:
    lowest_of_high, highest_of_low = [], []
    for month in (1, 2, 3):
        data = generate_measurements(month)
        lowest_of_high.append(data.efficiency[data.label == 2].min())
        highest_of_low.append(data.efficiency[data.label == 0].max())
    assert max(highest_of_low) < min(lowest_of_high)


def test_csv_files_keep_what_is_trained_on() -> None:
    data = generate_measurements(2)
    assert rows_of(parse_csv(data.to_csv(), "month.csv")) == rows_of(data)


def test_a_row_stays_on_its_side_when_others_follow() -> None:
    data = generate_measurements()
    first = data.rows(slice(0, 700))
    assert np.array_equal(data.held_back()[:700], first.held_back())
    assert 0.15 < data.held_back().mean() < 0.25


def test_what_was_held_back_is_never_trained_on_whatever_months_come(tmp_path: Path) -> None:
    def write(month: int) -> None:
        (tmp_path / f"month_{month}.csv").write_text(generate_measurements(month).to_csv())

    write(2)
    before = read_training_set(str(tmp_path))
    write(1)
    write(3)
    after = read_training_set(str(tmp_path))
    assert after.files == ("month_1.csv", "month_2.csv", "month_3.csv")
    of_the_second_month = (after.held_back.person >= 32) & (after.held_back.person <= 62)
    assert rows_of(after.held_back.rows(of_the_second_month)) == rows_of(before.held_back)
    assert len(after.training) + len(after.held_back) == 3 * len(generate_measurements())


def test_the_same_files_are_known_again_wherever_they_lie(tmp_path: Path) -> None:
    def sha256(directory: str, files: dict[str, str]) -> str:
        for name, content in files.items():
            path = tmp_path / directory / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(content)
        return read_training_set(str(tmp_path / directory)).sha256

    row = "240,1,20.5,high\n"
    once = sha256("once", {"a.csv": HEADER + row, "b.csv": HEADER + row, "notes.txt": "of the first try"})
    assert sha256("again", {"b.csv": HEADER + row, "a.csv": HEADER + row, "notes.txt": "of another"}) == once
    assert sha256("more", {"a.csv": HEADER + row, "b.csv": HEADER + row + row}) != once
    assert sha256("fewer", {"a.csv": HEADER + row}) != once


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "m.csv: no column length_mm, person, efficiency, class; the first line must be"),
        ("length_mm,person,class\n240,1,low\n", "m.csv: no column efficiency; the first line must be length_mm,person"),
        (HEADER, "m.csv: no row after the first line"),
        (HEADER + "240,1,20.5,high\nlong,1,20.5,high\n", "m.csv, line 3: length_mm is 'long'; expected a number"),
        (HEADER + "nan,1,20.5,high\n", "m.csv, line 2: length_mm is nan; expected a finite number"),
        (HEADER + "-240,1,20.5,high\n", "m.csv, line 2: length_mm is -240; expected millimetres"),
        (HEADER + "240,0,20.5,high\n", "m.csv, line 2: person is 0; expected a number from 1"),
        (HEADER + "240,1.5,20.5,high\n", "m.csv, line 2: person is 1.5; expected a number from 1"),
        (HEADER + "240,1,20.5,best\n", "m.csv, line 2: class is 'best'; expected one of low, medium, high"),
        (HEADER + "240,1\n", "m.csv, line 2: efficiency is None; expected a number"),
    ],
)
def test_a_wrong_file_is_told_by_line_and_column(text: str, message: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_csv(text, "m.csv")
    assert caught.value.message.startswith(message)


def test_a_directory_without_measurements_is_told_how_to_get_some(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=rf"no CSV file is there; scripts/export_measurements.py --out={tmp_path} makes one"):
        read_training_set(str(tmp_path))


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "month.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidArgument, match=r"month\.csv: not a text file in UTF-8"):
        read_training_set(str(tmp_path))


def test_the_command_writes_a_file_for_each_month(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["--out", str(tmp_path / "new"), "--months", "1,12"], catch_exceptions=False)
    assert result.exit_code == 0
    assert result.output.splitlines() == [
        f"{tmp_path}/new/month_001.csv: 1488 rows, persons 1 to 31",
        f"{tmp_path}/new/month_012.csv: 1488 rows, persons 342 to 372",
    ]
    assert rows_of(parse_csv((tmp_path / "new" / "month_012.csv").read_text(), "")) == rows_of(generate_measurements(12))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--months", "may"], "expected numbers"),
        (["--months", "0"], "months count from 1"),
        (["--out", "ftp://host/data"], "no storage can read ftp:// paths"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(tmp_path: Path, arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(main, ["--out", str(tmp_path), *arguments])
    assert result.exit_code != 0
    assert message in result.output
    assert "Traceback" not in result.output
