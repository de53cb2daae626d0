"""Figures as a table, as JSON, and as a section of a page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cluster.core.errors import InvalidArgument
from scripts.benchmarks.figure import Figure, Spread
from scripts.benchmarks.machine import Machine

BEGIN_MARK = "<!-- figures: written by scripts/bench, not by hand -->"
END_MARK = "<!-- end of figures -->"
COLUMNS = ("ROW", "WHAT", "MEASURED", "PEER", "OF", "RATIO (MIN-MAX)", "TARGET", "VERDICT")


@dataclass(frozen=True, slots=True)
class Report:
    """One run. `failures` are the rows that could not be measured, and why."""

    machine: Machine
    command: str
    seconds: int
    rounds: int
    date: str
    figures: Sequence[Figure]
    failures: Mapping[str, str]
    left_out: Sequence[str]
    """Names of the rows that need a peer that is not installed."""


def table_rows(report: Report) -> list[tuple[str, ...]]:
    """A row for each figure, under COLUMNS; medians of the rounds."""
    rows = [_row(figure) for figure in report.figures]
    rows += [(name, "failed", "-", "-", "-", "-", "-", why) for name, why in report.failures.items()]
    return rows


def as_json(report: Report) -> str:
    """Every round of every figure."""
    figures = [asdict(figure) | {"ratios": figure.ratios, "verdict": figure.verdict} for figure in report.figures]
    document: dict[str, Any] = asdict(report) | {"figures": figures}
    return json.dumps(document, indent=1) + "\n"


def as_markdown(report: Report, plot: str | None = None) -> str:
    """`plot` is the link to a picture of the same figures."""
    lines = [f"`{report.command}` on {report.date}: {report.machine}.", ""]
    lines += [f"{report.rounds} rounds, {report.seconds} s a measurement; medians of the rounds.", ""]
    if plot:
        lines += [f"![Aspired against its peers]({plot})", ""]
    columns = ("row", "what", "measured", "peer", "of", "ratio (min-max)", "target", "verdict")
    for row in (columns, ("---",) * len(columns), *table_rows(report)):
        lines.append("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |")
    if report.left_out:
        lines += ["", f"Left out, because their peer is not installed (`--peers`): {', '.join(report.left_out)}."]
    return "\n".join(lines) + "\n"


def rewrite_section(page: str, section: str) -> str:
    """The page with `section` between the marks. Raises InvalidArgument for a page that has not each of them once, in order."""
    if page.count(BEGIN_MARK) != 1 or page.count(END_MARK) != 1 or page.index(BEGIN_MARK) > page.index(END_MARK):
        raise InvalidArgument(f"the page needs the lines {BEGIN_MARK!r} and {END_MARK!r}, once each, around the figures")
    before, _, rest = page.partition(BEGIN_MARK)
    _, _, after = rest.partition(END_MARK)
    return f"{before}{BEGIN_MARK}\n\n{section.strip()}\n\n{END_MARK}{after}"


def _row(figure: Figure) -> tuple[str, ...]:
    ratio = Spread.of(figure.ratios) if figure.ratios else None
    return (
        figure.scenario,
        figure.quantity,
        f"{_number(Spread.of(figure.aspired).median)} {figure.unit}".strip(),
        _number(Spread.of(figure.peer).median) if figure.peer else "-",
        figure.peer_name or "-",
        f"{ratio.median:.2f}x ({ratio.low:.2f}-{ratio.high:.2f})" if ratio else "-",
        str(figure.target or "-"),
        figure.verdict,
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
