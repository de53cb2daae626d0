"""The state machine under random events in virtual time; ASPIRED_SIMULATION_SEEDS says how many seeds to try."""

from __future__ import annotations

import os

import pytest

from cluster.core.loader_harness import TRANSITIONS, HarnessState, LoaderHarness
from tests.simulation.simulated_world import Scale, SimulatedWorld

SEEDS = int(os.environ.get("ASPIRED_SIMULATION_SEEDS", "5"))
SMALL = Scale(nodes=4, streams=6, actions=300)
SMALL_WITH_GPUS = Scale(nodes=3, streams=6, actions=300, gpus_per_node=2)
LARGE = Scale(nodes=200, streams=500, actions=5000, mean_pause_s=0.02, validate_every=200)

RARE = {
    (HarnessState.LOAD_REQUESTED, HarnessState.NEW),
    (HarnessState.READY, HarnessState.LOAD_REQUESTED),
    (HarnessState.READY, HarnessState.ERROR),
}
"""Steps that take several accidents at a time; `test_adoption` has them."""


@pytest.mark.parametrize("seed", range(SEEDS))
@pytest.mark.parametrize("scale", [SMALL, SMALL_WITH_GPUS], ids=["cpus", "gpus"])
def test_few_versions_converge_whatever_happens(scale: Scale, seed: int) -> None:
    SimulatedWorld(seed, scale).run()


def test_many_versions_on_many_nodes_converge() -> None:
    world = SimulatedWorld(0, LARGE)
    world.run()
    versions = sum(stream.last for stream in world.streams.values())
    assert versions > 2000
    assert world.events > 10_000


def test_a_world_is_the_same_each_time() -> None:
    worlds = [SimulatedWorld(3, SMALL_WITH_GPUS) for _ in range(2)]
    for world in worlds:
        world.run()
    assert worlds[0].story == worlds[1].story


def test_the_worlds_take_every_step_that_is_not_rare(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: set[tuple[HarnessState, HarnessState]] = set()
    copies: set[int] = set()
    move = LoaderHarness.move

    def recorded(harness: LoaderHarness, to: HarnessState) -> None:
        taken.add((harness.state, to))
        if to is HarnessState.READY:
            copies.add(harness.copy)
        move(harness, to)

    monkeypatch.setattr(LoaderHarness, "move", recorded)
    for seed in range(5):
        SimulatedWorld(seed, SMALL).run()
        SimulatedWorld(seed, SMALL_WITH_GPUS).run()
    assert TRANSITIONS.keys() - taken <= RARE
    assert copies >= {0, 1, 2}, "versions that serve are overwritten again and again"
