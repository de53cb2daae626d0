"""What the cluster has, what a version needs, and the ledger that never promises more than there is."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True)
class Gpu:
    """One device of a node. `memory_bytes` is None where it cannot be read; then only exclusivity is accounted."""

    index: int
    memory_bytes: int | None = None

    def with_part_of_memory(self, fraction: float) -> Gpu:
        """The device with this part of its memory to lend, from 0 to 1."""
        return self if self.memory_bytes is None else replace(self, memory_bytes=int(self.memory_bytes * fraction))


@dataclass(frozen=True, slots=True)
class Node:
    """A node's capacity as far as it is ours to use: GPUs are those that our holders have taken from Ray."""

    node_id: str
    memory_bytes: int
    cpus: float
    gpus: tuple[Gpu, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)


class GpuUse(enum.Enum):
    """What a replica wants of a GPU, where the cluster has any."""

    SHARED = "shared"
    EXCLUSIVE = "exclusive"  # its device is lent to no other version meanwhile
    NONE = "none"  # it computes on CPUs


@dataclass(frozen=True, slots=True)
class ResourceRequest:
    """What is asked for one replica of a model. Memory that is None is what a version is estimated to need."""

    memory_bytes: int | None = None
    gpu_memory_bytes: int | None = None
    cpus: float = 0.0
    gpu: GpuUse = GpuUse.SHARED


@dataclass(frozen=True, slots=True)
class ReplicaResources:
    """What one replica of a version takes."""

    memory_bytes: int = 0
    gpu_memory_bytes: int = 0
    cpus: float = 0.0
    gpu: GpuUse = GpuUse.SHARED

    @property
    def exclusive_gpu(self) -> bool:
        return self.gpu is GpuUse.EXCLUSIVE


@dataclass(frozen=True, slots=True, order=True)
class Slot:
    """The place of one replica: a node, and one of its GPUs, or None for a replica that computes on CPUs.

    `gpu_memory_bytes` is the limit to set in TensorFlow before it touches the device; None sets none.
    """

    node_id: str
    gpu: int | None = None
    gpu_memory_bytes: int | None = None
