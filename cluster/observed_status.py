"""A server's status, put together from what its actors tell of themselves."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from cluster.actors.controller_actor import ControllerStatus
from cluster.core.acknowledgements import FrontendReport
from cluster.core.fetch_progress import FetchProgress, total_progress
from cluster.core.replica_report import ReplicaPhase, ReplicaReport
from cluster.core.resource_ledger import Totals
from cluster.core.resources import Node
from cluster.core.servable_id import ServableId
from cluster.core.servable_state import ServableState
from cluster.core.stream_report import StreamReport
from cluster.server_status import FetchStatus, ModelStatus, NodeStatus, ResourceTotals, VersionStatus


def node_statuses(
    ray_nodes: Iterable[Mapping[str, Any]], frontends: Sequence[FrontendReport], capacity: Sequence[Node]
) -> tuple[NodeStatus, ...]:
    """All nodes that Ray knows, the dead ones too; `capacity` is what the manager last saw of those that are ours to use."""
    gpus = {node.node_id: len(node.gpus) for node in capacity}
    return tuple(
        NodeStatus(
            node_id=node["NodeID"],
            address=node["NodeManagerAddress"],
            alive=node["Alive"],
            frontends=sum(report.node_id == node["NodeID"] and report.accepting for report in frontends),
            gpus=gpus.get(node["NodeID"], 0),
        )
        for node in sorted(ray_nodes, key=lambda node: str(node["NodeID"]))
    )


def model_statuses(controller: ControllerStatus, replicas: Sequence[ReplicaReport]) -> tuple[ModelStatus, ...]:
    """The models of the config, and those of which versions are left, each with its versions."""
    base_paths = {model.name: model.base_path for model in controller.models.models}
    names = dict.fromkeys((*base_paths, *(state.id.name for state in controller.states)))
    reports = {name: controller.reports.get(name, StreamReport()) for name in names}
    return tuple(
        ModelStatus(
            name=name,
            base_path=base_paths.get(name, ""),
            source_error=reports[name].error,
            source_error_since=_utc(reports[name].error_since) if reports[name].error else "",
            waiting=reports[name].waiting,
            versions=tuple(_version(state, controller, replicas) for state in controller.states if state.id.name == name),
        )
        for name in names
    )


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _version(state: ServableState, controller: ControllerStatus, replicas: Sequence[ReplicaReport]) -> VersionStatus:
    placement = controller.placements.get(state.id)
    copy = placement.copy if placement else 0
    mine = [report for report in replicas if report.version.id == state.id and report.copy == copy]
    status = placement.newer_files if placement and state.status.ok else state.status
    return VersionStatus(
        version=state.id.version,
        state=state.state.name,
        code=status.code.name,
        message=status.message,
        replicas_ready=sum(report.phase is ReplicaPhase.READY for report in mine),
        replicas_wanted=len(placement.slots) if placement else 0,
        nodes=tuple(sorted({slot.node_id for slot in placement.slots})) if placement else (),
        attempts=placement.attempts if placement else 0,
        caller_thread_signatures=tuple(sorted(frozenset().union(*(report.caller_thread_signatures for report in mine)))),
        fetch=FetchStatus(**asdict(fetch)) if (fetch := _fetch(mine)) is not None else None,
    )


def fetches_of(reports: Iterable[ReplicaReport]) -> dict[ServableId, FetchProgress]:
    """What is being fetched, by version."""
    of_version = defaultdict(list)
    for report in reports:
        of_version[report.version.id].append(report)
    return {servable: fetch for servable, mine in of_version.items() if (fetch := _fetch(mine)) is not None}


def _fetch(reports: Sequence[ReplicaReport]) -> FetchProgress | None:
    """What the nodes of a version fetch; the replicas of one node wait for the same bytes."""
    by_node = {report.node_id: report.fetch for report in reports if report.fetch is not None}
    return total_progress(tuple(by_node.values())) if by_node else None


def resource_totals(totals: Totals) -> ResourceTotals:
    """An amount of the ledger's, as the status has it."""
    return ResourceTotals(
        cpus=totals.cpus,
        memory_bytes=totals.memory_bytes,
        gpus=totals.gpus,
        gpu_memory_bytes=totals.gpu_memory_bytes,
    )
