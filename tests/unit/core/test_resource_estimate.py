from __future__ import annotations

from cluster.core.events import StreamOptions
from cluster.core.resource_estimate import PROCESS_OVERHEAD_BYTES, replica_resources
from cluster.core.resources import ReplicaResources


def test_a_model_takes_more_than_its_files_and_a_process_takes_something_too() -> None:
    resources = replica_resources(StreamOptions(), size_bytes=1000, has_gpus=False)
    assert resources == ReplicaResources(memory_bytes=1200 + PROCESS_OVERHEAD_BYTES)


def test_with_gpus_it_takes_the_same_on_the_device() -> None:
    resources = replica_resources(StreamOptions(exclusive_gpu=True), size_bytes=1000, has_gpus=True)
    needed = 1200 + PROCESS_OVERHEAD_BYTES
    assert resources == ReplicaResources(needed, needed, exclusive_gpu=True)


def test_what_is_configured_goes_before_the_estimate() -> None:
    asked = ReplicaResources(5, 6, 0.5)
    assert replica_resources(StreamOptions(resources=asked), 1000, has_gpus=True) == asked


def test_exclusiveness_is_added_to_what_is_configured() -> None:
    asked = ReplicaResources(5, 6, 0.5)
    resources = replica_resources(StreamOptions(resources=asked, exclusive_gpu=True), 1000, has_gpus=True)
    assert resources == ReplicaResources(5, 6, 0.5, exclusive_gpu=True)
