"""What a replica is taken to need where nobody has said it."""

from __future__ import annotations

from dataclasses import replace

from cluster.core.events import StreamOptions
from cluster.core.resources import ReplicaResources

PROCESS_OVERHEAD_BYTES = 256 << 20
"""What a replica's process takes beside its model: the framework's own memory, on the host and again on a device."""


def replica_resources(options: StreamOptions, size_bytes: int, has_gpus: bool) -> ReplicaResources:
    """The configured resources; else 1.2 times the size on disk (TF Serving: `servables/tensorflow/bundle_factory_util.cc`) and
    PROCESS_OVERHEAD_BYTES, on the host and, in a cluster with GPUs, on the device too.
    """
    if options.resources is not None:
        exclusive = options.resources.exclusive_gpu or options.exclusive_gpu
        return replace(options.resources, exclusive_gpu=exclusive)
    estimate_bytes = size_bytes * 12 // 10 + PROCESS_OVERHEAD_BYTES
    return ReplicaResources(estimate_bytes, estimate_bytes if has_gpus else 0, exclusive_gpu=options.exclusive_gpu)
