"""Runs wrk and h2load, and reads what they say."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from cluster.core.errors import Internal

_UNITS_MS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4, "h": 3.6e6}
_OK = 200


@dataclass(frozen=True, slots=True)
class Load:
    """What a server did under load. Rate and latencies (milliseconds) are of the answers that were right alone."""

    requests_per_s: float
    p50_ms: float
    p99_ms: float
    statuses: Mapping[int, int]
    """Answers by HTTP status."""
    failed: int = 0
    """Requests without an answer."""

    @property
    def refused(self) -> int:
        return sum(count for status, count in self.statuses.items() if status in (429, 503))

    @property
    def errors(self) -> int:
        return self.failed + sum(count for status, count in self.statuses.items() if status != _OK)

    def checked(self, what: str) -> Load:
        """Itself; raises Internal when anything but right answers came."""
        if self.errors or not self.statuses.get(_OK):
            raise Internal(f"{what}: {self.failed} requests without an answer, and answers by status {dict(self.statuses)}")
        return self


class LoggedRequest(NamedTuple):
    """A line of h2load's log."""

    started_micros: int
    """Since the epoch."""
    status: int
    took_micros: int


def wrk(url: str, body: bytes, connections: int, seconds: int, directory: Path) -> Load:
    """REST: each of the connections sends `body` again once it has the answer."""
    script = directory / "request.lua"
    script.write_text(
        f"wrk.method = 'POST'\nwrk.body = [==[{body.decode()}]==]\nwrk.headers['Content-Type'] = 'application/json'\n"
    )
    return read_wrk(_run(["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", str(script), url]))


def read_wrk(told: str) -> Load:
    total = int(_found(r"(\d+) requests in", told))
    rate = float(_found(r"Requests/sec:\s+([\d.]+)", told))
    wrong = re.search(r"Non-2xx or 3xx responses: (\d+)", told)
    refused = int(wrong.group(1)) if wrong else 0
    lost = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", told)
    return Load(
        rate * (total - refused) / max(total, 1),
        _milliseconds(_found(r"50%\s+([\d.]+\w+)", told)),
        _milliseconds(_found(r"99%\s+([\d.]+\w+)", told)),
        # wrk does not say which other status it was.
        {_OK: total - refused} | ({0: refused} if refused else {}),
        sum(map(int, lost.groups())) if lost else 0,
    )


def h2load(
    url: str,
    body: Path,
    headers: Sequence[str],
    connections: int,
    seconds: int,
    directory: Path,
    *,
    answer_bytes: int | None = None,
    http1: bool = False,
    rate_per_connection: float | None = None,
) -> tuple[Load, list[LoggedRequest]]:
    """One request in flight on each connection: as fast as answers come, or at most at a rate.

    `answer_bytes` is what each right answer has in its body. A gRPC error is an answer of status 200 without a body, so only
    the sum of the bytes tells it.
    """
    log = directory / "h2load.log"
    log.unlink(missing_ok=True)
    command = ["h2load", f"-c{connections}", "-m1", f"-D{seconds}", "-d", str(body), f"--log-file={log}"]
    command += ["--h1"] if http1 else []
    command += [f"--rps={rate_per_connection:g}"] if rate_per_connection else []
    for header in headers:
        command += ["-H", header]
    told = _run([*command, url])
    requests = read_log(log.read_text().splitlines())
    return read_h2load(told, requests, answer_bytes), requests


def read_log(lines: Iterable[str]) -> list[LoggedRequest]:
    return [LoggedRequest(*map(int, line.split("\t")[:3])) for line in lines]


def read_h2load(told: str, requests: Sequence[LoggedRequest], answer_bytes: int | None = None) -> Load:
    seconds = float(_found(r"finished in ([\d.]+)s", told))
    done = int(_found(r"(\d+) done", told))
    failed = int(_found(r"(\d+) errored", told)) + int(_found(r"(\d+) timeout", told))
    statuses: dict[int, int] = {}
    for request in requests:
        statuses[request.status] = statuses.get(request.status, 0) + 1
    if answer_bytes is not None:
        # The bytes of a request that was cut off at the end count too, and those of one that began before are missing.
        answered = int(_found(r"\((\d+)\) data", told)) / answer_bytes
        missing = round(done - answered)
        if missing > max(2, 0.001 * done):
            raise Internal(f"{missing} of {done} answers are gRPC errors: their bodies are missing")
    took = sorted(request.took_micros / 1e3 for request in requests if request.status == _OK)
    right_share = len(took) / max(len(requests), 1)
    return Load(done / seconds * right_share, percentile(took, 50), percentile(took, 99), statuses, failed)


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Of values in order; not a number when there are none."""
    return ordered[min(int(len(ordered) * percent / 100), len(ordered) - 1)] if ordered else float("nan")


def _run(command: Sequence[str]) -> str:
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise Internal(f"{command[0]} has failed: {ended.stderr.strip() or ended.stdout.strip()}")
    return ended.stdout


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    if match is None:
        raise Internal(f"cannot read what the load generator said: no {pattern!r} in {text!r}")
    return match.group(1)


def _milliseconds(text: str) -> float:
    match = re.fullmatch(r"([\d.]+)(us|ms|s|m|h)", text)
    if match is None:
        raise Internal(f"cannot read what the load generator said: {text!r} is no time")
    return float(match.group(1)) * _UNITS_MS[match.group(2)]
