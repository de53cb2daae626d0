"""What a replica is taken to need where nobody has said it."""

from __future__ import annotations

from cluster.core.resources import GpuUse, ReplicaResources, ResourceRequest

PROCESS_OVERHEAD_BYTES = 256 << 20
"""What a replica's process takes beside its model: the framework's own memory, on the host and again on a device."""
FORK_OVERHEAD_BYTES = 96 << 20
"""The same of a replica that was forked, which shares most of the framework's memory."""


def replica_resources(request: ResourceRequest, size_bytes: int, has_gpus: bool, forks: bool = False) -> ReplicaResources:
    """What is requested; where the request leaves memory open, 1.2 times the size on disk (TF Serving:
    `servables/tensorflow/bundle_factory_util.cc`) and what the process takes, on the host and on the device.

    A device's memory counts only in a cluster with GPUs, for a replica that uses one. With `forks`, the others are forked.
    """
    uses_gpu = has_gpus and request.gpu is not GpuUse.NONE
    estimate_bytes = size_bytes * 12 // 10 + (FORK_OVERHEAD_BYTES if forks and not uses_gpu else PROCESS_OVERHEAD_BYTES)
    gpu_memory_bytes = 0
    if uses_gpu:
        gpu_memory_bytes = estimate_bytes if request.gpu_memory_bytes is None else request.gpu_memory_bytes
    memory_bytes = estimate_bytes if request.memory_bytes is None else request.memory_bytes
    return ReplicaResources(memory_bytes, gpu_memory_bytes, request.cpus, request.gpu)
