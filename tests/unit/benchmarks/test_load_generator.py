"""What wrk and h2load say is read as they mean it, and no error counts as an answer."""

from __future__ import annotations

import math

import pytest

from cluster.core.errors import Internal
from scripts.benchmarks.load_generator import LoggedRequest, percentile, read_h2load, read_log, read_wrk

WRK = """Running 2s test @ http://127.0.0.1:8501/v1/models/m:predict
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     5.81ms    1.02ms  15.20ms   90.12%
    Req/Sec     5.70k   423.85     6.48k    62.50%
  Latency Distribution
     50%  912.00us
     75%    6.10ms
     90%    7.00ms
     99%    1.25s
  11400 requests in 2.01s, 2.47MB read
{errors}Requests/sec:   5671.64
Transfer/sec:      1.23MB
"""

H2LOAD = """starting benchmark...
finished in 2.00s, 50.00 req/s, 1.00KB/s
requests: 100 total, 104 started, 100 done, 100 succeeded, 0 failed, {errored} errored, 0 timeout
status codes: {ok} 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 2.54KB (2604) total, 42B (42) headers (space savings 96.08%), 1.02KB ({data}) data
"""

OK = [LoggedRequest(1_000_000 + number, 200, 1000 * (number + 1)) for number in range(100)]


def h2load(data: int = 5200, errored: int = 0, ok: int = 100) -> str:
    return H2LOAD.format(data=data, errored=errored, ok=ok)


def test_wrk_gives_rate_and_latencies_in_milliseconds() -> None:
    load = read_wrk(WRK.format(errors=""))
    assert (load.requests_per_s, load.p50_ms, load.p99_ms) == (5671.64, 0.912, 1250.0)
    assert load.errors == 0
    assert load.checked("m") is load


@pytest.mark.parametrize(
    "errors", ["  Non-2xx or 3xx responses: 400\n", "  Socket errors: connect 0, read 3, write 0, timeout 1\n"]
)
def test_errors_that_wrk_names_fail_the_measurement(errors: str) -> None:
    load = read_wrk(WRK.format(errors=errors))
    assert load.errors in (4, 400)
    with pytest.raises(Internal, match="m: "):
        load.checked("m")


def test_errors_are_no_throughput() -> None:
    load = read_wrk(WRK.format(errors="  Non-2xx or 3xx responses: 5700\n"))
    assert load.requests_per_s == pytest.approx(5671.64 / 2)


def test_h2load_gives_the_rate_and_its_log_the_latencies() -> None:
    load = read_h2load(h2load(), OK, answer_bytes=52)
    assert (load.requests_per_s, load.p50_ms, load.p99_ms) == (50.0, 51.0, 100.0)
    assert load.statuses == {200: 100}


def test_refused_requests_count_apart_and_leave_the_latencies_alone() -> None:
    refused = [LoggedRequest(2_000_000, 429, 1), LoggedRequest(2_000_000, 503, 1), LoggedRequest(2_000_000, 500, 1)]
    load = read_h2load(h2load(), [*OK[:97], *refused])
    assert (load.refused, load.errors) == (2, 3)
    assert load.requests_per_s == pytest.approx(48.5)
    assert load.p50_ms == 49.0


def test_requests_without_an_answer_are_counted() -> None:
    assert read_h2load(h2load(errored=7), OK).failed == 7


def test_a_grpc_error_is_an_answer_without_a_body() -> None:
    with pytest.raises(Internal, match="10 of 100 answers are gRPC errors"):
        read_h2load(h2load(data=90 * 52), OK, answer_bytes=52)


def test_nothing_but_refusals_has_no_latency() -> None:
    load = read_h2load(h2load(ok=0), [LoggedRequest(0, 503, 10)] * 100)
    assert load.requests_per_s == 0
    assert math.isnan(load.p99_ms)


def test_a_log_has_a_line_for_each_request_and_may_have_more_columns() -> None:
    assert read_log(["17\t200\t4175\textra", "18\t503\t2"]) == [LoggedRequest(17, 200, 4175), LoggedRequest(18, 503, 2)]


def test_what_cannot_be_read_is_shown() -> None:
    with pytest.raises(Internal, match="wrk: command not found"):
        read_wrk("wrk: command not found")


@pytest.mark.parametrize(("percent", "value"), [(0, 1.0), (50, 2.0), (99, 3.0), (100, 3.0)])
def test_a_percentile_is_one_of_the_values(percent: float, value: float) -> None:
    assert percentile([1.0, 2.0, 3.0], percent) == value
