"""Frames over Serve's handles, and frontends that lag behind, on the cluster of a running server."""

from __future__ import annotations

import asyncio
import shutil
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from cluster.config.names import NAMESPACE, manager_name
from cluster.core.acknowledgements import FrontendReport
from cluster.core.servable_id import ServableId
from cluster.core.serving_map import Endpoint, Epoch, ServableEntry, ServingMap
from cluster.host import connected
from servables.deployment.handle_channel import HandleChannel
from tests.cluster.aspired_server import AspiredServer, wait_until
from tests.cluster.conformance_replica import ConformanceReplica
from tests.unit.servables.frontend.frame_channel_conformance import (
    FrameChannelConformance,
    ReplicaUnderTest,
)

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def ray_of_server(server: AspiredServer) -> Iterator[AspiredServer]:
    """This process as a driver on the server's own Ray."""
    with connected(server.status()["ray_address"]):
        yield server


class ServedReplica(ReplicaUnderTest):
    def __init__(self, handle: Any, channel: HandleChannel) -> None:
        self._handle = handle
        self.channel = channel

    async def wait_until_held(self) -> None:
        await self._handle.wait_until_held.remote()

    async def release(self) -> None:
        await self._handle.release.remote()

    async def quiesce(self) -> None:
        await self._handle.quiesce.remote()


class TestHandleChannel(FrameChannelConformance):
    @pytest_asyncio.fixture
    async def replica(self, ray_of_server: AspiredServer) -> AsyncIterator[ReplicaUnderTest]:
        from ray import serve

        deployment = serve.deployment(ConformanceReplica).options(
            name="replica", max_ongoing_requests=1000, graceful_shutdown_wait_loop_s=0.05, ray_actor_options={"num_cpus": 0}
        )
        handle = await asyncio.to_thread(serve.run, deployment.bind(), name="conformance", route_prefix=None)
        entry = ServableEntry(ServableId("conformance", 1), (Endpoint("conformance", "replica", "here", 1),), b"", True)
        channel = HandleChannel(entry, "frontend")
        yield ServedReplica(handle, channel)
        await handle.release.remote()
        await channel.close()
        await asyncio.to_thread(serve.delete, "conformance")


class LateFrontend(threading.Thread):
    """A frontend that lives, polls and says it routes by a map only when it is told to."""

    def __init__(self, manager: Any) -> None:
        super().__init__(daemon=True)
        self._manager = manager
        self._acknowledge = threading.Event()
        self._ended = threading.Event()
        self.map = ServingMap(epoch=Epoch())

    def run(self) -> None:
        import ray

        applied = Epoch()
        while not self._ended.is_set():
            self.map = ray.get(self._manager.watch_map.remote(FrontendReport("late", "elsewhere", applied), self.map.epoch))
            if self._acknowledge.is_set():
                applied = self.map.epoch

    def acknowledge(self) -> None:
        self._acknowledge.set()

    def hold_back(self) -> None:
        self._acknowledge.clear()

    def routes_to(self) -> set[int]:
        return {servable.version for servable in self.map.entries}

    def stop(self) -> None:
        self._ended.set()
        self.join(30)


@pytest.fixture
def late(ray_of_server: AspiredServer) -> Iterator[LateFrontend]:
    import ray

    frontend = LateFrontend(ray.get_actor(manager_name("default"), namespace=NAMESPACE))
    frontend.acknowledge()
    frontend.start()
    wait_until(lambda: bool(frontend.map.entries), what="the late frontend has a map")
    yield frontend
    frontend.stop()


def test_a_version_is_available_only_once_the_last_frontend_routes_to_it_and_goes_only_once_none_does(
    ray_of_server: AspiredServer, late: LateFrontend, models: Path, exports: Path
) -> None:
    server = ray_of_server
    server.wait_state("half_plus_two", 1, "AVAILABLE")
    late.hold_back()
    shutil.copytree(exports / "2", models / "half_plus_two" / "2")
    wait_until(lambda: 2 in late.routes_to(), what="version 2 is in the map")
    seen = time.monotonic()
    while time.monotonic() < seen + 2.0:  # what must not happen needs a while not to happen in
        assert server.states("half_plus_two") == {1: "AVAILABLE", 2: "LOADING"}
    late.acknowledge()
    server.wait_state("half_plus_two", 2, "AVAILABLE")
    late.hold_back()
    # The late frontend may still send to version 1, whose replica therefore has to stay until it has heard.
    wait_until(lambda: 1 not in late.routes_to(), what="version 1 has left the map")
    assert server.states("half_plus_two")[1] == "UNLOADING"
    late.acknowledge()
    server.wait_state("half_plus_two", 1, "END")
    assert server.predict("half_plus_two", [2.0]) == (200, {"predictions": [3.0]})


def test_a_frontend_that_has_gone_silent_holds_nothing_back_for_longer_than_its_lease(
    ray_of_server: AspiredServer, late: LateFrontend, models: Path, exports: Path
) -> None:
    late.hold_back()
    shutil.copytree(exports / "3", models / "half_plus_two" / "3")
    wait_until(lambda: 3 in late.routes_to(), what="version 3 is in the map")
    late.stop()  # without a goodbye
    ray_of_server.wait_state("half_plus_two", 3, "AVAILABLE")
