"""Admission: what is promised never exceeds what there is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field

from cluster.core.errors import ResourceExhausted
from cluster.core.resources import Gpu, GpuUse, Node, ReplicaResources, Slot
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
    """What one holder has: `resources` in each of its slots."""

    resources: ReplicaResources
    slots: tuple[Slot, ...]


@dataclass(slots=True)
class _Use:
    """What is reserved on one node; the counters are by the device's index."""

    slots: int = 0
    memory_bytes: int = 0
    cpus: float = 0.0
    gpu_memory_bytes: Counter[int] = field(default_factory=Counter)
    replicas: Counter[int] = field(default_factory=Counter)
    exclusive: Counter[int] = field(default_factory=Counter)

    def add(self, slot: Slot, resources: ReplicaResources, sign: int = 1) -> None:
        self.slots += sign
        self.memory_bytes += sign * resources.memory_bytes
        self.cpus = round(self.cpus + sign * resources.cpus, 6)  # sums of fractions come back to zero
        if slot.gpu is not None:
            self.gpu_memory_bytes[slot.gpu] += sign * resources.gpu_memory_bytes
            self.replicas[slot.gpu] += sign
            self.exclusive[slot.gpu] += sign * resources.exclusive_gpu


_UNUSED = _Use()


class ResourceLedger:
    """The reservations of all versions against the cluster's nodes.

    `plan` finds slots, `reserve` books them for a holder: a version or, where it has several, one copy of it. Capacity may
    shrink under what is reserved (a node leaves, a device fails), and what is found running is booked whatever there is: then
    nothing new fits there, and `overcommitted` tells. A plan costs in the order of the nodes and devices, whatever the number
    of reservations.
    """

    def __init__(self) -> None:
        self._nodes: dict[str, Node] = {}
        self._devices: dict[tuple[str, int | None], Gpu] = {}
        self._use: dict[str, _Use] = {}
        self._reservations: dict[Hashable, Reservation] = {}
        self._excused: set[str] = set()
        self._most_free_bytes: int | None = None

    @property
    def has_gpus(self) -> bool:
        return bool(self._devices)

    def set_nodes(self, nodes: Sequence[Node]) -> bool:
        """The cluster's nodes are these now; True when its GPUs are others than before.

        Reservations stay as they are, also on nodes that have left.
        """
        before = self._devices.keys()
        self._nodes = {node.node_id: node for node in nodes}
        self._devices = {(node.node_id, gpu.index): gpu for node in nodes for gpu in node.gpus}
        self._excused = set(self.overcommitted())
        self._most_free_bytes = None
        return self._devices.keys() != before

    def plan(
        self,
        servable: ServableId,
        resources: ReplicaResources,
        replicas: int | None,
        node_labels: Sequence[tuple[str, str]] = (),
        keep: Sequence[Slot] = (),
    ) -> tuple[Slot, ...]:
        """The slots that the version would get, all of them or none; books nothing.

        Only nodes with all of `node_labels` count. `replicas` None: one on every GPU of these nodes, or one in all where they
        have none or none is wanted. A number: that many, on the devices with the fewest replicas, or spread over the nodes with
        the most free memory. `keep`: slots that the version holds already; those that are still right stay as they are.
        Raises ResourceExhausted, saying what is short.
        """
        nodes = [node for node in self._nodes.values() if all(node.labels.get(key) == value for key, value in node_labels)]
        devices = [(node, gpu) for node in nodes for gpu in node.gpus if resources.gpu is not GpuUse.NONE]
        matching = {node.node_id for node in nodes}
        # A replica that began on CPUs before the GPUs were ours does not stay there.
        kept = [
            slot for slot in keep if slot.node_id in matching and self._exists(slot) and (slot.gpu is None) == (not devices)
        ]
        if devices:
            wanted = len(devices) if replicas is None else replicas
            slots = self._on_gpus(devices, wanted, kept, resources)
        else:
            wanted = 1 if replicas is None else replicas
            slots = self._on_cpus(nodes, wanted, kept, resources)
        if len(slots) < wanted:
            shortage = _Shortage(self, nodes, devices, resources, wanted)
            raise ResourceExhausted(f"Insufficient resources to load servable {servable} ({shortage})")
        return tuple(slots)

    def may_fit(self, resources: ReplicaResources) -> bool:
        """False when `plan` is sure to fail for want of memory, found out without going through the nodes."""
        if self._most_free_bytes is None:
            self._most_free_bytes = max((self.free_memory_bytes(node) for node in self._nodes.values()), default=-1)
        return resources.memory_bytes <= self._most_free_bytes

    def reserve(self, holder: Hashable, resources: ReplicaResources, slots: Sequence[Slot]) -> None:
        """Books slots that were planned, in place of what the holder has."""
        excused = set(self._excused)
        self.release(holder)
        self._reservations[holder] = Reservation(resources, tuple(slots))
        for slot in slots:
            self._use.setdefault(slot.node_id, _Use()).add(slot, resources)
        self._excused |= excused.intersection(self._overcommitted(slot.node_id for slot in slots))
        self._most_free_bytes = None

    def adopt(self, holder: Hashable, resources: ReplicaResources, slots: Sequence[Slot]) -> None:
        """Books slots that the holder runs in already, whether or not there is room by the books."""
        self.reserve(holder, resources, slots)
        self._excused.update(self._overcommitted(slot.node_id for slot in slots))

    def release(self, holder: Hashable) -> bool:
        """Gives back what the holder has; True when it held something."""
        reservation = self._reservations.pop(holder, None)
        if reservation is None:
            return False
        for slot in reservation.slots:
            use = self._use[slot.node_id]
            use.add(slot, reservation.resources, -1)
            if not use.slots:
                del self._use[slot.node_id]
        self._excused.difference_update(
            {slot.node_id for slot in reservation.slots} - set(self._overcommitted(slot.node_id for slot in reservation.slots))
        )
        self._most_free_bytes = None
        return True

    def holds(self, holder: Hashable) -> tuple[Slot, ...]:
        """The slots that are reserved for the holder."""
        reservation = self._reservations.get(holder)
        return reservation.slots if reservation is not None else ()

    def existing(self, slots: Sequence[Slot]) -> tuple[Slot, ...]:
        """Those of the slots whose node and device are there."""
        return tuple(slot for slot in slots if self._exists(slot))

    def capacity(self) -> Totals:
        """All that the live nodes have."""
        return Totals(
            sum(node.cpus for node in self._nodes.values()),
            sum(node.memory_bytes for node in self._nodes.values()),
            len(self._devices),
            sum(gpu.memory_bytes or 0 for gpu in self._devices.values()),
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
        """The ids of nodes that have less than is promised of them, nodes that have left included."""
        return tuple(self._overcommitted(self._use))

    def free_memory_bytes(self, node: Node) -> int:
        """What is not reserved of the node's memory; negative on a node that has shrunk."""
        return node.memory_bytes - self._use_of(node).memory_bytes

    def free_cpus(self, node: Node) -> float:
        """What is not reserved of the node's CPUs."""
        return node.cpus - self._use_of(node).cpus

    def free_gpu_memory_bytes(self, node: Node, gpu: Gpu) -> int | None:
        """What is not reserved of the device's memory, None where it has no known size."""
        return None if gpu.memory_bytes is None else gpu.memory_bytes - self._use_of(node).gpu_memory_bytes[gpu.index]

    def lends(self, node: Node, gpu: Gpu, exclusively: bool) -> bool:
        """Whether the device may be lent to one more version, by what its holders were promised."""
        use = self._use_of(node)
        return not use.exclusive[gpu.index] and not (exclusively and use.replicas[gpu.index])

    def validate(self) -> None:
        """Asserts what must always be true; for tests."""
        use: dict[str, _Use] = {}
        for reservation in self._reservations.values():
            for slot in reservation.slots:
                use.setdefault(slot.node_id, _Use()).add(slot, reservation.resources)
        assert use.keys() == self._use.keys(), (use.keys(), self._use.keys())
        for node_id, expected in use.items():
            held = self._use[node_id]
            assert (held.slots, held.memory_bytes) == (expected.slots, expected.memory_bytes), node_id
            assert abs(held.cpus - expected.cpus) < 1e-4, node_id
            assert held.replicas == expected.replicas, node_id  # a Counter equals one with explicit zeros
            assert held.gpu_memory_bytes == expected.gpu_memory_bytes, node_id
        assert set(self.overcommitted()) <= self._excused, (self.overcommitted(), self._excused)

    def _overcommitted(self, node_ids: Iterable[str]) -> list[str]:
        return [node_id for node_id in node_ids if node_id in self._use and not self._within(node_id, self._use[node_id])]

    def _within(self, node_id: str, use: _Use) -> bool:
        node = self._nodes.get(node_id)
        if node is None or use.memory_bytes > node.memory_bytes or use.cpus > node.cpus:
            return False
        for index, replicas in use.replicas.items():
            gpu = self._devices.get((node_id, index))
            if replicas and gpu is None:
                return False
            if gpu is not None and gpu.memory_bytes is not None and use.gpu_memory_bytes[index] > gpu.memory_bytes:
                return False
            if use.exclusive[index] and replicas > 1:
                return False
        return True

    def _exists(self, slot: Slot) -> bool:
        return slot.node_id in self._nodes and (slot.gpu is None or (slot.node_id, slot.gpu) in self._devices)

    def _on_gpus(
        self, devices: Sequence[tuple[Node, Gpu]], wanted: int, kept: Sequence[Slot], resources: ReplicaResources
    ) -> list[Slot]:
        slots = list(kept[:wanted])
        taken = {(slot.node_id, slot.gpu) for slot in kept}
        free = [(node, gpu) for node, gpu in devices if (node.node_id, gpu.index) not in taken]
        free.sort(key=lambda device: (self._use_of(device[0]).replicas[device[1].index], device[0].node_id, device[1].index))
        planned: Counter[str] = Counter()
        for node, gpu in free:
            if len(slots) >= wanted:
                break
            if not self._fits(node, resources, planned[node.node_id]) or not self.lends(node, gpu, resources.exclusive_gpu):
                continue
            free_bytes = self.free_gpu_memory_bytes(node, gpu)
            if free_bytes is not None and free_bytes < resources.gpu_memory_bytes:
                continue
            limit = resources.gpu_memory_bytes if free_bytes is not None and resources.gpu_memory_bytes else None
            slots.append(Slot(node.node_id, gpu.index, limit))
            planned[node.node_id] += 1
        return slots

    def _on_cpus(self, nodes: Sequence[Node], wanted: int, kept: Sequence[Slot], resources: ReplicaResources) -> list[Slot]:
        slots = list(kept[:wanted])
        on_node = Counter(slot.node_id for slot in slots)
        planned: Counter[str] = Counter()
        while len(slots) < wanted:
            fitting = [node for node in nodes if self._fits(node, resources, planned[node.node_id])]
            if not fitting:
                break
            node = min(fitting, key=lambda node: (on_node[node.node_id], -self.free_memory_bytes(node), node.node_id))
            slots.append(Slot(node.node_id))
            on_node[node.node_id] += 1
            planned[node.node_id] += 1
        return slots

    def _fits(self, node: Node, resources: ReplicaResources, planned: int) -> bool:
        """Whether one replica more fits beside what is reserved and the `planned` ones."""
        replicas = planned + 1
        return (
            replicas * resources.memory_bytes <= self.free_memory_bytes(node)
            and replicas * resources.cpus <= self.free_cpus(node) + 1e-6
        )

    def _use_of(self, node: Node) -> _Use:
        return self._use.get(node.node_id, _UNUSED)


class _Shortage:
    """Why a plan failed, in words."""

    def __init__(
        self,
        ledger: ResourceLedger,
        nodes: Sequence[Node],
        devices: Sequence[tuple[Node, Gpu]],
        resources: ReplicaResources,
        wanted: int,
    ) -> None:
        self._ledger = ledger
        self._nodes = nodes
        self._devices = devices
        self._resources = resources
        self._wanted = wanted

    def __str__(self) -> str:
        if not self._nodes:
            return "no node of the cluster is free to use and has the labels that it asks for"
        times = f", {self._wanted} times" if self._wanted > 1 else ""
        most_free = max(self._ledger.free_memory_bytes(node) for node in self._nodes)
        parts = [f"needs {_gib(self._resources.memory_bytes)} memory on one node{times}; the most free is {_gib(most_free)}"]
        if self._resources.cpus:
            most_cpus = max(self._ledger.free_cpus(node) for node in self._nodes)
            parts.append(f"{self._resources.cpus:g} CPUs; the most free is {most_cpus:g}")
        if self._devices:
            parts.append(self._device_shortage(times))
        return "; ".join(parts)

    def _device_shortage(self, times: str) -> str:
        exclusive = self._resources.exclusive_gpu
        lent = [device for device in self._devices if self._ledger.lends(*device, exclusive)]
        known = [free for device in lent if (free := self._ledger.free_gpu_memory_bytes(*device)) is not None]
        memory = f" with {_gib(self._resources.gpu_memory_bytes)} memory" if self._resources.gpu_memory_bytes else ""
        most_free = f", the most free with {_gib(max(known))}" if known else ""
        alone = " for itself" if exclusive else ""
        return f"a GPU{alone}{memory}{times}; {len(lent)} of {len(self._devices)} can be had{most_free}"


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / _GIBIBYTE:.1f} GiB"
