"""What a test found, as people and programs get it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.bench.load import ClosedLoop
from cluster.bench.point import PERCENTILES, Point, knee

_LATENCIES = tuple(f"p{percent:g}" for percent in PERCENTILES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """`points` in the order in which they were measured. `version` is the one that was asked for its signatures."""

    target: str
    protocol: str
    model: str
    version: int
    input: str
    points: Sequence[Point]
    latency_budget_ms: float | None = None

    @property
    def knee(self) -> Point | None:
        return knee(self.points, self.latency_budget_ms)

    @property
    def budget_held(self) -> bool:
        """Whether at least one load held the budget; true without one."""
        return self.latency_budget_ms is None or self.knee is not None

    @property
    def stages(self) -> list[str]:
        """The stages of all points, in the order of a request's way."""
        return list(dict.fromkeys(stage.name for point in self.points if point.breakdown for stage in point.breakdown.stages))

    def figures(self) -> list[list[str]]:
        """A row of text for each point, under `figure_columns`."""
        return [self._figures(point) for point in self.points]

    @property
    def figure_columns(self) -> tuple[str, ...]:
        latencies = (f"{name} MS".upper() for name in (*_LATENCIES, "max", "mean"))
        return (self._load_column, "REQUESTS/S", "ROWS/S", *latencies, "FAILED", "CLIENT CPU", "")

    def server_figures(self) -> list[list[str]]:
        """A row of text, under `server_columns`, for each point of which the server's metrics told something."""
        return [self._server_figures(point) for point in self.points if point.breakdown is not None]

    @property
    def server_columns(self) -> tuple[str, ...]:
        return (self._load_column, "IN SERVER", *(name.upper() for name in self.stages), "OUTSIDE", "ROWS/RUN")

    def to_json(self) -> str:
        best = self.knee
        document = {
            "target": self.target,
            "protocol": self.protocol,
            "model": self.model,
            "version": self.version,
            "input": self.input,
            "latency_budget_ms": self.latency_budget_ms,
            "points": [_document(point, point is best) for point in self.points],
        }
        return json.dumps(document, indent=2) + "\n"

    def to_csv(self) -> str:
        best, stages = self.knee, self.stages
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        latencies = (f"{name}_ms" for name in (*_LATENCIES, "max", "mean"))
        writer.writerow(
            [
                *("mode", "load", "seconds", "requests", "requests_per_s", "rows_per_s", *latencies, "failed", "errors"),
                *("client_cpu", "stable", "knee", "remarks"),
                *("server_us", *(f"{name}_us" for name in stages), "outside_us", "rows_per_run"),
            ]
        )
        writer.writerows(_csv_row(point, point is best, stages) for point in self.points)
        return text.getvalue()

    @property
    def _load_column(self) -> str:
        return "CONCURRENCY" if all(isinstance(point.load, ClosedLoop) for point in self.points) else "RATE/S"

    def _figures(self, point: Point) -> list[str]:
        sample = point.sample
        latencies = [*(point.percentile_ms(percent) for percent in PERCENTILES)]
        latencies += [sample.latencies.longest_s * 1e3, sample.latencies.mean_s * 1e3]
        remarks = (["<- knee"] if point is self.knee else []) + point.remarks()
        return [
            f"{point.load.value:g}",
            _rate(sample.requests_per_s),
            _rate(sample.rows_per_s),
            *(f"{latency:.2f}" for latency in latencies),
            f"{sample.failed_share:.2%}" if sample.failed else "0",
            f"{sample.client_cpu_share:.0%}",
            ", ".join(remarks),
        ]

    def _server_figures(self, point: Point) -> list[str]:
        found = point.breakdown
        assert found is not None
        stages = {stage.name: f"{stage.mean_us:.0f}" for stage in found.stages}
        return [
            f"{point.load.value:g}",
            f"{found.request_us:.0f}",
            *(stages.get(name, "-") for name in self.stages),
            "-" if point.outside_us is None else f"{point.outside_us:.0f}",
            "-" if found.rows_per_run is None else f"{found.rows_per_run:.1f}",
        ]


def _rate(per_s: float) -> str:
    return f"{per_s:,.0f}" if per_s >= 100 else f"{per_s:.1f}"


def _mode(point: Point) -> str:
    return "concurrency" if isinstance(point.load, ClosedLoop) else "request_rate"


def _latencies_ms(point: Point) -> Iterable[tuple[str, float]]:
    for name, percent in zip(_LATENCIES, PERCENTILES, strict=True):
        yield name, round(point.percentile_ms(percent), 4)
    yield "max", round(point.sample.latencies.longest_s * 1e3, 4)
    yield "mean", round(point.sample.latencies.mean_s * 1e3, 4)


def _document(point: Point, is_knee: bool) -> dict[str, Any]:
    sample, found = point.sample, point.breakdown
    return {
        "mode": _mode(point),
        "load": point.load.value,
        "seconds": round(sample.elapsed_s, 3),
        "requests": sample.succeeded,
        "requests_per_s": round(sample.requests_per_s, 2),
        "rows_per_s": round(sample.rows_per_s, 2),
        "latency_ms": dict(_latencies_ms(point)),
        "failed": sample.failed,
        "errors": {
            code.name: {"count": count, "message": sample.messages.get(code, "")} for code, count in sample.errors.items()
        },
        "client_cpu": [round(share, 3) for share in sample.client_cpu_shares],
        "stable": point.stable,
        "knee": is_knee,
        "remarks": point.remarks(),
        "server": None
        if found is None
        else {
            "requests": found.requests,
            "request_us": round(found.request_us, 1),
            "stages_us": {stage.name: round(stage.mean_us, 1) for stage in found.stages},
            "outside_us": None if point.outside_us is None else round(point.outside_us, 1),
            "rows_per_run": None if found.rows_per_run is None else round(found.rows_per_run, 2),
        },
    }


def _csv_row(point: Point, is_knee: bool, stages: Sequence[str]) -> list[object]:
    document = _document(point, is_knee)
    server = document["server"] or {"request_us": "", "stages_us": {}, "outside_us": "", "rows_per_run": ""}
    return [
        *(document[key] for key in ("mode", "load", "seconds", "requests", "requests_per_s", "rows_per_s")),
        *document["latency_ms"].values(),
        document["failed"],
        " ".join(f"{name}={error['count']}" for name, error in document["errors"].items()),
        sum(document["client_cpu"]),
        document["stable"],
        is_knee,
        ", ".join(document["remarks"]),
        server["request_us"],
        *(server["stages_us"].get(name, "") for name in stages),
        server["outside_us"],
        server["rows_per_run"],
    ]
