"""Slots over gRPC, which share channels; messages are sent and received as bytes, never parsed."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import grpc.aio

from cluster.bench.load_request import LoadRequest
from cluster.bench.slot import Answered, Connections, Slot
from cluster.client.connection_options import ConnectionOptions
from cluster.client.grpc_transport import call_metadata, grpc_failure, open_async_channel
from cluster.client.target import Target

RECONNECT_PAUSE_S = 0.1
"""After a connection that could not be made: a channel that is down fails calls as fast as they are made."""


class GrpcConnections(Connections):
    """`timeout_s` is the deadline that the server sees, so gRPC itself ends what takes longer."""

    def __init__(
        self,
        target: Target,
        options: ConnectionOptions,
        requests: Sequence[LoadRequest],
        timeout_s: float | None,
        channels: int,
    ) -> None:
        self.target = target
        self.timeout_s = timeout_s
        self.metadata = call_metadata(options.headers)
        self.bodies = [request.wire.body for request in requests]
        # Channels with equal arguments share one connection, unless each keeps its own.
        self._channels = [open_async_channel(target, options, ("grpc.use_local_subchannel_pool", 1)) for _ in range(channels)]
        paths = [request.wire.path for request in requests]
        self._methods = itertools.cycle([_methods(channel, paths) for channel in self._channels])
        self._slots: list[_GrpcSlot] = []

    def slot(self, answered: Answered) -> Slot:
        slot = _GrpcSlot(self, next(self._methods), answered)
        self._slots.append(slot)
        return slot

    def expire(self, now: float) -> None:
        """gRPC has done so."""

    async def close(self) -> None:
        for slot in self._slots:
            slot.cancel()
        self._slots.clear()
        for channel in self._channels:
            await channel.close(None)


Method = Callable[..., Awaitable[bytes]]


class _GrpcSlot(Slot):
    __slots__ = ("_answered", "_connections", "_methods", "_task")

    def __init__(self, connections: GrpcConnections, methods: Sequence[Method], answered: Answered) -> None:
        super().__init__()
        self._connections = connections
        self._methods = methods
        self._answered = answered
        self._task: asyncio.Task[None] | None = None

    def send(self, number: int) -> None:
        self.number = number
        self._task = asyncio.get_running_loop().create_task(self._call(number))

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _call(self, number: int) -> None:
        connections = self._connections
        try:
            await self._methods[number](
                connections.bodies[number], timeout=connections.timeout_s, metadata=connections.metadata
            )
        except grpc.aio.AioRpcError as error:
            outcome = grpc_failure(error, connections.target, connections.timeout_s)
            if not outcome.sent:
                await asyncio.sleep(RECONNECT_PAUSE_S)
            self._answered(self, outcome.error)
        else:
            self._answered(self, None)


def _methods(channel: grpc.aio.Channel, paths: Sequence[str]) -> list[Method]:
    """For each request the method it goes to."""
    methods: dict[str, Any] = {path: channel.unary_unary(path, None, None) for path in set(paths)}
    return [methods[path] for path in paths]
