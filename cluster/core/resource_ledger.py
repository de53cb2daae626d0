"""Admission: what is promised never exceeds what there is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from cluster.core.errors import ResourceExhausted
from cluster.core.resources import Gpu, Node, ReplicaResources, Slot
from cluster.core.servable_id import ServableId

_GIBIBYTE = 1 << 30


@dataclass(frozen=True, slots=True)
class Totals:
    """An amount of everything the ledger accounts for; `gpus` counts devices."""

    cpus: float = 0.0
    memory_bytes: int = 0
    gpus: int = 0
    gpu_memory_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Reservation:
    """What one version holds: `resources` in each of its slots."""

    resources: ReplicaResources
    slots: tuple[Slot, ...]


@dataclass(slots=True)
class _Use:
    """What is reserved on one node; the counters are by the device's index."""

    memory_bytes: int = 0
    cpus: float = 0.0
    gpu_memory_bytes: Counter[int] = field(default_factory=Counter)
    replicas: Counter[int] = field(default_factory=Counter)
    exclusive: Counter[int] = field(default_factory=Counter)

    def add(self, slot: Slot, resources: ReplicaResources, sign: int) -> None:
        self.memory_bytes += sign * resources.memory_bytes
        self.cpus += sign * resources.cpus
        if slot.gpu is not None:
            self.gpu_memory_bytes[slot.gpu] += sign * resources.gpu_memory_bytes
            self.replicas[slot.gpu] += sign
            self.exclusive[slot.gpu] += sign * resources.exclusive_gpu


class ResourceLedger:
    """The reservations of all versions against the cluster's nodes.

    Capacity may shrink under what is reserved (a node leaves, a device fails): then nothing new fits there, and `overcommitted`
    tells. One look-up costs in the order of the nodes, not of the reservations.
    """

    def __init__(self) -> None:
        self._nodes: dict[str, Node] = {}
        self._use: dict[str, _Use] = {}
        self._reservations: dict[ServableId, Reservation] = {}

    @property
    def has_gpus(self) -> bool:
        return any(node.gpus for node in self._nodes.values())

    def set_nodes(self, nodes: Sequence[Node]) -> None:
        """The cluster's nodes are these now. Reservations stay as they are, also on nodes that have left."""
        self._nodes = {node.node_id: node for node in nodes}

    def plan(
        self,
        servable: ServableId,
        resources: ReplicaResources,
        replicas: int | None,
        node_labels: Sequence[tuple[str, str]] = (),
        keep: Sequence[Slot] = (),
    ) -> tuple[Slot, ...]:
        """The slots that the version would get, all of them or none.

        `replicas` None: one on every GPU of the nodes with these labels, or one in all where the cluster has no GPU. A number: that many,
        on the least used devices, or on the nodes with the most free memory. `keep`: slots that it has and that cost nothing new.
        Raises ResourceExhausted, saying what is short.
        """
        planned = _Planned(self, resources)
        # A replica that began on CPUs before the GPUs were ours does not stay there.
        slots = [slot for slot in keep if self._exists(slot) and (slot.gpu is not None or not self.has_gpus)]
        slots += self._candidates(replicas, node_labels, slots, planned)
        wanted = replicas if replicas is not None else max(1, len(slots))
        if len(slots) < wanted or not slots:
            raise ResourceExhausted(
                f"Insufficient resources to load servable {servable} ({self._shortage(resources, replicas, node_labels)})"
            )
        return tuple(sorted(slots[:wanted], key=_slot_order))

    def reserve(self, servable: ServableId, resources: ReplicaResources, slots: Sequence[Slot]) -> None:
        """Books the slots, in place of what the version holds; planned before, or adopted from what runs."""
        self.release(servable)
        self._reservations[servable] = Reservation(resources, tuple(slots))
        for slot in slots:
            self._use.setdefault(slot.node_id, _Use()).add(slot, resources, 1)

    def release(self, servable: ServableId) -> bool:
        """Gives back what the version holds; True when it held something."""
        reservation = self._reservations.pop(servable, None)
        if reservation is None:
            return False
        for slot in reservation.slots:
            use = self._use[slot.node_id]
            use.add(slot, reservation.resources, -1)
            if not use.replicas.total() and not use.memory_bytes and not use.cpus:
                del self._use[slot.node_id]
        return True

    def holds(self, servable: ServableId) -> tuple[Slot, ...]:
        reservation = self._reservations.get(servable)
        return reservation.slots if reservation is not None else ()

    def all_exist(self, slots: Sequence[Slot]) -> bool:
        """Whether the nodes and devices of the slots are all there."""
        return all(self._exists(slot) for slot in slots)

    def capacity(self) -> Totals:
        """All that the live nodes have."""
        return Totals(
            sum(node.cpus for node in self._nodes.values()),
            sum(node.memory_bytes for node in self._nodes.values()),
            sum(len(node.gpus) for node in self._nodes.values()),
            sum(gpu.memory_bytes or 0 for node in self._nodes.values() for gpu in node.gpus),
        )

    def reserved(self) -> Totals:
        """All that is promised; `gpus` counts devices with at least one replica."""
        return Totals(
            sum(use.cpus for use in self._use.values()),
            sum(use.memory_bytes for use in self._use.values()),
            sum(sum(count > 0 for count in use.replicas.values()) for use in self._use.values()),
            sum(use.gpu_memory_bytes.total() for use in self._use.values()),
        )

    def overcommitted(self) -> tuple[str, ...]:
        """The ids of nodes that have less than is promised of them; empty unless capacity has shrunk."""
        return tuple(node_id for node_id, use in self._use.items() if not self._within(node_id, use))

    def _within(self, node_id: str, use: _Use) -> bool:
        node = self._nodes.get(node_id)
        if node is None or use.memory_bytes > node.memory_bytes or use.cpus > node.cpus:
            return False
        gpus = {gpu.index: gpu for gpu in node.gpus}
        return all(
            index in gpus
            and (gpus[index].memory_bytes is None or use.gpu_memory_bytes[index] <= (gpus[index].memory_bytes or 0))
            for index, count in use.replicas.items()
            if count
        )

    def _exists(self, slot: Slot) -> bool:
        node = self._nodes.get(slot.node_id)
        return node is not None and (slot.gpu is None or any(gpu.index == slot.gpu for gpu in node.gpus))

    def _candidates(
        self, replicas: int | None, labels: Sequence[tuple[str, str]], kept: Sequence[Slot], planned: _Planned
    ) -> list[Slot]:
        nodes = [node for node in self._nodes.values() if all(node.labels.get(key) == value for key, value in labels)]
        if self.has_gpus:
            return self._on_gpus(nodes, replicas, kept, planned)
        return self._on_cpus(nodes, 1 if replicas is None else replicas, kept, planned)

    def _on_gpus(self, nodes: Sequence[Node], replicas: int | None, kept: Sequence[Slot], planned: _Planned) -> list[Slot]:
        taken = {(slot.node_id, slot.gpu) for slot in kept}
        devices = [(node, gpu) for node in nodes for gpu in node.gpus if (node.node_id, gpu.index) not in taken]
        devices.sort(key=lambda device: (self._use_of(device[0]).replicas[device[1].index], device[0].node_id, device[1].index))
        found: list[Slot] = []
        for node, gpu in devices:
            if replicas is not None and len(kept) + len(found) >= replicas:
                break
            slot = planned.slot_on(node, gpu)
            if slot is not None:
                found.append(slot)
                planned.take(slot)
            elif replicas is None:
                found.clear()  # one per GPU is all or nothing
                break
        return found

    def _on_cpus(self, nodes: Sequence[Node], replicas: int, kept: Sequence[Slot], planned: _Planned) -> list[Slot]:
        found: list[Slot] = []
        while len(kept) + len(found) < replicas:
            fitting = [node for node in nodes if planned.fits(node)]
            if not fitting:
                break
            roomiest = max(fitting, key=lambda node: (planned.free_memory_bytes(node), node.node_id))
            slot = Slot(roomiest.node_id)
            found.append(slot)
            planned.take(slot)
        return found

    def _use_of(self, node: Node) -> _Use:
        return self._use.get(node.node_id) or _Use()

    def _shortage(self, resources: ReplicaResources, replicas: int | None, labels: Sequence[tuple[str, str]]) -> str:
        nodes = [node for node in self._nodes.values() if all(node.labels.get(key) == value for key, value in labels)]
        if not nodes:
            return "no node of the cluster has the labels it asks for" if labels else "the cluster has no node"
        most_free = max(node.memory_bytes - self._use_of(node).memory_bytes for node in nodes)
        parts = [f"needs {_gib(resources.memory_bytes)} of memory on one node; the most free is {_gib(most_free)}"]
        if resources.cpus:
            free_cpus = max(node.cpus - self._use_of(node).cpus for node in nodes)
            parts.append(f"needs {resources.cpus:g} CPUs; the most free is {free_cpus:g}")
        if self.has_gpus:
            devices = sum(len(node.gpus) for node in nodes)
            parts.append(
                f"needs {'every' if replicas is None else replicas} GPU with {_gib(resources.gpu_memory_bytes)} free"
                f"{' and nobody else on it' if resources.exclusive_gpu else ''}; there are {devices}"
            )
        return "; ".join(parts)


