"""Taking the cluster's GPUs from Ray, so that its books are true and other jobs keep off."""

from __future__ import annotations

import asyncio
import logging
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.config.names import NAMESPACE
from cluster.core.resources import Gpu, Node

FIRST_HOLD_TIMEOUT_S = 20.0
"""How long a look waits for a holder that it has just made: loads that began before would go to CPUs."""
HOLD_TIMEOUT_S = 0.1
"""How long it waits for one that has waited in vain before: another job has the device."""

logger = logging.getLogger(__name__)


class GpuHolder:
    """Detached Ray actor with `num_gpus=1`: it has one device from Ray and does nothing with it.

    The ledger lends the device to version replicas, which take no GPU from Ray themselves and so can share it.
    """

    def device(self) -> Gpu:
        """The device that Ray gave to this process."""
        index = int(ray.get_runtime_context().get_accelerator_ids()["GPU"][0])
        return Gpu(index, _memory_bytes(index))


def _memory_bytes(index: int) -> int | None:
    """The device's memory as its driver tells it; None for a logical GPU, or one of another make."""
    query = ["nvidia-smi", f"--id={index}", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True).stdout
        return int(answer.strip()) << 20
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


@dataclass(slots=True)
class _Held:
    actor: Any
    device: Gpu | None = None
    asked: Any = None


class GpuNodeWatch:
    """The live nodes with the GPUs that our holders have on them (see `cluster.actors.fleet.NodeWatch`).

    Of each device's memory `memory_fraction` is ours to lend.
    """

    def __init__(self, server_name: str, memory_fraction: float = 1.0) -> None:
        self._server_name = server_name
        self._memory_fraction = memory_fraction
        self._held: dict[tuple[str, int], _Held] = {}

    async def nodes(self) -> Sequence[Node]:
        alive = [node for node in await asyncio.to_thread(ray.nodes) if node["Alive"]]
        nodes = [await self._node(node) for node in sorted(alive, key=lambda node: str(node["NodeID"]))]
        live = {node.node_id for node in nodes}
        self._held = {key: held for key, held in self._held.items() if key[0] in live}
        return nodes

    async def release(self) -> None:
        for held in self._held.values():
            ray.kill(held.actor)
        self._held = {}

    async def _node(self, node: dict[str, Any]) -> Node:
        node_id, resources = node["NodeID"], node["Resources"]
        gpus = await asyncio.gather(*(self._device(node_id, number) for number in range(int(resources.get("GPU", 0)))))
        return Node(
            node_id,
            int(resources.get("memory", 0)),
            float(resources.get("CPU", 0)),
            tuple(sorted((gpu for gpu in gpus if gpu is not None), key=lambda gpu: gpu.index)),
            dict(node.get("Labels") or {}),
        )

    async def _device(self, node_id: str, number: int) -> Gpu | None:
        """The device of a node's holder, None while another job has it."""
        held = self._held.get((node_id, number))
        if held is None:
            held = self._held[node_id, number] = _Held(await asyncio.to_thread(self._hold, node_id, number))
        if held.device is None:
            timeout_s = FIRST_HOLD_TIMEOUT_S if held.asked is None else HOLD_TIMEOUT_S
            held.asked = held.asked or held.actor.device.remote()
            try:
                device = await asyncio.wait_for(asyncio.shield(_result(held.asked)), timeout_s)
                held.device = device.with_part_of_memory(self._memory_fraction)
            except (TimeoutError, GetTimeoutError):
                return None
            except RayActorError:
                del self._held[node_id, number]
                return None
        return held.device

    def _hold(self, node_id: str, number: int) -> Any:
        return (
            ray.remote(GpuHolder)
            .options(
                name=f"{self._server_name}.gpu.{node_id}.{number}",
                namespace=NAMESPACE,
                lifetime="detached",
                get_if_exists=True,
                max_restarts=-1,
                num_cpus=0,
                num_gpus=1,
                scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False),
            )
            .remote()
        )


async def _result(reference: Any) -> Gpu:
    gpu: Gpu = await reference
    return gpu
