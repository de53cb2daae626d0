from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from cluster.actors import metrics_board
from cluster.actors.metrics_board import MetricsBoard, Round
from cluster.actors.metrics_reporter import MetricsReporter
from cluster.core import metric_catalog as catalog
from cluster.core.metrics import CellKey, MetricCells, Value

KEY = CellKey(catalog.REQUEST_COUNT.name, ("m", "OK"))


class Process:
    """Something that counts and reports for as long as it lives."""

    def __init__(self, name: str, board: MetricsBoard) -> None:
        self.cells = MetricCells()
        self._board = board
        self._reporter = MetricsReporter(name, self.cells, self._report)
        self.reports = 0
        self.task = asyncio.create_task(self._reporter.run())

    def restart_board(self, board: MetricsBoard) -> None:
        self._board = board

    async def _report(self, process: str, changes: Mapping[CellKey, Value], seen: Round) -> Round:
        self.reports += 1
        return await self._board.report(process, changes, seen)

    def count(self) -> None:
        self.cells.counter(catalog.REQUEST_COUNT, "m", "OK").add()

    def die(self) -> None:
        self.task.cancel()


async def reported(*processes: Process) -> None:
    while not all(process.reports > 1 for process in processes):
        await asyncio.sleep(0)


async def test_a_scrape_has_what_was_counted_a_moment_ago() -> None:
    board = MetricsBoard()
    processes = [Process(name, board) for name in "abc"]
    await reported(*processes)
    for number in range(1, 20):
        for process in processes:
            process.count()
        assert (await board.collect())[KEY] == (3 * number,)


async def test_scrapes_that_come_together_share_one_round() -> None:
    board = MetricsBoard()
    process = Process("a", board)
    await reported(process)
    before = process.reports
    await asyncio.gather(*(board.collect() for _ in range(50)))
    assert process.reports - before <= 2


async def test_a_scrape_does_not_wait_for_the_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_board, "COLLECT_TIMEOUT_S", 0.05)
    board = MetricsBoard()
    dead, alive = Process("dead", board), Process("alive", board)
    await reported(dead, alive)
    dead.count()
    await board.collect()
    dead.die()
    alive.count()
    assert (await board.collect())[KEY] == (2,)


async def test_a_board_that_has_restarted_is_told_everything_again() -> None:
    board = MetricsBoard()
    process = Process("a", board)
    await reported(process)
    process.count()
    assert (await board.collect())[KEY] == (1,)
    second = MetricsBoard()
    second.restore(board.save())
    process.restart_board(second)
    await board.collect()  # ends the poll that the old board holds
    process.count()
    await reported(process)
    while (await second.collect())[KEY] != (2,):
        await asyncio.sleep(0)
