"""Where the processes of a server report what they have counted, and scrapes ask for the sum."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping
from typing import NamedTuple

from cluster.actors.notification import Notification
from cluster.core.metric_catalog import METRICS
from cluster.core.metrics import CellKey, Value
from cluster.core.metrics_aggregate import MetricsAggregate

REPORT_INTERVAL_S = 5.0
"""How long a report is held; a process that is killed takes with it what it counted since."""
LEASE_S = 3 * REPORT_INTERVAL_S
COLLECT_TIMEOUT_S = 1.0
"""How long a scrape waits for processes that do not report."""


class Round(NamedTuple):
    """One scrape of the whole cluster. Another incarnation knows nothing of what was reported before."""

    incarnation: str
    number: int


NO_ROUND = Round("", 0)


class MetricsBoard:
    """Lives on the manager actor's event loop.

    Each process keeps one report open as a long poll; a scrape answers all of them, so that each reports again at once, and
    then adds up. Scrapes that come meanwhile share the next one.
    """

    def __init__(self) -> None:
        self._aggregate = MetricsAggregate(METRICS, LEASE_S)
        self._round = Round(uuid.uuid4().hex[:12], 1)
        self._heard: dict[str, int] = {}
        self._changed = Notification()
        self._ongoing: asyncio.Task[Mapping[CellKey, Value]] | None = None
        self._upcoming: asyncio.Task[Mapping[CellKey, Value]] | None = None

    def restore(self, saved: bytes) -> None:
        """See `MetricsAggregate.restore`."""
        self._aggregate.restore(saved, self._now())

    def save(self) -> bytes:
        """See `MetricsAggregate.save`."""
        return self._aggregate.save(self._now())

    async def report(self, process: str, changes: Mapping[CellKey, Value], seen: Round) -> Round:
        """Takes what a process has counted; returns when a scrape wants to know again, or after REPORT_INTERVAL_S.

        `seen` is what the last report returned. When the answer's incarnation is another one, all values must follow.
        """
        known = seen.incarnation == self._round.incarnation
        self._aggregate.report(process, changes, self._now())
        self._heard[process] = seen.number if known else 0
        self._changed.notify()
        if known:
            await self._changed.wait_for(lambda: self._round.number > seen.number, REPORT_INTERVAL_S)
        return self._round

    async def collect(self) -> Mapping[CellKey, Value]:
        """Every series of the server, with what was counted until now."""
        if self._upcoming is None:
            self._upcoming = asyncio.create_task(self._collect_after(self._ongoing))
        return await asyncio.shield(self._upcoming)

    async def _collect_after(self, ongoing: asyncio.Task[Mapping[CellKey, Value]] | None) -> Mapping[CellKey, Value]:
        if ongoing is not None:
            await asyncio.wait((ongoing,))
        self._ongoing, self._upcoming = self._upcoming, None
        self._round = number = self._round._replace(number=self._round.number + 1)
        self._changed.notify()
        await self._changed.wait_for(lambda: self._all_heard(number.number), COLLECT_TIMEOUT_S)
        return self._aggregate.sums(self._now())

    def _all_heard(self, number: int) -> bool:
        live = self._aggregate.live(self._now())
        self._heard = {process: heard for process, heard in self._heard.items() if process in live}
        return all(self._heard.get(process, 0) >= number for process in live)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
