"""The process that hosts a server: `aspired serve` starts it in a session of its own and talks to it over pipes.

A session of its own, because a signal to the command's process group (Ctrl-C, a supervisor) would otherwise kill Ray before
the server has drained. It reads the config (pickled, with its length in front) and then one command a line from standard
input, and writes one JSON event a line to standard output; logs go to standard error, which is a file. When standard input
ends without a command, the one who started it has died: it drains and ends too.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import pickle
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from cluster.config.log_options import configure_logging
from cluster.config.names import NAMESPACE
from cluster.config.server_config import ServerConfig
from cluster.core.errors import AspiredError, Cancelled, Internal, Unavailable
from cluster.core.fetch_progress import FetchProgress
from cluster.core.servable_id import ServableId
from cluster.core.stream_report import StreamReport
from cluster.ports import HeldPorts, check_alts
from cluster.server_record import ServerRecord, ServerRecords, process_started, state_directory
from servables.deployment.process_priority import may_raise_priority
from servables.fork_server.start_command import FORKS, start_fork_server

if TYPE_CHECKING:
    from cluster.actors.controller_actor import ControllerStatus
    from cluster.server import Server

CONNECT_TIMEOUT_S = 5.0
_MEBIBYTE = 1 << 20

logger = logging.getLogger(__name__)


class HostPipes:
    """The host's end of its conversation with the command."""

    def __init__(self, commands: io.RawIOBase, events: BinaryIO) -> None:
        self._commands = commands
        self._events = events
        self._stop = threading.Event()
        self._detached = threading.Event()

    def read_config(self) -> tuple[ServerConfig, Path]:
        size = int(self._commands.readline())
        payload = bytearray()
        while len(payload) < size:
            payload += self._commands.read(size - len(payload)) or b""
        config: tuple[ServerConfig, Path] = pickle.loads(payload)
        return config

    def listen(self) -> None:
        """Takes commands from now on, in a thread; SIGTERM and SIGINT mean `stop` too."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stop.set())
        threading.Thread(target=self._listen, name="commands", daemon=True).start()

    def _listen(self) -> None:
        for line in self._commands:
            if line == b"detach\n":
                self._detached.set()
                return
            if line == b"stop\n":
                break
        self._stop.set()

    @property
    def stopped(self) -> bool:
        return self._stop.is_set()

    def wait_stopped(self) -> None:
        self._stop.wait()

    def wait_detached(self) -> bool:
        """Whether the command has let go; False when it wants an end instead."""
        while not self._detached.wait(0.05):
            if self._stop.is_set():
                return False
        return True

    def tell(self, kind: str, **details: Any) -> None:
        logger.info("%s %s", kind, details)
        # The reader may be gone; then nobody needs to know.
        with contextlib.suppress(BrokenPipeError, ValueError):
            self._events.write(json.dumps({"kind": kind, **details}).encode() + b"\n")
            self._events.flush()


def main() -> int:
    """Hosts one server until it is told to stop or to detach."""
    # What a library prints must not get between the events.
    events = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    # Without a buffer: a thread that waits in a buffered read would hold its lock when the interpreter ends.
    pipes = HostPipes(os.fdopen(os.dup(0), "rb", buffering=0), events)
    config, log_path = pipes.read_config()
    configure_logging(config.options.log_options)
    pipes.listen()
    try:
        _host(config, log_path, pipes)
    except Cancelled:
        pipes.tell("stopped")
    except AspiredError as error:
        logger.error("cannot go on: %s", error)
        pipes.tell("error", code=error.code.name, message=error.message)
        return 1
    except Exception as error:
        logger.exception("cannot go on")
        pipes.tell("error", code=Internal.code.name, message=f"{type(error).__name__}: {error}")
        return 1
    return 0


def _host(config: ServerConfig, log_path: Path, pipes: HostPipes) -> None:
    options = config.options
    flags = (("port", options.port), ("rest_api_port", options.rest_api_port))
    ports = HeldPorts(options.host, [(flag, port) for flag, port in flags if port])
    if options.use_alts_credentials:
        check_alts()
    records = ServerRecords(state_directory())
    owns_ray = options.ray_address == "local"
    fork_server = None
    if owns_ray and options.fork_replicas and FORKS:
        fork_server = secrets.token_hex(16)
        # First of all: it imports while Ray starts.
        start_fork_server(fork_server, os.getpid())
    pipes.tell("progress", message="starting Ray" if owns_ray else f"joining the Ray cluster at {options.ray_address}")
    with connected(None if owns_ray else options.ray_address, options.object_store_memory_bytes):
        from cluster.server import Server

        server = Server(options.server_name)
        started = server.start(config, owns_ray, fork_server)
        record = started.model_copy(
            update={"host_pid": os.getpid(), "host_started": process_started(os.getpid()), "log_path": str(log_path)}
        )
        records.save(record)
        try:
            _open(server, record, pipes)
            ports.release()
            if options.detach and pipes.wait_detached() and not owns_ray:
                records.save(started)
                return
            # Detached, with a Ray of its own, which ends with this process: it stays, in the background, until SIGTERM.
            pipes.wait_stopped()
        except BaseException:
            server.stop(0.0)
            records.delete(record)
            raise
        server.stop(options.drain_timeout_s, lambda message: pipes.tell("progress", message=message))
        records.delete(record)
        pipes.tell("progress", message="stopping Ray" if owns_ray else "leaving the Ray cluster")
    pipes.tell("stopped")


def _open(server: Server, record: ServerRecord, pipes: HostPipes) -> None:
    """Waits for the models and opens the ports, telling what happens. Raises Cancelled when told to stop meanwhile."""
    told: set[str] = set()
    for status in server.until_settled():
        if pipes.stopped:
            raise Cancelled("stopped before the server was ready")
        for message in chain(_news(status), _fetch_news(server.fetches())):
            if message not in told:
                told.add(message)
                pipes.tell("progress", message=message)
    server.open_ports()
    pipes.tell("ready", record=record.model_dump())


def _news(status: ControllerStatus) -> Iterator[str]:
    for state in status.states:
        error = "" if state.status.ok else f": {state.status.message}"
        yield f"model {state.id.name} version {state.id.version}: {state.state.name}{error}"
    if status.models_error:
        yield status.models_error
    base_paths = {model.name: model.base_path for model in status.models.models}
    for stream in status.waiting:
        report = status.reports.get(stream, StreamReport())
        why = report.error or "; ".join(report.waiting)
        yield f"model {stream}: waiting for versions in {base_paths[stream]}" + (f" ({why})" if why else "")


def _fetch_news(fetches: Mapping[ServableId, FetchProgress]) -> Iterator[str]:
    """That a version is fetched and what keeps it; how far that is, is for `aspired status`."""
    for servable, fetch in fetches.items():
        model = f"model {servable.name} version {servable.version}"
        if fetch.bytes_total:
            unit, name = (_MEBIBYTE, "MiB") if fetch.bytes_total >= _MEBIBYTE else (1024, "KiB")
            yield f"{model}: fetching {fetch.bytes_total / unit:.1f} {name}"
        if fetch.trouble:
            yield f"{model}: fetching: {fetch.trouble}"


@contextlib.contextmanager
def connected(address: str | None, object_store_memory_bytes: int = 0) -> Iterator[None]:
    """A connection of this process to Ray: to the cluster at `address`, or to one started for it (None), which ends with it.

    Raises Unavailable when there is no cluster at the address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_SERVE_ENABLE_HA_PROXY", "0")
    if address is not None:
        _use_token()
    elif not may_raise_priority():
        # Else the processes that serve would stay behind everything else on the machine.
        os.environ.setdefault("RAY_worker_niceness", "0")
    import ray  # reads its environment when it is imported

    common: dict[str, Any] = {"namespace": NAMESPACE, "log_to_driver": False, "logging_level": logging.WARNING}
    try:
        if address is None:
            ray.init(
                address="local",
                include_dashboard=False,
                object_store_memory=object_store_memory_bytes,
                **common,
            )
        else:
            _check_reachable(address)
            ray.init(address=address, runtime_env=_code(), **common)
    except Exception as error:  # also a bare Exception, when its own processes are slow to start
        what = "Ray cannot be started" if address is None else f"no Ray cluster answers at {address}"
        hint = "" if address is None else "; start one with `ray start --head`, or leave --ray_address out to have a local one"
        raise Unavailable(f"{what}: {' '.join(str(error).split())}{hint}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Ray itself waits for minutes for an address where nothing listens."""
    host, _, port = address.rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_TIMEOUT_S).close()


def _use_token() -> None:
    """Ray shows its token to a cluster that it has found itself, but to one by address only when told to."""
    token = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    if "RAY_AUTH_TOKEN" in os.environ or token.exists():
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def _code() -> dict[str, Any] | None:
    """This code for the cluster's other nodes, unless a Ray job brings it with its working directory."""
    if os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR"):
        return None
    import cluster
    import servables

    return {"py_modules": [str(Path(package.__path__[0])) for package in (cluster, servables)]}


if __name__ == "__main__":
    sys.exit(main())
