"""A server's status, for people."""

from __future__ import annotations

from cluster.core.fetch_progress import FetchProgress
from cluster.server_status import ModelStatus, ServerStatus, VersionStatus
from cluster.terminal import Terminal

_STATE_STYLES = {"AVAILABLE": "green", "START": "cyan", "LOADING": "cyan", "UNLOADING": "cyan"}
_GIBIBYTE = 1 << 30
_NODE_ID_LENGTH = 8  # enough to tell nodes apart


def print_status(terminal: Terminal, status: ServerStatus) -> None:
    terminal.print(
        f"Server {status.server_name}: {'ready' if status.ready else 'not ready'}", "bold green" if status.ready else "bold"
    )
    terminal.print(f"  REST  {status.rest_url or 'off'}")
    terminal.print(f"  gRPC  {status.grpc_address or 'off'}")
    owner = "started by this server" if status.started_by_us else "joined"
    terminal.print(f"  Ray   {status.ray_address} ({owner}), namespace {status.namespace}")
    terminal.print()
    _print_models(terminal, status)
    if status.models_error:
        terminal.print(_one_line(status.models_error), "red")
    terminal.print()
    _print_nodes(terminal, status)
    terminal.print()
    terminal.print(f"Reserved: {_resources(status)}")


def _print_models(terminal: Terminal, status: ServerStatus) -> None:
    rows = []
    styles: list[str | None] = []
    for model in status.models:
        if model.source_error or not model.versions:
            rows.append(_source_row(model))
            styles.append("red" if model.source_error else "yellow")
        for version in sorted(model.versions, key=lambda version: -version.version):
            rows.append(_version_row(model, version))
            styles.append("red" if version.code != "OK" else _STATE_STYLES.get(version.state))
    terminal.table(("MODEL", "VERSION", "STATE", "REPLICAS", "NODES", "LOADS", "STATUS"), rows, styles)


def _source_row(model: ModelStatus) -> tuple[str, ...]:
    return (model.name, "-", "-", "-", "-", "-", _one_line(model.source_error) or f"no versions in {model.base_path}")


def _version_row(model: ModelStatus, version: VersionStatus) -> tuple[str, ...]:
    return (
        model.name,
        str(version.version),
        version.state,
        f"{version.replicas_ready}/{version.replicas_wanted}",
        ",".join(node[:_NODE_ID_LENGTH] for node in version.nodes) or "-",
        str(version.attempts),
        _status(version),
    )


def _status(version: VersionStatus) -> str:
    said = f"{version.code}: {_one_line(version.message)}" if version.message else version.code
    if version.fetch is None:
        return said
    fetching = f"fetching {FetchProgress(**version.fetch.model_dump())}"
    return fetching if version.code == "OK" else f"{fetching}; {said}"


def _print_nodes(terminal: Terminal, status: ServerStatus) -> None:
    terminal.table(
        ("NODE", "ADDRESS", "ALIVE", "FRONTENDS", "GPUS"),
        [
            (node.node_id[:_NODE_ID_LENGTH], node.address, "yes" if node.alive else "no", str(node.frontends), str(node.gpus))
            for node in status.nodes
        ],
        [None if node.alive else "red" for node in status.nodes],
    )


def _resources(status: ServerStatus) -> str:
    reserved, capacity = status.reserved, status.capacity
    parts = [
        f"{reserved.cpus:g} of {capacity.cpus:g} CPUs",
        f"{reserved.memory_bytes / _GIBIBYTE:.1f} of {capacity.memory_bytes / _GIBIBYTE:.1f} GiB of memory",
    ]
    if capacity.gpus:
        parts.append(f"{reserved.gpus} of {capacity.gpus} GPUs")
    if capacity.gpu_memory_bytes:
        parts.append(
            f"{reserved.gpu_memory_bytes / _GIBIBYTE:.1f} of {capacity.gpu_memory_bytes / _GIBIBYTE:.1f} GiB of GPU memory"
        )
    return ", ".join(parts)


def _one_line(text: str) -> str:
    return " ".join(text.split())
