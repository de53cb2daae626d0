"""What one process counts, on its way to the manager and to Ray's own metrics."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from cluster.actors.actor_link import ActorLink
from cluster.actors.metrics_board import NO_ROUND, Round
from cluster.actors.ray_metrics import RayMetrics
from cluster.core.metrics import CellKey, MetricCells, Value

RETRY_S = 1.0

logger = logging.getLogger(__name__)

Report = Callable[[str, Mapping[CellKey, Value], Round], Awaitable[Round]]
"""`ManagerActor.report_metrics`, or the board itself."""


def report_to(manager: ActorLink) -> Report:
    """How processes other than the manager's report."""

    async def report(process: str, changes: Mapping[CellKey, Value], seen: Round) -> Round:
        answer: Round = await manager.call("report_metrics", process, changes, seen)
        return answer

    return report


class MetricsReporter:
    """Keeps one report open at the manager for as long as `run` runs.

    `refresh` is called before each report, to bring gauges up to date.
    """

    def __init__(self, process: str, cells: MetricCells, report: Report, refresh: Callable[[], None] = lambda: None) -> None:
        self._process = process
        self._cells = cells
        self._report = report
        self._refresh = refresh
        self._ray_metrics = RayMetrics()

    async def run(self) -> None:
        seen = NO_ROUND
        while True:
            try:
                self._refresh()
                changes = self._cells.changes()
                self._ray_metrics.update(changes)
                answer = await self._report(self._process, changes, seen)
            except Exception:  # metrics must not end with one bad report
                logger.exception("reporting metrics failed")
                self._cells.forget_reports()
                await asyncio.sleep(RETRY_S)
                continue
            if answer.incarnation != seen.incarnation:
                self._cells.forget_reports()
            seen = answer
