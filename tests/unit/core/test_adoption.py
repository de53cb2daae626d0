"""What the state machine makes of a control plane that has restarted: what runs, what is remembered, what is lost."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from cluster.core.aspired_versions_state import Options
from cluster.core.errors import Code, Status
from cluster.core.events import Loaded, LoadFailed, ObservedPhase, StopRequested, StreamOptions
from cluster.core.instructions import CancelLoad, Load, Place, PublishStates, Quiesce, Unload
from cluster.core.loader_harness import HarnessState
from cluster.core.resources import Node, ReplicaResources, Slot
from cluster.core.servable_id import CopyId, ServableId
from cluster.core.servable_state import PublicState
from tests.fakes.driven_state import BROKEN, CANCELLED, GIBIBYTE, NODE, DrivenState, found, version

ONE = ServableId("m", 1)
TWO = ServableId("m", 2)
SLOT = Slot("node-a")
RESOURCES = ReplicaResources(1000 * 12 // 10 + (256 << 20))
LOADING, READY, QUIESCING = ObservedPhase.LOADING, ObservedPhase.READY, ObservedPhase.QUIESCING


class TestNewController:
    def test_takes_over_what_runs_and_touches_nothing_before_a_source_has_spoken(self) -> None:
        driven = DrivenState(running=[found(1)])
        assert driven.started == []
        assert driven.public() == {1: PublicState.AVAILABLE}
        assert driven.slots(1) == (SLOT,)
        assert driven.aspire(1) == []

    def test_an_adopted_version_counts_as_available(self) -> None:
        driven = DrivenState(running=[found(1), found(2)])
        assert driven.aspire(2) == [Quiesce("c1-1", ONE)]
        assert driven.state.first_versions_settled()

    def test_an_adopted_version_stays_until_the_new_one_is_ready(self) -> None:
        driven = DrivenState(running=[found(1)])
        assert [type(one) for one in driven.aspire(2)] == [Load]

    def test_waits_for_the_answer_to_a_load_that_another_controller_asked_for(self) -> None:
        driven = DrivenState(running=[found(1, LOADING)])
        assert driven.started == []
        assert driven.aspire(1) == []
        driven.handle(Loaded(ONE, "c0-7"))
        assert driven.public() == {1: PublicState.AVAILABLE}

    def test_retries_an_adopted_load_that_fails(self) -> None:
        driven = DrivenState(running=[found(1, LOADING)])
        driven.handle(LoadFailed(ONE, "c0-7", BROKEN))
        assert [type(one) for one in driven.pass_time(60.0)] == [Load]

    def test_cancels_an_adopted_load_of_older_files(self) -> None:
        driven = DrivenState(running=[found(1, LOADING, fingerprint="older")])
        assert driven.aspire(1) == [CancelLoad(ONE)]

    def test_cancels_an_adopted_load_that_nobody_wants(self) -> None:
        driven = DrivenState(running=[found(1, LOADING)])
        assert driven.aspire() == [CancelLoad(ONE)]

    def test_begins_an_adopted_load_again_when_its_node_is_gone(self) -> None:
        driven = DrivenState(running=[found(1, LOADING, [Slot("gone")])])
        assert driven.started == [CancelLoad(ONE)]

    def test_gives_an_adopted_version_the_place_that_it_lost_meanwhile(self) -> None:
        driven = DrivenState({"m": StreamOptions(replicas=2)}, running=[found(1, slots=[SLOT, Slot("gone")])])
        assert driven.started == [Place(ONE, (SLOT, SLOT), RESOURCES)]

    def test_sees_out_what_was_on_its_way_out_and_then_loads_it_if_it_is_wanted(self) -> None:
        driven = DrivenState(running=[found(1, QUIESCING)])
        assert driven.started == [Quiesce("c1-1", ONE)]
        assert driven.aspire(1) == []
        driven.ids[CopyId(ONE)] = "c1-1"
        assert driven.quiesced(1) == [Unload("c1-2", ONE)]
        assert driven.unloaded(1) == [Load("c1-3", version(1), (SLOT,), RESOURCES)]

    def test_a_stream_whose_list_waits_for_an_end_is_not_settled(self) -> None:
        driven = DrivenState(running=[found(1, QUIESCING)])
        driven.aspire(1)
        assert driven.state.waiting_streams() == ()
        assert not driven.state.first_versions_settled()

    def test_unloads_streams_that_are_not_configured_any_more(self) -> None:
        driven = DrivenState(running=[found(1, stream="old"), found(2, LOADING, stream="old")])
        assert driven.started == [CancelLoad(ServableId("old", 2)), Quiesce("c1-1", ServableId("old", 1))]

    def test_books_the_resources_with_which_a_version_runs(self) -> None:
        taken = ReplicaResources(3 * GIBIBYTE)
        driven = DrivenState(running=[replace(found(1), resources=taken)])
        assert driven.state.ledger.reserved().memory_bytes == 3 * GIBIBYTE

    def test_books_what_runs_even_where_it_does_not_fit(self) -> None:
        driven = DrivenState(nodes=[Node("node-a", 1000, 1.0)], running=[found(1)])
        assert driven.public() == {1: PublicState.AVAILABLE}
        assert driven.state.ledger.overcommitted() == ("node-a",)


class TestCheckpoint:
    def restarted(self, before: DrivenState, **arguments: object) -> DrivenState:
        checkpoint = json.loads(json.dumps(before.state.checkpoint()))
        return DrivenState(incarnation="c2", checkpoint=checkpoint, **arguments)  # type: ignore[arg-type]

    def failed_for_good(self) -> DrivenState:
        driven = DrivenState()
        driven.aspire(1)
        driven.fail_for_good(1)
        return driven

    def test_a_version_that_failed_for_good_stays_so(self) -> None:
        driven = self.restarted(self.failed_for_good())
        assert driven.aspire(1) == []
        assert (driven.public(), driven.status(1)) == ({1: PublicState.END}, BROKEN)
        harness = driven.state.harness(ONE)
        assert harness is not None
        assert harness.attempts == 3

    def test_it_stays_so_after_two_restarts_without_a_word_from_its_source(self) -> None:
        driven = self.restarted(self.restarted(self.failed_for_good()))
        assert driven.aspire(1) == []

    def test_it_heals_when_its_files_have_changed_meanwhile(self) -> None:
        driven = self.restarted(self.failed_for_good())
        assert [type(one) for one in driven.aspire(version(1, "repaired"))] == [Load]

    def test_it_is_tried_again_when_it_was_not_aspired_in_between(self) -> None:
        driven = self.restarted(self.failed_for_good())
        driven.aspire()
        assert [type(one) for one in driven.aspire(1)] == [Load]

    def test_a_version_that_its_source_doubted_is_tried_when_it_does_not_any_more(self) -> None:
        driven = DrivenState()
        driven.aspire(replace(version(1), status=BROKEN))
        assert [type(one) for one in self.restarted(driven).aspire(1)] == [Load]

    def test_a_version_without_a_fingerprint_is_tried_again(self) -> None:
        driven = DrivenState()
        driven.aspire(version(1, fingerprint=""))
        driven.fail_for_good(1)
        assert [type(one) for one in self.restarted(driven).aspire(version(1, fingerprint=""))] == [Load]

    def test_a_version_whose_last_failure_lay_not_in_it_is_tried_again(self) -> None:
        driven = DrivenState(options=Options(max_num_load_retries=0))
        driven.aspire(1)
        driven.load_failed(1, Status(Code.UNAVAILABLE, "the bucket is away"))
        assert [type(one) for one in self.restarted(driven).aspire(1)] == [Load]

    def test_it_is_taken_over_when_it_runs_after_all(self) -> None:
        driven = self.restarted(self.failed_for_good(), running=[found(1)])
        driven.aspire(1)
        assert driven.public() == {1: PublicState.AVAILABLE}

    def test_a_version_that_had_no_room_heals_when_there_is_room(self) -> None:
        driven = DrivenState()
        big = version(1, size_bytes=100 * GIBIBYTE)
        driven.aspire(big)
        after = self.restarted(driven)
        assert after.aspire(big) == []
        assert after.status(1).code is Code.RESOURCE_EXHAUSTED
        assert [type(one) for one in after.nodes(NODE, Node("b", 200 * GIBIBYTE, 1.0))] == [Load]

    def test_ended_versions_are_remembered(self) -> None:
        driven = DrivenState()
        driven.aspire(1)
        driven.aspire()
        driven.load_cancelled(1)
        after = self.restarted(driven)
        assert (after.public(), after.status(1)) == ({1: PublicState.END}, CANCELLED)
        assert [type(one) for one in after.aspire(1)] == [Load]

    def test_what_is_remembered_is_published_at_once(self) -> None:
        assert self.restarted(self.failed_for_good()).published[0].states[0].state is PublicState.END


class TestRestartedManager:
    def test_is_told_the_states_again(self) -> None:
        driven = DrivenState()
        driven.serve(1)
        before = len(driven.published)
        driven.observe(found(1))
        assert driven.published[before:] == [PublishStates(driven.state.states(), {"m": {}})]

    def test_is_asked_again_for_a_load_that_it_does_not_run(self) -> None:
        driven = DrivenState()
        load = driven.aspire(1)
        assert driven.observe() == load
        assert driven.observe(found(1, LOADING, instruction_id="c1-1")) == []

    def test_may_have_finished_a_load_without_saying_so(self) -> None:
        driven = DrivenState()
        driven.aspire(1)
        assert driven.observe(found(1, instruction_id="c1-1")) == []
        assert driven.public() == {1: PublicState.AVAILABLE}

    def test_is_asked_again_to_cancel_a_load(self) -> None:
        driven = DrivenState()
        driven.aspire(1)
        driven.aspire()
        assert driven.observe(found(1, LOADING, instruction_id="c1-1")) == [CancelLoad(ONE)]

    def test_a_load_that_is_gone_while_it_was_being_cancelled_is_seen_out(self) -> None:
        driven = DrivenState()
        driven.aspire(1)
        driven.aspire()
        assert driven.observe() == [CancelLoad(ONE), Quiesce("c1-2", ONE)]
        driven.quiesced(1)
        driven.unloaded(1)
        assert (driven.public(), driven.status(1)) == ({1: PublicState.END}, CANCELLED)

    def test_a_load_that_is_gone_while_it_was_to_start_over_starts_over(self) -> None:
        driven = DrivenState()
        driven.aspire(1)
        driven.aspire(version(1, "newer"))
        assert driven.observe() == [Load("c1-2", version(1, "newer"), (SLOT,), RESOURCES)]

    def test_a_load_that_was_to_start_over_and_then_was_not_wanted_is_seen_out(self) -> None:
        driven = DrivenState()
        driven.aspire(1)
        driven.aspire(version(1, "newer"))
        driven.aspire()
        assert driven.observe() == [CancelLoad(ONE), Quiesce("c1-2", ONE)]

    def test_is_asked_again_for_a_ready_version_that_it_does_not_run(self) -> None:
        driven = DrivenState()
        driven.serve(1)
        assert driven.observe() == [Load("c1-2", version(1), (SLOT,), RESOURCES)]
        assert driven.public() == {1: PublicState.LOADING}
        assert driven.slots(1) == (SLOT,)
        driven.loaded(1)
        assert driven.public() == {1: PublicState.AVAILABLE}

    def test_a_ready_version_that_is_gone_with_its_node_needs_room_again(self) -> None:
        driven = DrivenState()
        driven.serve(1)
        driven.nodes(Node("small", 1000, 1.0))
        assert driven.observe() == []
        assert driven.status(1).code is Code.RESOURCE_EXHAUSTED

    def test_a_ready_version_whose_replicas_load_again_is_loading(self) -> None:
        driven = DrivenState()
        driven.serve(1)
        driven.observe(found(1, LOADING, instruction_id="c1-1"))
        assert driven.public() == {1: PublicState.LOADING}
        driven.load_failed(1)
        assert driven.harness_state(1) is HarnessState.LOAD_REQUESTED

    def test_an_old_version_that_is_gone_is_seen_out(self) -> None:
        driven = DrivenState()
        driven.serve(1)
        driven.aspire(2)
        assert driven.observe(found(2, LOADING, instruction_id="c1-2")) == [Quiesce("c1-3", ONE)]

    def test_a_ready_version_found_on_its_way_out_is_loaded_again_after_its_end(self) -> None:
        driven = DrivenState()
        driven.serve(1)
        assert driven.observe(found(1, QUIESCING)) == [Quiesce("c1-2", ONE)]
        driven.quiesced(1)
        assert [type(one) for one in driven.unloaded(1)] == [Load]

    def test_is_asked_again_to_quiesce_and_to_unload(self) -> None:
        driven = DrivenState()
        driven.serve(1)
        quiesce = driven.aspire()
        assert driven.observe(found(1)) == quiesce
        assert driven.observe() == quiesce, "what is gone is seen out all the same"
        unload = driven.quiesced(1)
        assert driven.observe(found(1, QUIESCING)) == unload
        assert driven.observe() == unload

    def test_is_told_the_place_of_a_version_of_which_it_found_less(self) -> None:
        driven = DrivenState({"m": StreamOptions(replicas=2)})
        driven.serve(1)
        assert driven.observe(found(1)) == [Place(ONE, (SLOT, SLOT), RESOURCES)]
        assert driven.observe(found(1, slots=[SLOT, SLOT])) == []

    def test_a_version_found_while_it_waits_for_a_retry_is_taken_over(self) -> None:
        driven = DrivenState()
        driven.aspire(1)
        driven.load_failed(1)
        assert driven.observe(found(1)) == []
        assert driven.public() == {1: PublicState.AVAILABLE}
        assert driven.pass_time(60.0) == []

    def test_a_load_of_older_files_found_while_it_waits_for_a_retry_is_cancelled(self) -> None:
        driven = DrivenState()
        driven.aspire(1)
        driven.load_failed(1)
        assert driven.observe(found(1, LOADING, fingerprint="older")) == [CancelLoad(ONE)]

    def test_a_version_in_error_that_runs_is_taken_over(self) -> None:
        driven = DrivenState()
        driven.aspire(1)
        driven.fail_for_good(1)
        driven.observe(found(1))
        assert driven.public() == {1: PublicState.AVAILABLE}

    @pytest.mark.parametrize("phase", [LOADING, QUIESCING])
    def test_an_unknown_version_that_nobody_wants_is_seen_out(self, phase: ObservedPhase) -> None:
        driven = DrivenState()
        driven.aspire()
        told = driven.observe(found(1, phase))
        assert told == [*([CancelLoad(ONE)] if phase is LOADING else []), Quiesce("c1-1", ONE)]

    def test_an_unknown_version_that_serves_and_that_nobody_wants_is_unloaded_by_the_policy(self) -> None:
        driven = DrivenState()
        driven.serve(2)
        assert driven.observe(found(1), found(2)) == [Quiesce("c1-2", ONE)]

    def test_an_unknown_version_of_a_stream_that_is_not_configured_is_unloaded(self) -> None:
        driven = DrivenState()
        assert driven.observe(found(1, stream="old")) == [Quiesce("c1-1", ServableId("old", 1))]

    def test_an_unknown_version_of_a_stream_that_has_come_to_the_config_is_left_to_its_source(self) -> None:
        driven = DrivenState()
        driven.configure(m=StreamOptions(), n=StreamOptions())
        assert driven.observe(found(1, stream="n")) == []
        assert driven.aspire(1, stream="n") == []

    def test_what_turns_up_while_the_server_drains_is_unloaded(self) -> None:
        driven = DrivenState()
        driven.handle(StopRequested())
        assert driven.observe(found(1)) == [Quiesce("c1-1", ONE)]
        assert not driven.state.stopped()
