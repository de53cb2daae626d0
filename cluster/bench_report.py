"""A load test's progress and its findings, for people."""

from __future__ import annotations

from cluster.bench.load_test import Progress
from cluster.bench.point import Point
from cluster.bench.report import Report
from cluster.terminal import Terminal


def print_progress(terminal: Terminal, progress: Progress) -> None:
    tick = progress.tick
    failed = f", {tick.failed} failed" if tick.failed else ""
    note = ", warming up" if progress.warming_up else ""
    terminal.note(
        f"{progress.load}: {progress.elapsed_s:5.1f} s  {tick.requests_per_s:9,.1f} requests/s"
        f"  p99 {tick.latencies.percentile_s(99) * 1e3:8.2f} ms{failed}{note}"
    )


def print_bench_report(terminal: Terminal, report: Report) -> None:
    terminal.print(f"{report.model} version {report.version} at {report.target}: {report.input}")
    terminal.print()
    best = report.knee
    styles = ["bold green" if point is best else "yellow" if point.remarks() else None for point in report.points]
    terminal.table(report.figure_columns, report.figures(), styles)
    rows = report.server_figures()
    if rows:
        terminal.print()
        terminal.print("Mean microseconds of a request, by the server's own metrics:")
        terminal.table(report.server_columns, rows)
    for point in report.points:
        _print_errors(terminal, point)
    terminal.print()
    if best is not None:
        terminal.print(_conclusion(report, best), "bold")
    elif report.latency_budget_ms is not None:
        terminal.print(f"No load held a p99 of {report.latency_budget_ms:g} ms.", "bold red")
    if any(point.client_saturated for point in report.points):
        terminal.warn(
            "this client was saturated, so the server may be faster than these figures: "
            "use --processes, or a machine that is not the server's"
        )
    if any(point.sent_late for point in report.points):
        terminal.warn(
            "requests were sent late, which counts in their latencies: this machine is too busy for an open loop at these rates"
        )


def _conclusion(report: Report, best: Point) -> str:
    found = f"{best.load}: {best.sample.requests_per_s:,.0f} requests/s at a p99 of {best.percentile_ms(99):.2f} ms."
    if report.latency_budget_ms is not None:
        return f"Best within a p99 of {report.latency_budget_ms:g} ms: {found}"
    if best.load.value == max(point.load.value for point in report.points):
        return f"The knee is beyond these loads. The last, {found}"
    return f"Knee at {found}"


def _print_errors(terminal: Terminal, point: Point) -> None:
    sample = point.sample
    for code, count in sample.errors.items():
        terminal.print(
            f"{point.load}: {count:,} failed with {code.name}: {' '.join(sample.messages.get(code, '').split())}", "red"
        )
