"""A module of its own, by whose name the replica's process finds the class."""

from __future__ import annotations

import asyncio

from cluster.core.metrics import MetricCells
from cluster.core.replica_report import ReplicaReport
from servables.deployment.gated_runner import GatedRunner
from servables.deployment.replica_gate import ReplicaGate
from servables.deployment.version_replica import VersionReplica
from servables.direct_runner import DirectRunner
from servables.run_metrics import FrameMetrics
from tests.fakes.fake_servable import FakeServable, Gate
from tests.unit.servables.frontend.frame_channel_conformance import failure, is_held, run


class ConformanceReplica(VersionReplica):
    """The replica's own request path around a servable that the tests hold and release; nobody manages it."""

    async def __init__(self) -> None:  # type: ignore[misc]  # Serve awaits it
        self._held = Gate()
        self._gate = ReplicaGate("conformance 1")
        self._submissions = {}
        runner = DirectRunner(FakeServable(run, gate=self._held, held=is_held, fails=failure), num_threads=2)
        self._work = GatedRunner(runner, self._gate, FrameMetrics(MetricCells()), lambda: None)

    def _tell(self, report: ReplicaReport) -> None:
        raise AssertionError("this replica has no manager")

    async def wait_until_held(self) -> None:
        await asyncio.to_thread(self._held.wait_until_reached)

    async def release(self) -> None:
        self._held.open()

    async def quiesce(self) -> None:
        self._gate.close()
