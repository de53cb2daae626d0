"""The report: a row for each figure, every round in JSON, and a section of a page that leaves the rest of it alone."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest

from cluster.core.errors import InvalidArgument
from scripts.benchmarks.figure import Figure, Target
from scripts.benchmarks.machine import Machine
from scripts.benchmarks.plot import draw
from scripts.benchmarks.report import BEGIN_MARK, END_MARK, Report, as_json, as_markdown, rewrite_section, table_rows

MACHINE = Machine("A processor", 2, 23.5, "3.11.7", "2.21.0", "2.60.0", "abc1234")
FIGURES = [
    Figure(
        scenario="rest-32",
        quantity="throughput",
        unit="requests/s",
        aspired=(17000.0, 16000.0, 18000.0),
        peer=(5000.0, 5000.0, 5000.0),
        peer_name="pytriton",
        target=Target(at_least=3.0),
    ),
    Figure(scenario="start", quantity="a | b", unit="s", aspired=(7.456,), target=Target(at_most=3.0, unit="s")),
]


def report(**changes: object) -> Report:
    fields: dict[str, object] = {
        "machine": MACHINE,
        "command": "scripts/bench",
        "seconds": 2,
        "rounds": 3,
        "date": "2026-01-02",
        "figures": FIGURES,
        "failures": {},
        "left_out": (),
    }
    return Report(**(fields | changes))  # type: ignore[arg-type]


def test_a_row_has_medians_the_ratio_with_its_spread_and_the_verdict() -> None:
    assert table_rows(report()) == [
        ("rest-32", "throughput", "17,000 requests/s", "5,000", "pytriton", "3.40x (3.20-3.60)", "at least 3x", "met"),
        ("start", "a | b", "7.46 s", "-", "-", "-", "at most 3 s", "not met"),
    ]


def test_a_row_that_could_not_be_measured_says_why() -> None:
    assert table_rows(report(failures={"overload": "no answer"}))[-1] == ("overload", "failed", *["-"] * 5, "no answer")


def test_json_has_every_round_the_machine_and_the_command() -> None:
    document = json.loads(as_json(report()))
    assert document["figures"][0]["aspired"] == [17000.0, 16000.0, 18000.0]
    assert document["figures"][0]["ratios"] == [3.4, 3.2, 3.6]
    assert [figure["verdict"] for figure in document["figures"]] == ["met", "not met"]
    assert (document["machine"]["cores"], document["machine"]["revision"], document["command"]) == (
        2,
        "abc1234",
        "scripts/bench",
    )


def test_the_section_says_where_its_figures_come_from_and_what_is_left_out() -> None:
    section = as_markdown(report(left_out=["rest-1"]), plot="performance.svg")
    assert "`scripts/bench` on 2026-01-02: 2 cores of A processor, 24 GiB, Python 3.11.7" in section
    assert "revision abc1234" in section
    assert "](performance.svg)" in section
    assert "| start | a \\| b |" in section
    assert "(`--peers`): rest-1." in section


def test_only_what_is_between_the_marks_is_rewritten() -> None:
    page = f"# Title\n\n{BEGIN_MARK}\n\nold\n\n{END_MARK}\n\n## What was tried\n"
    assert rewrite_section(page, "new\n") == f"# Title\n\n{BEGIN_MARK}\n\nnew\n\n{END_MARK}\n\n## What was tried\n"
    assert rewrite_section(rewrite_section(page, "new"), "new") == rewrite_section(page, "new")


@pytest.mark.parametrize("page", ["", BEGIN_MARK, f"{END_MARK} {BEGIN_MARK}", f"{BEGIN_MARK} {BEGIN_MARK} {END_MARK}"])
def test_a_page_without_its_marks_is_refused(page: str) -> None:
    with pytest.raises(InvalidArgument, match="figures: written by scripts/bench"):
        rewrite_section(page, "new")


def test_the_plot_is_svg_with_a_bar_for_each_ratio() -> None:
    picture = ElementTree.fromstring(draw(FIGURES))
    texts = [element.text for element in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert "rest-32, throughput to pytriton" in texts
    assert "3.40x" in texts
    assert not any(text and text.startswith("start") for text in texts)


def test_a_plot_of_nothing_is_empty_but_valid() -> None:
    ElementTree.fromstring(draw([]))
