from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from servables.direct_runner import DirectRunner
from servables.frontend.local_channel import LocalChannel
from tests.fakes.fake_servable import FakeServable, Gate
from tests.unit.servables.frontend.frame_channel_conformance import (
    FrameChannelConformance,
    ReplicaUnderTest,
    failure,
    is_held,
    run,
)


class LocalReplica(ReplicaUnderTest):
    def __init__(self, *, encoded: bool) -> None:
        self._gate = Gate()
        servable = FakeServable(run, gate=self._gate, held=is_held, fails=failure)
        self._runner = DirectRunner(servable, num_threads=2)
        self.channel: LocalChannel = LocalChannel(self._runner, encoded=encoded)

    async def wait_until_held(self) -> None:
        await asyncio.to_thread(self._gate.wait_until_reached)

    async def release(self) -> None:
        self._gate.open()

    async def quiesce(self) -> None:
        self.channel.quiesce()

    async def close(self) -> None:
        self._gate.open()
        await self.channel.close()
        await self._runner.close()


class TestLocalChannel(FrameChannelConformance):
    @pytest_asyncio.fixture(params=[False, True], ids=["as objects", "encoded"])
    async def replica(self, request: pytest.FixtureRequest) -> AsyncIterator[ReplicaUnderTest]:
        replica = LocalReplica(encoded=request.param)
        yield replica
        await replica.close()
