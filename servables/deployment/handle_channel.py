"""Frames over Serve deployment handles."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ray import serve
from ray.exceptions import RayActorError, RayError
from ray.serve.exceptions import DeploymentUnavailableError

from cluster.core.errors import Code, NotServing, ReplicaLost, Status
from cluster.core.serving_map import Endpoint, ServableEntry
from servables.call import Call, Reply
from servables.deployment.version_replica import NOT_SERVING
from servables.frame import decode_replies, encode_calls, join
from servables.frontend.frame_channel import FrameChannel, OnReplies
from servables.profile import ProfileOptions

PLASMA_THRESHOLD_BYTES = 1 << 20
"""From here on the object store beats Serve's gRPC transport, which copies (docs/performance.md)."""

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Route:
    """One endpoint: two derived handles that share Serve's router, and what we know of the replicas behind it."""

    endpoint: Endpoint
    inline: Any
    by_reference: Any
    control: Any
    in_flight: int = 0
    recovery: asyncio.Task[None] | None = None

    @property
    def load(self) -> float:
        return self.in_flight / max(1, self.endpoint.replicas)


class HandleChannel(FrameChannel):
    """One version's frames, each a streaming call on the handle of the endpoint with the least in flight.

    Serve chooses among the replicas of an endpoint and waits when there is none. When a replica dies, its frames end in
    ReplicaLost; those that come after wait in one `ping` for its successor, not each in Serve's router, and their remaining
    time is counted down meanwhile.
    """

    def __init__(self, entry: ServableEntry, frontend_id: str) -> None:
        self._id = entry.id
        self._frontend_id = frontend_id
        self._routes: dict[tuple[str, str], _Route] = {}
        self._sending: set[asyncio.Task[None] | None] = set()
        self._closed = False
        self.update(entry)

    async def send(self, calls: Sequence[Call], on_replies: OnReplies) -> None:
        started = time.monotonic()
        route = await self._route()
        calls = self._still_waiting(calls, time.monotonic() - started, on_replies)
        if not calls:
            return
        buffers = encode_calls(calls)
        large = sum(map(len, buffers)) >= PLASMA_THRESHOLD_BYTES
        frame = np.frombuffer(join(buffers), np.uint8) if large else join(buffers)
        route.in_flight += len(calls)
        task = asyncio.current_task()
        self._sending.add(task)
        try:
            responses = (route.by_reference if large else route.inline).remote(self._frontend_id, frame)
            async for response in responses:
                if len(response) == len(NOT_SERVING):
                    raise NotServing(f"{self._id} is being unloaded")
                on_replies(decode_replies(response if isinstance(response, bytes) else response.data))
        except asyncio.CancelledError:
            if not self._closed:
                raise
            raise ReplicaLost("The channel was closed while the request was under way") from None
        except DeploymentUnavailableError as error:
            raise NotServing(f"{self._id} is gone") from error
        except RayActorError as error:
            self._recover(route)
            raise ReplicaLost(f"A replica of {self._id} died while it held the request") from error
        except RayError as error:
            logger.exception("a frame to %s failed", self._id)
            raise ReplicaLost(f"A replica of {self._id} failed while it held the request") from error
        finally:
            route.in_flight -= len(calls)
            self._sending.discard(task)

    def cancel(self, call_ids: Sequence[int]) -> None:
        for route in self._routes.values():
            # Which replica holds the calls is Serve's secret; the others ignore what they do not know.
            route.control.cancel.remote(self._frontend_id, list(call_ids))

    async def profile(self, options: ProfileOptions) -> bytes:
        route = await self._route()
        try:
            status, trace = await route.control.profile.remote(options)
        except DeploymentUnavailableError as error:
            raise NotServing(f"{self._id} is gone") from error
        except RayActorError as error:
            self._recover(route)
            raise ReplicaLost(f"A replica of {self._id} died while it was profiled") from error
        if not status.ok:
            raise status.to_error()
        return bytes(trace)

    def update(self, entry: ServableEntry) -> None:
        routes: dict[tuple[str, str], _Route] = {}
        for endpoint in entry.endpoints:
            key = (endpoint.application, endpoint.deployment)
            route = self._routes.get(key)
            if route is None:
                route = _open(endpoint)
            route.endpoint = endpoint
            routes[key] = route
        for key, route in self._routes.items():
            if key not in routes:
                _shut(route)
        self._routes = routes

    async def close(self) -> None:
        self._closed = True
        for task in self._sending:
            if task is not None:
                task.cancel()
        for route in self._routes.values():
            _shut(route)
        self._routes = {}

    async def _route(self) -> _Route:
        """The route with the least in flight among those whose replicas live; waits when none does."""
        while True:
            if not self._routes:
                raise NotServing(f"{self._id} has no replica")
            live = [route for route in self._routes.values() if route.recovery is None]
            if live:
                return min(live, key=lambda route: route.load)
            await asyncio.wait(
                [route.recovery for route in self._routes.values() if route.recovery], return_when="FIRST_COMPLETED"
            )

    def _recover(self, route: _Route) -> None:
        if route.recovery is None and not self._closed:
            route.recovery = asyncio.get_running_loop().create_task(self._ping(route))

    async def _ping(self, route: _Route) -> None:
        try:
            while True:
                try:
                    await route.control.ping.remote()
                    return
                except DeploymentUnavailableError:
                    return  # the next frame finds out for itself
                except RayError as error:
                    logger.info("waiting for a replica of %s: %s", self._id, type(error).__name__)
                    await asyncio.sleep(0.1)
        finally:
            route.recovery = None

    @staticmethod
    def _still_waiting(calls: Sequence[Call], waited_s: float, on_replies: OnReplies) -> Sequence[Call]:
        if waited_s < 0.001:
            return calls
        left = [call._replace(timeout_s=None if call.timeout_s is None else call.timeout_s - waited_s) for call in calls]
        late = [call for call in left if call.timeout_s is not None and call.timeout_s <= 0]
        if late:
            expired = Status(Code.DEADLINE_EXCEEDED, "The request expired while it waited for a replica")
            on_replies([Reply(call.call_id, status=expired) for call in late])
        return [call for call in left if call.timeout_s is None or call.timeout_s > 0]


def _open(endpoint: Endpoint) -> _Route:
    handle = serve.get_deployment_handle(endpoint.deployment, endpoint.application)
    pickled = {"request_serialization": "pickle", "response_serialization": "pickle"}
    return _Route(
        endpoint,
        inline=handle.options(method_name="frame", stream=True, _by_reference=False, **pickled),
        by_reference=handle.options(method_name="frame", stream=True, _by_reference=True),
        control=handle.options(_by_reference=False, **pickled),
    )


def _shut(route: _Route) -> None:
    if route.recovery is not None:
        route.recovery.cancel()
