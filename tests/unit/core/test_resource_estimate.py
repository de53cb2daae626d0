from __future__ import annotations

from dataclasses import replace

from cluster.core.resource_estimate import FORK_OVERHEAD_BYTES, PROCESS_OVERHEAD_BYTES, replica_resources
from cluster.core.resources import GpuUse, ReplicaResources, ResourceRequest

NEEDED = 1200 + PROCESS_OVERHEAD_BYTES


def test_a_model_takes_more_than_its_files_and_a_process_takes_something_too() -> None:
    assert replica_resources(ResourceRequest(), size_bytes=1000, has_gpus=False) == ReplicaResources(memory_bytes=NEEDED)


def test_a_forked_process_takes_less_and_one_with_a_gpu_is_not_forked() -> None:
    forked = ReplicaResources(memory_bytes=1200 + FORK_OVERHEAD_BYTES)
    assert replica_resources(ResourceRequest(), 1000, has_gpus=False, forks=True) == forked
    none = ResourceRequest(gpu=GpuUse.NONE)
    assert replica_resources(none, 1000, has_gpus=True, forks=True) == replace(forked, gpu=GpuUse.NONE)
    assert replica_resources(ResourceRequest(), 1000, has_gpus=True, forks=True) == ReplicaResources(NEEDED, NEEDED)


def test_with_gpus_it_takes_the_same_on_the_device() -> None:
    resources = replica_resources(ResourceRequest(gpu=GpuUse.EXCLUSIVE), size_bytes=1000, has_gpus=True)
    assert resources == ReplicaResources(NEEDED, NEEDED, gpu=GpuUse.EXCLUSIVE)


def test_what_is_requested_goes_before_the_estimate_and_what_is_not_is_estimated() -> None:
    assert replica_resources(ResourceRequest(5, 6, 0.5), 1000, has_gpus=True) == ReplicaResources(5, 6, 0.5)
    assert replica_resources(ResourceRequest(memory_bytes=5), 1000, has_gpus=True) == ReplicaResources(5, NEEDED)
    assert replica_resources(ResourceRequest(gpu_memory_bytes=6), 1000, has_gpus=True) == ReplicaResources(NEEDED, 6)


def test_no_device_memory_is_taken_where_no_device_is() -> None:
    request = ResourceRequest(5, 6)
    assert replica_resources(request, 1000, has_gpus=False) == ReplicaResources(5)
    none = ResourceRequest(5, 6, gpu=GpuUse.NONE)
    assert replica_resources(none, 1000, has_gpus=True) == ReplicaResources(5, gpu=GpuUse.NONE)
