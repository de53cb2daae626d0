from __future__ import annotations

import pytest

from cluster.core.loader_harness import (
    LEAVING,
    PUBLIC_STATES,
    STORY_LENGTH,
    TRANSITIONS,
    HarnessState,
    IllegalTransition,
    LoaderHarness,
)
from cluster.core.servable_state import PublicState
from tests.fakes.driven_state import version

HAPPY_LIFE = (
    HarnessState.LOAD_REQUESTED,
    HarnessState.LOAD_APPROVED,
    HarnessState.LOADING,
    HarnessState.READY,
    HarnessState.UNLOAD_REQUESTED,
    HarnessState.QUIESCING,
    HarnessState.QUIESCED,
    HarnessState.UNLOADING,
    HarnessState.DISABLED,
)
FIRST_ATTEMPT = HAPPY_LIFE[:3]


def harness_in(*states: HarnessState) -> LoaderHarness:
    harness = LoaderHarness(version(1))
    for state in states:
        harness.move(state)
    return harness


def test_lives_from_new_to_disabled() -> None:
    harness = LoaderHarness(version(1))
    public = [harness.public_state]
    for state in HAPPY_LIFE:
        harness.move(state)
        if harness.public_state is not public[-1]:
            public.append(harness.public_state)
    assert public == list(PublicState)


def test_states_are_called_as_tensorflow_serving_calls_them() -> None:
    assert [state.value for state in HarnessState] == [
        "new",
        "load-requested",
        "load-approved",
        "loading",
        "ready",
        "unload-requested",
        "quiescing",
        "quiesced",
        "unloading",
        "disabled",
        "error",
    ]
    assert {state.name: int(state) for state in PublicState} == {
        "START": 10,
        "LOADING": 20,
        "AVAILABLE": 30,
        "UNLOADING": 40,
        "END": 50,
    }


@pytest.mark.parametrize(("start", "to"), [(a, b) for a in HarnessState for b in HarnessState if (a, b) not in TRANSITIONS])
def test_refuses_every_step_that_is_not_in_the_table(start: HarnessState, to: HarnessState) -> None:
    harness = LoaderHarness(version(1), state=start)
    with pytest.raises(IllegalTransition, match=f"{start.value} -> {to.value} is not a step"):
        harness.move(to)
    assert harness.state is start


def test_an_illegal_step_tells_the_story_so_far() -> None:
    harness = harness_in(HarnessState.LOAD_REQUESTED, HarnessState.LOAD_APPROVED)
    with pytest.raises(IllegalTransition) as raised:
        harness.move(HarnessState.DISABLED)
    assert str(raised.value) == (
        "{name: m version: 1}: load-approved -> disabled is not a step. Its story: "
        "new -> load-requested (the policy chose to load it); "
        "load-requested -> load-approved (its resources are reserved)"
    )


def test_the_story_is_bounded() -> None:
    harness = LoaderHarness(version(1))
    for _ in range(STORY_LENGTH):
        harness.move(HarnessState.ERROR)
        harness.move(HarnessState.NEW)
    assert len(harness.story) == STORY_LENGTH
    assert harness.story[-1].startswith("error -> new")


def test_a_version_between_two_attempts_is_still_loading_in_public() -> None:
    first = harness_in(HarnessState.LOAD_REQUESTED)
    second = harness_in(*FIRST_ATTEMPT, HarnessState.LOAD_REQUESTED)
    assert [first.public_state, second.public_state] == [PublicState.START, PublicState.LOADING]


def test_a_version_that_healed_starts_anew_in_public() -> None:
    failed = harness_in(*FIRST_ATTEMPT, HarnessState.ERROR)
    healed = harness_in(*FIRST_ATTEMPT, HarnessState.ERROR, HarnessState.NEW, HarnessState.LOAD_REQUESTED)
    assert [failed.public_state, healed.public_state] == [PublicState.END, PublicState.START]


@pytest.mark.parametrize("state", [state for state in HarnessState if state in LEAVING])
def test_what_leaves_is_unloading_in_public_and_can_only_end(state: HarnessState) -> None:
    assert LoaderHarness(version(1), state=state).leaving
    assert PUBLIC_STATES[state] is PublicState.UNLOADING
    assert {to for start, to in TRANSITIONS if start is state} <= LEAVING | {HarnessState.DISABLED}


def test_a_load_is_on_its_way_out_once_nobody_wants_the_version() -> None:
    assert not LoaderHarness(version(1), state=HarnessState.LOADING).leaving
    assert LoaderHarness(version(1), state=HarnessState.LOADING, aspired=False).leaving


def test_every_state_can_be_reached_and_every_life_can_end() -> None:
    reached, ending = {HarnessState.NEW}, {HarnessState.DISABLED}
    for _ in HarnessState:
        reached |= {to for start, to in TRANSITIONS if start in reached}
        ending |= {start for start, to in TRANSITIONS if to in ending}
    assert reached == ending == set(HarnessState)
