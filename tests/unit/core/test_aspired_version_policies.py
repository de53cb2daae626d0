"""Both policies, case by case as TF Serving's tests have them, and what holds for any policy."""

from __future__ import annotations

import itertools
from random import Random

import pytest

from cluster.core.aspired_version_policy import Action, AspiredVersionPolicy, ServableAction, VersionSnapshot
from cluster.core.availability_preserving_policy import AvailabilityPreservingPolicy
from cluster.core.loader_harness import HarnessState
from cluster.core.resource_preserving_policy import ResourcePreservingPolicy
from cluster.core.servable_id import ServableId

S = HarnessState
AVAILABILITY = AvailabilityPreservingPolicy()
RESOURCES = ResourcePreservingPolicy()


def stream(*versions: tuple[int, HarnessState, bool]) -> list[VersionSnapshot]:
    return [VersionSnapshot(ServableId("m", number), state, aspired) for number, state, aspired in versions]


def load(number: int) -> ServableAction:
    return ServableAction(Action.LOAD, ServableId("m", number))


def unload(number: int) -> ServableAction:
    return ServableAction(Action.UNLOAD, ServableId("m", number))


def replace(number: int) -> ServableAction:
    return ServableAction(Action.REPLACE, ServableId("m", number))


def outdated(number: int) -> VersionSnapshot:
    return VersionSnapshot(ServableId("m", number), S.READY, aspired=True, outdated=True)


class TestAvailabilityPreserving:
    def test_loads_the_highest_new_aspired_version(self) -> None:
        versions = stream((3, S.NEW, True), (5, S.NEW, True), (9, S.NEW, False), (6, S.LOADING, True))
        assert AVAILABILITY.next_action(versions) == load(5)

    def test_keeps_the_old_version_until_a_new_one_is_ready(self) -> None:
        assert AVAILABILITY.next_action(stream((1, S.READY, False), (2, S.LOADING, True))) is None
        assert AVAILABILITY.next_action(stream((1, S.READY, False), (2, S.READY, True))) == unload(1)

    def test_a_new_version_that_fails_does_not_take_the_old_one_down(self) -> None:
        assert AVAILABILITY.next_action(stream((1, S.READY, False), (2, S.ERROR, True))) is None

    def test_loads_beside_the_old_version(self) -> None:
        assert AVAILABILITY.next_action(stream((1, S.READY, False), (2, S.NEW, True))) == load(2)

    def test_of_several_old_versions_only_the_highest_is_kept(self) -> None:
        versions = stream((1, S.READY, False), (2, S.READY, False), (3, S.LOADING, True))
        assert AVAILABILITY.next_action(versions) == unload(1)
        assert AVAILABILITY.next_action(versions[1:]) is None

    def test_unloads_everything_when_nothing_is_aspired(self) -> None:
        assert AVAILABILITY.next_action(stream((1, S.READY, False))) == unload(1)

    def test_unloads_before_it_loads(self) -> None:
        versions = stream((1, S.READY, False), (2, S.READY, True), (3, S.NEW, True))
        assert AVAILABILITY.next_action(versions) == unload(1)

    def test_rests_when_what_is_aspired_is_ready(self) -> None:
        assert AVAILABILITY.next_action(stream((1, S.READY, True), (2, S.READY, True))) is None

    def test_replaces_what_is_outdated_after_all_that_is_new(self) -> None:
        versions = [outdated(1), outdated(2), *stream((3, S.READY, True))]
        assert AVAILABILITY.next_action(versions) == replace(2)
        assert AVAILABILITY.next_action([*versions, *stream((4, S.NEW, True))]) == load(4)
        assert AVAILABILITY.next_action([*versions, *stream((0, S.READY, False))]) == unload(0)


class TestResourcePreserving:
    def test_unloads_the_old_version_first(self) -> None:
        assert RESOURCES.next_action(stream((1, S.READY, False), (2, S.NEW, True))) == unload(1)

    @pytest.mark.parametrize("state", [S.LOADING, S.QUIESCING, S.QUIESCED, S.UNLOADING, S.UNLOAD_REQUESTED])
    def test_waits_until_the_old_version_is_gone(self, state: HarnessState) -> None:
        assert RESOURCES.next_action(stream((1, state, False), (2, S.NEW, True))) is None

    @pytest.mark.parametrize("state", [S.DISABLED, S.ERROR])
    def test_loads_once_the_old_version_is_gone(self, state: HarnessState) -> None:
        assert RESOURCES.next_action(stream((1, state, False), (2, S.NEW, True), (3, S.NEW, True))) == load(3)

    def test_unloads_what_is_outdated(self) -> None:
        assert RESOURCES.next_action([outdated(1), *stream((2, S.READY, True))]) == unload(1)

    def test_an_aspired_version_is_in_nobodys_way(self) -> None:
        assert RESOURCES.next_action(stream((1, S.LOADING, True), (2, S.NEW, True))) == load(2)


@pytest.mark.parametrize("policy", [AVAILABILITY, RESOURCES], ids=["availability", "resources"])
class TestAnyPolicy:
    def test_does_nothing_for_no_versions(self, policy: AspiredVersionPolicy) -> None:
        assert policy.next_action([]) is None

    def test_loads_only_new_aspired_versions_and_unloads_only_ready_unaspired_ones(self, policy: AspiredVersionPolicy) -> None:
        kinds = list(itertools.product(HarnessState, (True, False)))
        for first, second in itertools.product(kinds, kinds):
            versions = stream((1, *first), (2, *second))
            action = policy.next_action(versions)
            if action is not None:
                chosen = next(one for one in versions if one.id == action.id)
                legal = (S.NEW, True) if action.action is Action.LOAD else (S.READY, False)
                assert (chosen.state, chosen.aspired) == legal

    def test_the_order_of_the_versions_does_not_matter(self, policy: AspiredVersionPolicy) -> None:
        random = Random(7)
        states = list(HarnessState)
        for _ in range(200):
            versions = stream(*((number, random.choice(states), random.random() < 0.5) for number in range(6)))
            expected = policy.next_action(versions)
            random.shuffle(versions)
            assert policy.next_action(versions) == expected
