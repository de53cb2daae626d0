"""What the state machine makes of a version that serves while its files are overwritten."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cluster.core.errors import Code, Status
from cluster.core.events import Loaded, LoadFailed, ObservedPhase, Quiesced, StopRequested, StreamOptions
from cluster.core.instructions import CancelLoad, Load, Place, Quiesce, Unload
from cluster.core.loader_harness import HarnessState
from cluster.core.resources import Gpu, GpuUse, Node, ReplicaResources, ResourceRequest, Slot
from cluster.core.servable_id import CopyId, ServableId
from cluster.core.servable_state import PublicState
from tests.fakes.driven_state import BROKEN, CANCELLED, GIBIBYTE, NODE, DrivenState, found, version

ONE = ServableId("m", 1)
SLOT = Slot("node-a")
RESOURCES = ReplicaResources(1000 * 12 // 10 + (256 << 20))
AVAILABLE = {1: PublicState.AVAILABLE}
LOADING, READY, QUIESCING = ObservedPhase.LOADING, ObservedPhase.READY, ObservedPhase.QUIESCING
NEWER = version(1, "newer")
NEWEST = version(1, "newest")
HALF_OF_NODE = 40 * GIBIBYTE


def overwritten() -> DrivenState:
    """Version 1 serves, and its newer files are being loaded as copy 1."""
    driven = DrivenState()
    driven.serve(1)
    driven.aspire(NEWER)
    return driven


def replaced() -> DrivenState:
    """Copy 1 serves, and nothing is left of copy 0."""
    driven = overwritten()
    driven.loaded(1, copy=1)
    driven.quiesced(1)
    driven.unloaded(1)
    return driven


def newer_status(driven: DrivenState) -> Status:
    successor = driven.state.successor(ONE)
    assert successor is not None
    return successor.status


class TestReplacing:
    def test_newer_files_are_loaded_beside_the_copy_that_serves(self) -> None:
        driven = DrivenState()
        driven.serve(1)
        assert driven.aspire(NEWER) == [Load("c1-2", NEWER, (SLOT,), RESOURCES, copy=1)]
        assert driven.public() == AVAILABLE
        assert (driven.slots(1), driven.slots(1, copy=1)) == ((SLOT,), (SLOT,))

    def test_the_older_copy_goes_when_the_newer_one_is_routed_to(self) -> None:
        driven = overwritten()
        assert driven.loaded(1, copy=1) == [Quiesce("c1-3", ONE)]
        assert driven.public() == AVAILABLE
        assert driven.quiesced(1) == [Unload("c1-4", ONE)]
        assert driven.unloaded(1) == []
        assert driven.public() == AVAILABLE
        assert (driven.slots(1), driven.slots(1, copy=1)) == ((), (SLOT,))

    def test_the_same_files_again_change_nothing(self) -> None:
        driven = overwritten()
        assert driven.aspire(NEWER) == []
        assert replaced().aspire(NEWER) == []

    def test_the_next_copy_has_the_next_number(self) -> None:
        assert replaced().aspire(NEWEST) == [Load("c1-5", NEWEST, (SLOT,), RESOURCES, copy=2)]

    def test_files_that_change_while_the_older_copy_goes_wait_for_its_end(self) -> None:
        driven = overwritten()
        driven.loaded(1, copy=1)
        assert driven.aspire(NEWEST) == []
        assert driven.quiesced(1) == [Unload("c1-4", ONE)]
        assert driven.unloaded(1) == [Load("c1-5", NEWEST, (SLOT,), RESOURCES, copy=2)]

    def test_a_version_under_another_path_is_another_copy(self) -> None:
        driven = DrivenState()
        driven.serve(1)
        moved = replace(version(1), path="/elsewhere/1")
        assert [one.version for one in driven.aspire(moved) if isinstance(one, Load)] == [moved]

    def test_an_old_version_that_serves_for_a_failed_one_is_left_alone(self) -> None:
        driven = DrivenState()
        driven.serve(1)
        driven.aspire(2)
        driven.fail_for_good(2)
        assert driven.aspire(2) == []

    def test_new_versions_come_before_newer_files(self) -> None:
        driven = DrivenState()
        driven.serve(1)
        told = driven.aspire(NEWER, version(2))
        assert [(one.version.id.version, one.copy) for one in told if isinstance(one, Load)] == [(2, 0), (1, 1)]

    def test_a_source_that_doubts_the_files_takes_nothing_away(self) -> None:
        driven = DrivenState()
        driven.serve(1)
        assert driven.aspire(replace(NEWER, status=BROKEN)) == []
        driven = overwritten()
        assert driven.aspire(replace(NEWER, status=BROKEN)) == [CancelLoad(ONE, 1)]
        driven.load_cancelled(1, copy=1)
        assert (driven.public(), newer_status(driven)) == (AVAILABLE, BROKEN)

    def test_an_answer_about_another_copy_is_none(self) -> None:
        driven = overwritten()
        assert driven.handle(LoadFailed(ONE, "c1-2", BROKEN)) == []
        assert driven.handle(Quiesced(ONE, "c1-2", 1)) == []
        driven.loaded(1, copy=1)
        assert driven.handle(Quiesced(ONE, "c1-3", 1)) == []
        assert driven.handle(Loaded(ONE, "c1-2", 1)) == []
        assert driven.handle(Loaded(ONE, "c1-9", 7)) == [Unload("c1-4", ONE, 7)], "nobody would ever take it down"

    def test_a_load_that_was_ready_before_it_could_start_over_is_replaced(self) -> None:
        driven = DrivenState()
        driven.aspire(1)
        assert driven.aspire(NEWER) == [CancelLoad(ONE)]
        assert driven.loaded(1) == [Load("c1-2", NEWER, (SLOT,), RESOURCES, copy=1)]
        assert driven.public() == AVAILABLE


class TestFailure:
    def test_the_copy_that_serves_goes_on_and_the_load_is_tried_again(self) -> None:
        driven = overwritten()
        assert driven.load_failed(1, copy=1) == []
        assert (driven.public(), driven.status(1), newer_status(driven)) == (AVAILABLE, Status(), BROKEN)
        assert driven.slots(1, copy=1) == ()
        assert driven.pass_time(60.0) == [Load("c1-3", NEWER, (SLOT,), RESOURCES, copy=1)]
        assert driven.loaded(1, copy=1) == [Quiesce("c1-4", ONE)]

    def failed_for_good(self) -> DrivenState:
        driven = overwritten()
        for _ in range(3):
            driven.load_failed(1, copy=1)
            driven.pass_time(60.0)
        return driven

    def test_the_last_attempt_is_the_last(self) -> None:
        driven = self.failed_for_good()
        assert driven.pass_time(3600.0) == []
        assert driven.aspire(NEWER) == []
        assert (driven.public(), newer_status(driven)) == (AVAILABLE, BROKEN)

    def test_it_heals_by_itself_when_what_failed_lies_not_in_the_files(self) -> None:
        driven = overwritten()
        away = Status(Code.UNAVAILABLE, "the bucket is away")
        for _ in range(10):
            assert driven.load_failed(1, away, copy=1) == []
            assert (driven.public(), newer_status(driven)) == (AVAILABLE, away)
            assert [type(one) for one in driven.pass_time(60.0)] == [Load]
        assert [type(one) for one in driven.loaded(1, copy=1)] == [Quiesce]

    def test_it_heals_when_the_files_change_once_more(self) -> None:
        driven = self.failed_for_good()
        assert driven.aspire(NEWEST) == [Load("c1-5", NEWEST, (SLOT,), RESOURCES, copy=1)]

    def test_it_is_forgotten_when_the_files_that_serve_are_back(self) -> None:
        driven = self.failed_for_good()
        assert driven.aspire(1) == []
        assert driven.state.successor(ONE) is None

    def test_it_ends_with_its_version(self) -> None:
        driven = self.failed_for_good()
        assert driven.aspire() == [Quiesce("c1-5", ONE)]
        driven.quiesced(1)
        driven.unloaded(1)
        assert driven.public() == {1: PublicState.END}


class TestChangesInTheMiddle:
    def test_files_that_change_once_more_cancel_the_load_and_begin_it_anew(self) -> None:
        driven = overwritten()
        assert driven.aspire(NEWEST) == [CancelLoad(ONE, 1)]
        assert driven.load_cancelled(1, copy=1) == [Load("c1-3", NEWEST, (SLOT,), RESOURCES, copy=1)]
        assert driven.public() == AVAILABLE

    def test_files_that_come_back_cancel_the_load(self) -> None:
        driven = overwritten()
        assert driven.aspire(1) == [CancelLoad(ONE, 1)]
        assert driven.load_cancelled(1, copy=1) == []
        assert driven.slots(1, copy=1) == ()

    def test_files_that_come_back_too_late_are_loaded_again(self) -> None:
        driven = overwritten()
        driven.aspire(1)
        assert driven.loaded(1, copy=1) == [Quiesce("c1-3", ONE)], "frontends route to it already"
        driven.quiesced(1)
        assert driven.unloaded(1) == [Load("c1-5", version(1), (SLOT,), RESOURCES, copy=2)]

    def test_a_version_that_nobody_wants_any_more_goes_with_both_copies(self) -> None:
        driven = overwritten()
        assert driven.aspire() == [CancelLoad(ONE, 1), Quiesce("c1-3", ONE)]
        driven.quiesced(1)
        driven.unloaded(1)
        assert driven.public() == {1: PublicState.END}
        assert driven.aspire(NEWER) == [], "it waits for the end of the newer copy"
        assert driven.load_cancelled(1, copy=1) == [Load("c1-5", NEWER, (SLOT,), RESOURCES)]

    def test_a_newer_copy_that_is_ready_too_late_to_be_cancelled_is_unloaded(self) -> None:
        driven = overwritten()
        driven.aspire()
        assert driven.loaded(1, copy=1) == [Quiesce("c1-4", ONE, 1)]
        for copy in (0, 1):
            driven.quiesced(1, copy=copy)
            driven.unloaded(1, copy=copy)
        assert driven.public() == {1: PublicState.END}
        assert driven.state.ledger.reserved().memory_bytes == 0

    def test_a_version_that_is_wanted_again_meanwhile_is_served_by_the_newer_copy(self) -> None:
        driven = overwritten()
        driven.aspire()
        driven.aspire(NEWER)
        assert driven.loaded(1, copy=1) == []
        assert driven.public() == AVAILABLE

    def test_a_load_that_loses_its_node_begins_anew_and_that_does_not_count(self) -> None:
        driven = DrivenState({"m": StreamOptions(replicas=2)}, [NODE, Node("node-b", 64 * GIBIBYTE, 8.0)])
        driven.serve(1)
        driven.aspire(NEWER)
        assert CancelLoad(ONE, 1) in driven.nodes(NODE)
        assert driven.load_cancelled(1, copy=1) == [Load("c1-3", NEWER, (SLOT, SLOT), RESOURCES, copy=1)]
        successor = driven.state.successor(ONE)
        assert successor is not None
        assert successor.attempts == 1

    def test_the_copy_that_serves_follows_the_nodes_meanwhile(self) -> None:
        driven = overwritten()
        assert driven.configure(m=StreamOptions(replicas=2)) == [Place(ONE, (SLOT, SLOT), RESOURCES)]
        assert driven.loaded(1, copy=1) == [Quiesce("c1-3", ONE), Place(ONE, (SLOT, SLOT), RESOURCES, 1)]

    def test_a_server_that_stops_unloads_both_copies(self) -> None:
        driven = overwritten()
        assert driven.handle(StopRequested()) == [CancelLoad(ONE, 1), Quiesce("c1-3", ONE)]
        driven.load_cancelled(1, copy=1)
        driven.quiesced(1)
        assert not driven.state.stopped()
        driven.unloaded(1)
        assert driven.state.stopped()


class TestRoom:
    def full(self) -> DrivenState:
        """The version takes more than half of the only node."""
        driven = DrivenState({"m": StreamOptions(resources=ResourceRequest(HALF_OF_NODE)), "n": StreamOptions()})
        driven.serve(1)
        return driven

    def test_without_room_for_a_second_copy_the_first_serves_on_and_the_reason_is_told(self) -> None:
        driven = self.full()
        assert driven.aspire(NEWER) == []
        assert driven.public() == AVAILABLE
        assert newer_status(driven).code is Code.RESOURCE_EXHAUSTED

    def test_the_newer_files_are_loaded_when_there_is_room(self) -> None:
        driven = self.full()
        driven.aspire(NEWER)
        told = driven.nodes(NODE, Node("node-b", 64 * GIBIBYTE, 8.0))
        assert told == [Load("c1-2", NEWER, (Slot("node-b"),), ReplicaResources(HALF_OF_NODE), copy=1)]

    def test_a_policy_that_needs_no_room_for_two_may_be_chosen_then(self) -> None:
        driven = self.full()
        driven.aspire(NEWER)
        options = StreamOptions(resources=ResourceRequest(HALF_OF_NODE), resource_preserving=True)
        assert driven.configure(m=options, n=StreamOptions()) == [Quiesce("c1-2", ONE)]
        driven.quiesced(1)
        assert driven.unloaded(1) == [Load("c1-4", NEWER, (SLOT,), ReplicaResources(HALF_OF_NODE))]

    def test_it_waits_while_something_else_comes_or_goes(self) -> None:
        driven = self.full()
        driven.aspire(1, stream="n")
        assert driven.aspire(NEWER) == []
        assert newer_status(driven) == Status()
        driven.loaded(1, "n")
        assert newer_status(driven).code is Code.RESOURCE_EXHAUSTED


class TestPoliciesThatHoldOneCopy:
    def assert_unloads_first(self, driven: DrivenState) -> None:
        driven.serve(1)
        assert driven.aspire(NEWER) == [Quiesce("c1-2", ONE)]
        assert driven.public() == {1: PublicState.UNLOADING}
        assert driven.aspire(NEWEST) == []
        assert driven.quiesced(1) == [Unload("c1-3", ONE)]
        (load,) = driven.unloaded(1)
        assert isinstance(load, Load)
        assert (load.version, load.copy) == (NEWEST, 0)
        driven.loaded(1)
        assert driven.public() == AVAILABLE

    def test_a_resource_preserving_model_is_unloaded_and_loaded_anew(self) -> None:
        self.assert_unloads_first(DrivenState({"m": StreamOptions(resource_preserving=True)}))

    def test_so_is_one_that_asks_for_gpus_of_its_own(self) -> None:
        node = Node("node-a", 64 * GIBIBYTE, 8.0, (Gpu(0, 8 * GIBIBYTE),))
        options = StreamOptions(resources=ResourceRequest(gpu=GpuUse.EXCLUSIVE))
        self.assert_unloads_first(DrivenState({"m": options}, [node]))


class TestRestartedController:
    def test_takes_over_both_copies(self) -> None:
        driven = DrivenState(running=[found(1), found(1, LOADING, instruction_id="c0-9", fingerprint="newer", copy=1)])
        assert driven.started == []
        assert driven.aspire(NEWER) == []
        assert driven.public() == AVAILABLE
        assert driven.handle(Loaded(ONE, "c0-9", 1)) == [Quiesce("c1-1", ONE)]

    def test_cancels_a_newer_copy_of_files_that_have_changed_since(self) -> None:
        driven = DrivenState(running=[found(1), found(1, LOADING, fingerprint="newer", copy=1)])
        assert driven.aspire(NEWEST) == [CancelLoad(ONE, 1)]

    def test_loads_newer_files_of_what_it_has_adopted(self) -> None:
        driven = DrivenState(running=[found(1)])
        assert driven.aspire(NEWER) == [Load("c1-1", NEWER, (SLOT,), RESOURCES, copy=1)]

    @pytest.mark.parametrize("phase", [READY, QUIESCING])
    def test_sees_the_older_copy_out_when_the_newer_one_serves(self, phase: ObservedPhase) -> None:
        driven = DrivenState(running=[found(1, phase), found(1, fingerprint="newer", copy=1)])
        assert driven.started == [Quiesce("c1-1", ONE)]
        assert driven.aspire(NEWER) == []
        assert driven.public() == AVAILABLE
        driven.quiesced(1)
        driven.unloaded(1)
        assert driven.aspire(NEWEST) == [Load("c1-3", NEWEST, (SLOT,), RESOURCES, copy=2)]

    def test_sees_out_a_newer_copy_that_was_going_and_loads_the_files_again(self) -> None:
        driven = DrivenState(running=[found(1), found(1, QUIESCING, fingerprint="newer", copy=1)])
        assert driven.started == [Quiesce("c1-1", ONE, 1)]
        assert driven.aspire(NEWER) == []
        driven.quiesced(1, copy=1)
        assert driven.unloaded(1, copy=1) == [Load("c1-3", NEWER, (SLOT,), RESOURCES, copy=1)]

    def test_goes_on_with_the_only_copy_whatever_its_number(self) -> None:
        driven = DrivenState(running=[found(1, copy=3)])
        assert driven.aspire(1) == []
        assert driven.aspire() == [Quiesce("c1-1", ONE, 3)]


class TestRestartedManager:
    def test_is_asked_again_for_a_newer_copy_that_it_does_not_run(self) -> None:
        driven = overwritten()
        assert driven.observe(found(1)) == [Load("c1-2", NEWER, (SLOT,), RESOURCES, copy=1)]
        assert driven.observe(found(1), found(1, LOADING, instruction_id="c1-2", fingerprint="newer", copy=1)) == []

    def test_may_have_replaced_a_copy_without_saying_so(self) -> None:
        driven = overwritten()
        told = driven.observe(found(1), found(1, instruction_id="c1-2", fingerprint="newer", copy=1))
        assert set(told) == {Quiesce("c1-3", ONE)}
        assert driven.public() == AVAILABLE

    def test_a_copy_that_is_gone_is_loaded_anew_from_the_newer_files(self) -> None:
        driven = overwritten()
        told = driven.observe(found(1, LOADING, instruction_id="c1-2", fingerprint="newer", copy=1))
        assert told == [
            CancelLoad(ONE, 1),
            Load("c1-3", NEWER, (SLOT,), RESOURCES),
        ]
        assert driven.public() == {1: PublicState.LOADING}
        driven.load_cancelled(1, copy=1)
        driven.loaded(1)
        assert driven.public() == AVAILABLE

    def test_a_newer_copy_that_is_ready_meanwhile_takes_the_place_of_the_one_that_is_loaded_anew(self) -> None:
        driven = overwritten()
        driven.observe(found(1, LOADING, instruction_id="c1-2", fingerprint="newer", copy=1))
        driven.ids[CopyId(ONE, 1)] = "c1-2"
        assert driven.loaded(1, copy=1) == [CancelLoad(ONE)]
        assert driven.public() == AVAILABLE
        assert driven.load_cancelled(1) == []
        assert (driven.slots(1), driven.slots(1, copy=1)) == ((), (SLOT,))

    def test_a_newer_copy_that_was_found_going_takes_nothing_with_it(self) -> None:
        driven = overwritten()
        told = driven.observe(found(1), found(1, QUIESCING, instruction_id="c1-2", fingerprint="newer", copy=1))
        assert told == [Quiesce("c1-3", ONE, 1)]
        assert driven.public() == AVAILABLE
        driven.quiesced(1, copy=1)
        assert driven.unloaded(1, copy=1) == [Load("c1-5", NEWER, (SLOT,), RESOURCES, copy=1)]

    def test_a_copy_that_was_found_going_is_not_replaced(self) -> None:
        driven = overwritten()
        told = driven.observe(found(1, QUIESCING), found(1, LOADING, instruction_id="c1-2", fingerprint="newer", copy=1))
        assert told == [CancelLoad(ONE, 1), Quiesce("c1-3", ONE)]
        driven.quiesced(1)
        driven.unloaded(1)
        assert driven.load_cancelled(1, copy=1) == [Load("c1-5", NEWER, (SLOT,), RESOURCES)]

    def test_is_asked_again_to_take_the_older_copy_down(self) -> None:
        driven = overwritten()
        quiesce = driven.loaded(1, copy=1)
        newer = found(1, instruction_id="c1-2", fingerprint="newer", copy=1)
        assert driven.observe(found(1), newer) == quiesce
        unload = driven.quiesced(1)
        assert driven.observe(newer) == unload
        driven.unloaded(1)
        assert driven.public() == AVAILABLE

    def test_a_load_of_older_files_that_turns_up_begins_anew(self) -> None:
        """The manager was asked for the older files before it restarted, and began with them afterwards."""
        driven = DrivenState()
        driven.aspire(1)
        driven.aspire(NEWER)
        assert [type(one) for one in driven.observe()] == [Load]
        assert driven.observe(found(1, LOADING, instruction_id="c1-1")) == [Load("c1-2", NEWER, (SLOT,), RESOURCES)]
        assert driven.handle(LoadFailed(ONE, "c1-1", CANCELLED)) == []
        assert driven.loaded(1) == []
        assert driven.public() == AVAILABLE

    def test_a_load_that_goes_by_an_older_id_is_asked_for_by_the_one_that_is_waited_for(self) -> None:
        driven = overwritten()
        (again,) = driven.observe(found(1), found(1, LOADING, instruction_id="c1-1", fingerprint="newer", copy=1))
        assert again == Load("c1-2", NEWER, (SLOT,), RESOURCES, copy=1)
        driven.aspire(1)
        told = driven.observe(found(1), found(1, LOADING, instruction_id="c1-1", fingerprint="newer", copy=1))
        assert told == [again, CancelLoad(ONE, 1)], "or the answer to the cancelling would not be known"

    def test_older_files_that_turn_up_ready_are_replaced(self) -> None:
        driven = DrivenState()
        driven.aspire(1)
        driven.aspire(NEWER)
        driven.observe()
        assert driven.observe(found(1, instruction_id="c1-2")) == [Load("c1-3", NEWER, (SLOT,), RESOURCES, copy=1)]
        assert driven.harness_state(1) is HarnessState.READY
