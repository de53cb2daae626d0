"""Generators in processes of their own, and what passes between them and the command."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import multiprocessing
import resource
import signal
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Self

import uvloop

from cluster.bench.generator import make_generator
from cluster.bench.load import Load
from cluster.bench.load_request import LoadRequest
from cluster.bench.sample import Sample, side_by_side
from cluster.bench.slot import Connections
from cluster.client.connection_options import ConnectionOptions
from cluster.client.target import Protocol, Target
from cluster.core.errors import Internal

STOP_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Where requests go. `timeout_s` is for each of them; `channels` are the connections of all processes over gRPC."""

    target: Target
    options: ConnectionOptions
    timeout_s: float | None
    channels: int


@dataclass(frozen=True, slots=True)
class _Begin:
    """Bring this load about: a tick after `warmup_s`, and one every `tick_s` from then on."""

    load: Load
    warmup_s: float
    tick_s: float


@dataclass(frozen=True, slots=True)
class _End:
    """Stop sending; answered with the same word."""


@dataclass(frozen=True, slots=True)
class _Failed:
    """A process cannot go on; the last thing that it says."""

    message: str


class GeneratorProcesses:
    """So many processes that share each load. A context manager; belongs to one thread.

    with GeneratorProcesses(2, destination, requests) as processes:
        with closing(processes.run(load, warmup_s=1.0, tick_s=1.0)) as ticks:     # closing it ends the load
            warmup = next(ticks)
            for tick in ticks:
                ...
    """

    def __init__(self, count: int, destination: Destination, requests: Sequence[LoadRequest]) -> None:
        # A fork would take this process's threads half along, gRPC's above all.
        context = multiprocessing.get_context("spawn")
        self._processes = []
        self._connections: list[Connection[object, object]] = []
        # Ctrl-C reaches the whole foreground, but only the command is to decide what it means: processes inherit the mask,
        # which multiprocessing lifts when it has to start its tracker first.
        resource_tracker.ensure_running()
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            for index in range(count):
                ours, theirs = context.Pipe()
                process = context.Process(
                    target=_generate, args=(theirs, index, count, destination, tuple(requests)), daemon=True
                )
                process.start()
                theirs.close()
                self._processes.append(process)
                self._connections.append(ours)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def run(self, load: Load, *, warmup_s: float, tick_s: float) -> Generator[Sample, None, None]:
        """What all of them saw, tick by tick, without end. Raises Internal when one of them dies."""
        for connection in self._connections:
            connection.send(_Begin(load, warmup_s, tick_s))
        try:
            while True:
                yield side_by_side([self._receive(index) for index in range(len(self._connections))])
        finally:
            self._end()

    def close(self) -> None:
        """Stops the processes; at once, if they do not stop by themselves."""
        for connection in self._connections:
            connection.close()
        for process in self._processes:
            process.join(STOP_TIMEOUT_S)
            if process.is_alive():
                process.kill()
                process.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _receive(self, index: int) -> Sample:
        try:
            message = self._connections[index].recv()
        except (EOFError, OSError):
            process = self._processes[index]
            process.join(STOP_TIMEOUT_S)
            raise Internal(f"A load generator has ended unexpectedly, with status {process.exitcode}") from None
        if isinstance(message, _Failed):
            raise Internal(f"A load generator has failed: {message.message}")
        assert isinstance(message, Sample)
        return message

    def _end(self) -> None:
        """Waits until no process sends any more, so that the next load is alone."""
        with contextlib.suppress(OSError):
            for connection in self._connections:
                connection.send(_End())
        deadline = time.monotonic() + STOP_TIMEOUT_S
        for connection in self._connections:
            # Ticks that were on their way come first.
            with contextlib.suppress(EOFError, OSError):
                while connection.poll(max(0.0, deadline - time.monotonic())) and not isinstance(connection.recv(), _End):
                    pass


def _generate(
    connection: Connection, index: int, count: int, destination: Destination, requests: Sequence[LoadRequest]
) -> None:
    """The life of a process: until the other end of its connection is closed."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a slot may be a connection
    gc.freeze()
    # The command may have gone at any time.
    with contextlib.suppress(EOFError, ConnectionError):
        try:
            uvloop.run(_serve(connection, index, count, destination, requests))
        except (EOFError, ConnectionError):
            raise
        except Exception as error:
            connection.send(_Failed(f"{type(error).__name__}: {error}"))


async def _serve(
    connection: Connection, index: int, count: int, destination: Destination, requests: Sequence[LoadRequest]
) -> None:
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(connection.fileno(), readable.set)
    failed: asyncio.Future[None] = loop.create_future()
    loop.set_exception_handler(lambda _, context: _fail(failed, context))
    rows = [request.rows for request in requests]

    async def next_message() -> object:
        while not connection.poll():
            readable.clear()
            await readable.wait()
        message: object = connection.recv()
        return message

    while True:
        begin = await next_message()
        if not isinstance(begin, _Begin):
            continue  # the end of a load that has ended
        connections = _open(destination, requests, index, count)
        try:
            generator = make_generator(begin.load, connections, rows, index, count)
            generator.start()
            ended = asyncio.ensure_future(next_message())
            due = time.perf_counter() + begin.warmup_s
            while not await _first_of(ended, failed, due - time.perf_counter()):
                connection.send(generator.sample())
                due += begin.tick_s
            generator.stop()
            await (failed if failed.done() else ended)
        finally:
            await connections.close()
        connection.send(_End())


async def _first_of(ended: asyncio.Future[object], failed: asyncio.Future[None], timeout_s: float) -> bool:
    """Whether one of them is done within the time."""
    futures: list[asyncio.Future[Any]] = [ended, failed]
    done, _ = await asyncio.wait(futures, timeout=max(0.0, timeout_s), return_when=asyncio.FIRST_COMPLETED)
    return bool(done)


def _fail(failed: asyncio.Future[None], context: Mapping[str, Any]) -> None:
    if not failed.done():
        failed.set_exception(context.get("exception") or RuntimeError(context["message"]))


def _open(destination: Destination, requests: Sequence[LoadRequest], index: int, count: int) -> Connections:
    target, options = destination.target, destination.options
    # Each process needs one protocol's library only, and gRPC's takes long to import.
    if target.protocol is Protocol.REST:
        from cluster.bench.http_connections import HttpConnections

        return HttpConnections(target, options, requests, destination.timeout_s)
    from cluster.bench.grpc_connections import GrpcConnections

    channels = max(1, destination.channels // count + (index < destination.channels % count))
    return GrpcConnections(target, options, requests, destination.timeout_s, channels)
