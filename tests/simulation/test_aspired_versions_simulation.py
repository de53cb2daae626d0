"""The state machine under random events in virtual time; ASPIRED_SIMULATION_SEEDS says how many seeds to try."""

from __future__ import annotations

import os

import pytest

from cluster.core.loader_harness import TRANSITIONS, HarnessState, LoaderHarness
from tests.simulation.simulated_world import Scale, SimulatedWorld

SEEDS = int(os.environ.get("ASPIRED_SIMULATION_SEEDS", "5"))
SMALL = Scale(nodes=4, streams=6, actions=300)
SMALL_WITH_GPUS = Scale(nodes=3, streams=6, actions=300, gpus_per_node=2)
LARGE = Scale(nodes=200, streams=500, actions=6000, mean_pause_s=0.02, validate_every=200)


@pytest.mark.parametrize("seed", range(SEEDS))
@pytest.mark.parametrize("scale", [SMALL, SMALL_WITH_GPUS], ids=["cpus", "gpus"])
def test_few_versions_converge_whatever_happens(scale: Scale, seed: int) -> None:
    SimulatedWorld(seed, scale).run()


def test_many_versions_on_many_nodes_converge() -> None:
    world = SimulatedWorld(0, LARGE)
    world.run()
    assert world.events > 5000
