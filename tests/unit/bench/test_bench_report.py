from __future__ import annotations

import csv
import io
import json

from cluster.bench.load import ClosedLoop, OpenLoop
from cluster.bench.load_test import Progress
from cluster.bench.point import Point
from cluster.bench.report import Report
from cluster.bench.server_metrics import Breakdown, Stage
from cluster.bench_report import print_bench_report, print_progress
from cluster.core.errors import Code
from cluster.terminal import Terminal
from tests.unit.bench.bench_samples import a_sample

FOUND = Breakdown(requests=400, request_us=800.4, stages=(Stage("queue", 100), Stage("run", 500)), rows_per_run=3.5)
POINTS = (
    Point(load=ClosedLoop(1), sample=a_sample([1.0] * 100), stable=True),
    Point(load=ClosedLoop(4), sample=a_sample([1.1] * 350), stable=True, breakdown=FOUND),
    Point(load=ClosedLoop(8), sample=a_sample([4.0] * 300, errors={Code.RESOURCE_EXHAUSTED: 100}), stable=False),
)


def report(*points: Point, budget_ms: float | None = None) -> Report:
    return Report(
        target="http://h:8501",
        protocol="REST",
        model="m",
        version=3,
        input="16 requests of random data, 1 row each",
        points=points or POINTS,
        latency_budget_ms=budget_ms,
    )


def printed(report: Report) -> tuple[str, str]:
    out, err = io.StringIO(), io.StringIO()
    print_bench_report(Terminal(out, err), report)
    return out.getvalue(), err.getvalue()


def test_people_get_a_table_with_the_knee_and_the_servers_view() -> None:
    out, err = printed(report())
    assert out == (
        "m version 3 at http://h:8501: 16 requests of random data, 1 row each\n"
        "\n"
        "CONCURRENCY  REQUESTS/S  ROWS/S  P50 MS  P90 MS  P99 MS  P99.9 MS  MAX MS  MEAN MS  FAILED  CLIENT CPU\n"
        "1            100         100     1.00    1.00    1.00    1.00      1.00    1.00     0       10%\n"
        "4            350         350     1.10    1.10    1.10    1.10      1.10    1.10     0       10%         <- knee\n"
        "8            300         300     4.00    4.00    4.00    4.00      4.00    4.00     25.00%  10%         not stable\n"
        "\n"
        "Mean microseconds of a request, by the server's own metrics:\n"
        "CONCURRENCY  IN SERVER  QUEUE  RUN  OUTSIDE  ROWS/RUN\n"
        "4            800        100    500  300      3.5\n"
        "concurrency 8: 100 failed with RESOURCE_EXHAUSTED: it is RESOURCE_EXHAUSTED\n"
        "\n"
        "Knee at concurrency 4: 350 requests/s at a p99 of 1.10 ms.\n"
    )
    assert err == ""


def test_the_last_line_is_about_the_budget_where_there_is_one() -> None:
    assert printed(report(budget_ms=1.05))[0].endswith(
        "Best within a p99 of 1.05 ms: concurrency 1: 100 requests/s at a p99 of 1.00 ms.\n"
    )
    assert printed(report(budget_ms=0.5))[0].endswith("No load held a p99 of 0.5 ms.\n")
    assert [report(budget_ms=budget).budget_held for budget in (None, 1.05, 0.5)] == [True, True, False]


def test_a_knee_that_is_not_reached_is_not_claimed() -> None:
    alike = [Point(load=ClosedLoop(load), sample=a_sample([1.0] * load)) for load in (1, 2, 3)]
    assert "The knee is beyond these loads. The last, concurrency 3:" in printed(report(*alike))[0]


def test_a_client_that_was_saturated_is_warned_of() -> None:
    busy = Point(load=ClosedLoop(1), sample=a_sample(cpu_s=(0.99,)))
    assert "aspired: warning: this client was saturated" in printed(report(busy))[1]
    late = Point(load=OpenLoop(rate=9), sample=a_sample([1.0], scheduled=1, late=1))
    assert "aspired: warning: requests were sent late" in printed(report(late))[1]


def test_programs_get_the_same_as_json() -> None:
    document = json.loads(report().to_json())
    assert {key: document[key] for key in ("target", "protocol", "model", "version", "latency_budget_ms")} == {
        "target": "http://h:8501",
        "protocol": "REST",
        "model": "m",
        "version": 3,
        "latency_budget_ms": None,
    }
    first, second, third = document["points"]
    assert [point["knee"] for point in document["points"]] == [False, True, False]
    assert first["server"] is None
    assert (second["load"], second["requests"], second["requests_per_s"]) == (4, 350, 350)
    assert second["latency_ms"].keys() == {"p50", "p90", "p99", "p99.9", "max", "mean"}
    assert second["server"] == {
        "requests": 400,
        "request_us": 800.4,
        "stages_us": {"queue": 100, "run": 500},
        "outside_us": 299.6,
        "rows_per_run": 3.5,
    }
    assert third["errors"] == {"RESOURCE_EXHAUSTED": {"count": 100, "message": "it is RESOURCE_EXHAUSTED"}}
    assert third["remarks"] == ["not stable"]


def test_spreadsheets_get_a_line_for_each_load() -> None:
    rows = list(csv.DictReader(io.StringIO(report().to_csv())))
    assert [(row["mode"], row["load"], row["knee"]) for row in rows] == [
        ("concurrency", "1", "False"),
        ("concurrency", "4", "True"),
        ("concurrency", "8", "False"),
    ]
    assert (rows[1]["p99_ms"], rows[1]["server_us"], rows[1]["run_us"], rows[1]["rows_per_run"]) == (
        "1.1",
        "800.4",
        "500",
        "3.5",
    )
    assert (rows[0]["server_us"], rows[0]["run_us"]) == ("", "")
    assert (rows[2]["failed"], rows[2]["errors"]) == ("100", "RESOURCE_EXHAUSTED=100")


def test_an_open_loop_is_named_by_its_rate() -> None:
    out, _ = printed(report(Point(load=OpenLoop(rate=150), sample=a_sample([1.0] * 100, scheduled=200))))
    assert "RATE/S" in out
    assert "rate not held" in out


def test_progress_is_a_line_a_second() -> None:
    err = io.StringIO()
    terminal = Terminal(io.StringIO(), err)
    print_progress(terminal, Progress(ClosedLoop(8), 1.0, a_sample([2.0] * 1500), warming_up=True))
    print_progress(terminal, Progress(OpenLoop(rate=50), 12.5, a_sample([2.0], errors={Code.UNAVAILABLE: 3}), warming_up=False))
    assert err.getvalue() == (
        "concurrency 8:   1.0 s    1,500.0 requests/s  p99     2.00 ms, warming up\n"
        "rate 50/s:  12.5 s        1.0 requests/s  p99     2.00 ms, 3 failed\n"
    )