class _Planned:
    """A plan in the making: what would be left after the slots taken so far."""

    def __init__(self, ledger: ResourceLedger, resources: ReplicaResources) -> None:
        self._ledger = ledger
        self._resources = resources
        self._taken: dict[str, _Use] = {}

    def take(self, slot: Slot) -> None:
        self._taken.setdefault(slot.node_id, _Use()).add(slot, self._resources, 1)

    def free_memory_bytes(self, node: Node) -> int:
        taken = self._taken.get(node.node_id)
        return node.memory_bytes - self._ledger._use_of(node).memory_bytes - (taken.memory_bytes if taken else 0)

    def fits(self, node: Node) -> bool:
        taken = self._taken.get(node.node_id)
        free_cpus = node.cpus - self._ledger._use_of(node).cpus - (taken.cpus if taken else 0.0)
        return self.free_memory_bytes(node) >= self._resources.memory_bytes and free_cpus >= self._resources.cpus

    def slot_on(self, node: Node, gpu: Gpu) -> Slot | None:
        """The slot on this device, None when the replica does not fit there."""
        if not self.fits(node):
            return None
        use = self._ledger._use_of(node)
        if use.exclusive[gpu.index] or (self._resources.exclusive_gpu and use.replicas[gpu.index]):
            return None
        if gpu.memory_bytes is None or not self._resources.gpu_memory_bytes:
            return Slot(node.node_id, gpu.index)
        if gpu.memory_bytes - use.gpu_memory_bytes[gpu.index] < self._resources.gpu_memory_bytes:
            return None
        return Slot(node.node_id, gpu.index, self._resources.gpu_memory_bytes)


def _slot_order(slot: Slot) -> tuple[str, int]:
    return (slot.node_id, -1 if slot.gpu is None else slot.gpu)


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / _GIBIBYTE:.1f} GiB"
