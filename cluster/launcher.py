"""The commands that start, look at and stop servers; the part of the command line that knows about processes and Ray."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cluster.config.server_config import ServerConfig
from cluster.core.errors import Code, FailedPrecondition, Unavailable, error_for
from cluster.server_record import ServerRecord, ServerRecords, process_started, processes_of_session, state_directory
from cluster.server_status import ServerStatus
from cluster.terminal import Terminal

DRAIN_TIMEOUT_S = 50.0
STOP_TIMEOUT_S = 120.0
KILL_TIMEOUT_S = 5.0


def serve(config: ServerConfig) -> int:
    """Hosts a server in a process of its own until a signal comes, or leaves it running with --detach; returns the exit status.

    The first SIGINT or SIGTERM drains the server, the second ends everything at once.
    """
    terminal = Terminal()
    host = _Host(config)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, _: host.interrupt(received, terminal))
    try:
        return _follow(host, config, terminal)
    finally:
        host.close()


def status(ray_address: str | None, server_name: str | None) -> list[ServerStatus]:
    """The servers that answer: those of the cluster at `ray_address`, or all that this machine knows of."""
    found: list[ServerStatus] = []
    for address, names in _servers(ray_address, server_name).items():
        found.extend(_on_cluster(address, lambda server: server.status(), names))
    return found


def shutdown(ray_address: str | None, server_name: str | None) -> list[str]:
    """Drains and stops servers; their names."""
    stopped = []
    hosted = [record for record in _records(ray_address, server_name) if record.host_pid]
    for record in hosted:
        os.kill(record.host_pid, signal.SIGTERM)
        _wait_gone(record)
        stopped.append(record.name)
    gone = {(record.ray_address, record.name) for record in hosted}
    dead_clusters = {record.ray_address for record in hosted if record.owns_ray}
    records = ServerRecords(state_directory())
    for address, names in _servers(ray_address, server_name).items():
        if address in dead_clusters:
            continue
        left = None if names is None else names - {name for at, name in gone if at == address}
        if left is None or left:
            stopped.extend(_on_cluster(address, lambda server: server.stop(DRAIN_TIMEOUT_S) or server.name, left))
        for record in records.load():
            if record.ray_address == address and record.name in stopped:
                records.delete(record)
    return stopped


class _Host:
    """The process that runs `cluster.host`, in a session of its own."""

    def __init__(self, config: ServerConfig) -> None:
        logs = state_directory() / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        self.log_path = logs / f"{config.options.server_name}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "cluster.host"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        self._interrupts = 0
        payload = pickle.dumps((config, self.log_path))
        self._send(b"%d\n%s" % (len(payload), payload))

    def events(self) -> Iterator[dict[str, Any]]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            yield json.loads(line)

    def interrupt(self, number: int, terminal: Terminal) -> None:
        """A signal has come."""
        self._interrupts += 1
        if self._interrupts == 1:
            terminal.note("stopping: requests under way finish first; once more to stop at once")
            self._send(b"stop\n")
        else:
            self.kill()

    @property
    def interrupted_twice(self) -> bool:
        return self._interrupts > 1

    def detach(self) -> None:
        self._send(b"detach\n")

    def kill(self) -> None:
        """Ends the host at once, and the Ray that it started; on a cluster of others the server stays, to be shut down."""
        while processes := processes_of_session(self._process.pid):
            for pid in processes:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._process.poll()
            time.sleep(0.02)

    def close(self) -> None:
        """Lets go of the host."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def wait(self) -> int:
        return self._process.wait()

    def _send(self, data: bytes) -> None:
        try:
            assert self._process.stdin is not None
            self._process.stdin.write(data)
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError):
            pass  # the host has ended; its events say why


def _follow(host: _Host, config: ServerConfig, terminal: Terminal) -> int:
    """Shows what the host tells until it ends, or until it is left to itself."""
    terminal.note(f"Aspired is starting; its log is {host.log_path}")
    for event in host.events():
        match event["kind"]:
            case "progress":
                terminal.note(event["message"])
            case "ready":
                _show_ready(ServerRecord.model_validate(event["record"]), config.options.detach, terminal)
                if config.options.detach:
                    host.detach()
                    return 0
            case "error":
                host.wait()
                code = Code[event["code"]]
                raise error_for(code, event["message"])
            case "stopped":
                host.wait()
                terminal.note("stopped")
                return 0
    status = host.wait()
    host.kill()
    if host.interrupted_twice:
        if config.options.ray_address != "local":
            terminal.note(
                f"stopped at once; what is left on the cluster goes with {_shutdown_command(config.options.server_name)}"
            )
        return 130
    if status == 0:
        return 0
    raise Unavailable(f"the server's process has ended unexpectedly ({status}); its log is {host.log_path}")


def _show_ready(record: ServerRecord, detached: bool, terminal: Terminal) -> None:
    host = "localhost" if record.listen_address in ("0.0.0.0", "::") else record.listen_address
    where = [f"gRPC on {host}:{record.grpc_port}"] if record.grpc_port else []
    where += [f"REST on http://{host}:{record.rest_api_port}"] if record.rest_api_port else []
    end = f"stop it with {_shutdown_command(record.name)}" if detached else "Ctrl-C stops it"
    terminal.note(f"server {record.name} is ready: {', '.join(where)}; Ray is at {record.ray_address}; {end}")


def _shutdown_command(server_name: str) -> str:
    return f"`aspired shutdown --server_name={server_name}`"


def _records(ray_address: str | None, server_name: str | None) -> list[ServerRecord]:
    return [
        record
        for record in ServerRecords(state_directory()).load()
        if ray_address in (None, "auto", record.ray_address) and server_name in (None, record.name)
    ]


def _servers(ray_address: str | None, server_name: str | None) -> dict[str, set[str] | None]:
    """Ray address -> names of the servers to look for there; None stands for all that the cluster knows."""
    if ray_address not in (None, "auto", "local"):
        return {str(ray_address): {server_name} if server_name else None}
    servers: dict[str, set[str] | None] = {}
    for record in _records(None, server_name):
        names = servers.setdefault(record.ray_address, set())
        if names is not None:
            names.add(record.name)
    if not servers or ray_address == "auto":
        servers["auto"] = {server_name} if server_name else None
    return servers


def _on_cluster(address: str, act: Any, names: set[str] | None) -> list[Any]:
    """What `act` gives for each of the servers on the cluster at `address`; nothing where there is no cluster."""
    from cluster.host import connected

    results = []
    try:
        with connected(address):
            from cluster.server import Server

            for name in Server.names() if names is None else sorted(names):
                server = Server(name)
                if server.record() is not None:
                    results.append(act(server))
    except Unavailable:
        if address != "auto":
            raise
    return results


def _wait_gone(record: ServerRecord) -> None:
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while process_started(record.host_pid) == record.host_started:
        if time.monotonic() > deadline:
            raise FailedPrecondition(
                f"server {record.name} (process {record.host_pid}) has not stopped within {STOP_TIMEOUT_S:.0f} s; "
                f"its log is {Path(record.log_path)}"
            )
        time.sleep(0.1)
