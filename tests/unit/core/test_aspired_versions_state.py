"""What the state machine decides, event by event; each event is followed by a look at all its invariants."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from cluster.core.aspired_version import AspiredVersion
from cluster.core.aspired_versions_state import Options
from cluster.core.errors import Code, Status
from cluster.core.events import Loaded, LoadFailed, Quiesced, StopRequested, StreamOptions, Unloaded
from cluster.core.instructions import CancelLoad, Load, Place, PublishStates, Quiesce, Unload
from cluster.core.loader_harness import HarnessState
from cluster.core.request_logging import RequestLogging
from cluster.core.resources import Gpu, GpuUse, Node, ReplicaResources, ResourceRequest, Slot
from cluster.core.servable_id import CopyId, ServableId
from cluster.core.servable_state import PublicState, ServableState
from cluster.core.servable_stream import ENDED_VERSIONS_KEPT
from tests.fakes.driven_state import BROKEN, CANCELLED, GIBIBYTE, NODE, DrivenState, version

RESOURCES = ReplicaResources(1000 * 12 // 10 + (256 << 20))
SLOT = Slot("node-a")
BAD = Status(Code.FAILED_PRECONDITION, "the directory is incomplete")
BIG = 60 * GIBIBYTE
HUGE = 100 * GIBIBYTE


def servable(number: int, stream: str = "m") -> ServableId:
    return ServableId(stream, number)


def doubted(number: int) -> AspiredVersion:
    """A version that its source found unusable."""
    return replace(version(number), status=BAD)


def gpu_node(name: str, gpus: int = 1, memory_gib: int = 64) -> Node:
    return Node(name, memory_gib * GIBIBYTE, 8.0, tuple(Gpu(index, 16 * GIBIBYTE) for index in range(gpus)))


class TestOneVersion:
    def test_goes_up_and_down(self) -> None:
        driven = DrivenState()
        assert driven.aspire(1) == [Load("c1-1", version(1), (SLOT,), RESOURCES)]
        assert driven.public() == {1: PublicState.LOADING}
        assert driven.loaded(1) == []
        assert driven.public() == {1: PublicState.AVAILABLE}
        assert driven.aspire() == [Quiesce("c1-2", servable(1))]
        assert driven.public() == {1: PublicState.UNLOADING}
        assert driven.quiesced(1) == [Unload("c1-3", servable(1))]
        assert driven.slots(1) == (SLOT,)
        assert driven.unloaded(1) == []
        assert driven.slots(1) == ()
        assert driven.public() == {1: PublicState.END}
        assert driven.status(1) == Status()
        assert driven.state.harness(servable(1)) is None

    def test_repeated_events_change_nothing(self) -> None:
        driven = DrivenState()
        driven.aspire(1)
        assert driven.aspire(1) == []
        load_id = driven.ids[CopyId(servable(1))]
        driven.loaded(1)
        assert driven.loaded(1) == []
        assert driven.aspire(1) == []
        driven.aspire()
        assert driven.aspire() == []
        assert driven.handle(Loaded(servable(1), load_id)) == []
        quiesce_id = driven.ids[CopyId(servable(1))]
        driven.quiesced(1)
        assert driven.handle(Quiesced(servable(1), quiesce_id)) == []
        driven.unloaded(1)
        assert driven.unloaded(1) == []

    def test_answers_to_other_instructions_are_ignored(self) -> None:
        driven = DrivenState()
        driven.aspire(1)
        assert driven.handle(Loaded(servable(1), "c0-1")) == []
        assert driven.handle(LoadFailed(servable(1), "c0-1", BROKEN)) == []
        assert driven.harness_state(1) is HarnessState.LOADING
        driven.loaded(1)
        driven.aspire()
        assert driven.handle(Quiesced(servable(1), "c0-1")) == []
        driven.quiesced(1)
        assert driven.handle(Unloaded(servable(1), "c0-1")) == []
        assert driven.harness_state(1) is HarnessState.UNLOADING

    def test_a_load_that_comes_up_after_its_end_is_taken_down(self) -> None:
        driven = DrivenState()
        driven.aspire(1)
        load_id = driven.ids[CopyId(servable(1))]
        driven.aspire()
        driven.load_cancelled(1)
        assert driven.handle(Loaded(servable(1), load_id)) == [Unload("c1-2", servable(1))]

    def test_a_load_that_comes_up_after_its_last_failure_is_taken_down(self) -> None:
        driven = DrivenState()
        driven.aspire(1)
        driven.fail_for_good(1)
        assert driven.loaded(1) == [Unload("c1-4", servable(1))]
        assert driven.public() == {1: PublicState.END}

    def test_states_are_published_only_when_they_change(self) -> None:
        driven = DrivenState()
        driven.aspire(1)
        assert driven.published[-1] == PublishStates((ServableState(servable(1), PublicState.LOADING),), {"m": {}})
        before = len(driven.published)
        driven.aspire(1)
        driven.pass_time(1.0)
        assert len(driven.published) == before
        driven.loaded(1)
        assert driven.published[-1] == PublishStates((ServableState(servable(1), PublicState.AVAILABLE),), {"m": {}})
        assert len(driven.published) == before + 1

    def test_which_requests_are_logged_is_published_when_it_changes(self) -> None:
        logging = RequestLogging("/logs/m", 0.5)
        driven = DrivenState()
        driven.serve(1)
        driven.configure(m=StreamOptions(request_logging=logging))
        assert driven.published[-1].request_logging == {"m": logging}
        before = len(driven.published)
        driven.configure(m=StreamOptions(request_logging=logging))
        assert len(driven.published) == before
        driven.configure(m=StreamOptions())
        assert driven.published[-1].request_logging == {}
        assert len(driven.published) == before + 1

    def test_states_are_in_the_order_of_names_and_versions(self) -> None:
        driven = DrivenState({"b": StreamOptions(), "a": StreamOptions()})
        driven.aspire(10, 9, stream="b")
        driven.aspire(2, stream="a")
        assert [state.id for state in driven.state.states()] == [servable(2, "a"), servable(9, "b"), servable(10, "b")]

    def test_only_the_versions_that_ended_last_are_remembered(self) -> None:
        driven = DrivenState()
        for number in range(ENDED_VERSIONS_KEPT + 5):
            driven.aspire(doubted(number))
        driven.aspire()
        assert list(driven.public()) == list(range(5, ENDED_VERSIONS_KEPT + 5))


class TestTransitions:
    def test_the_old_version_stays_until_the_new_one_is_ready(self) -> None:
        driven = DrivenState()
        driven.serve(1)
        assert driven.aspire(2) == [Load("c1-2", version(2), (SLOT,), RESOURCES)]
        assert driven.harness_state(1) is HarnessState.READY
        assert driven.loaded(2) == [Quiesce("c1-3", servable(1))]

    def test_a_new_version_that_fails_does_not_take_the_old_one_down(self) -> None:
        driven = DrivenState()
        driven.serve(1)
        driven.aspire(2)
        driven.fail_for_good(2)
        assert driven.public() == {1: PublicState.AVAILABLE, 2: PublicState.END}

    def test_resource_preserving_unloads_first(self) -> None:
        driven = DrivenState({"m": StreamOptions(resource_preserving=True)})
        driven.serve(1)
        assert driven.aspire(2) == [Quiesce("c1-2", servable(1))]
        assert driven.quiesced(1) == [Unload("c1-3", servable(1))]
        assert driven.unloaded(1) == [Load("c1-4", version(2), (SLOT,), RESOURCES)]

    def test_an_exclusive_gpu_is_handed_on_from_version_to_version(self) -> None:
        driven = DrivenState({"m": StreamOptions(resources=ResourceRequest(gpu=GpuUse.EXCLUSIVE))}, [gpu_node("g")])
        driven.serve(1)
        assert driven.aspire(2) == [Quiesce("c1-2", servable(1))]
        driven.quiesced(1)
        assert [type(one) for one in driven.unloaded(1)] == [Load]

    def test_where_there_is_no_gpu_exclusiveness_keeps_nobody_waiting(self) -> None:
        driven = DrivenState({"m": StreamOptions(resources=ResourceRequest(gpu=GpuUse.EXCLUSIVE))})
        driven.serve(1)
        assert [type(one) for one in driven.aspire(2)] == [Load]

    def test_all_aspired_versions_are_loaded_the_largest_first(self) -> None:
        driven = DrivenState()
        assert [one.version.id.version for one in driven.aspire(1, 3, 2) if isinstance(one, Load)] == [3, 2, 1]

    def test_unloads_come_before_loads(self) -> None:
        driven = DrivenState({"m": StreamOptions(), "n": StreamOptions()}, options=Options(max_concurrent_loads=1))
        driven.serve(1, "n")
        driven.aspire(2, stream="n")
        assert driven.aspire(1) == [], "another load is under way"
        assert driven.loaded(2, "n") == [Quiesce("c1-3", servable(1, "n")), Load("c1-4", version(1), (SLOT,), RESOURCES)]

    def test_no_more_loads_at_a_time_than_allowed(self) -> None:
        driven = DrivenState(options=Options(max_concurrent_loads=2))
        assert [one.version.id.version for one in driven.aspire(1, 2, 3) if isinstance(one, Load)] == [3, 2]
        assert [one.version.id.version for one in driven.loaded(3) if isinstance(one, Load)] == [1]

    def test_a_stream_that_has_left_the_config_is_unloaded(self) -> None:
        driven = DrivenState()
        driven.serve(1)
        driven.aspire(1, 2)
        assert driven.configure() == [CancelLoad(servable(2)), Quiesce("c1-3", servable(1))]
        assert driven.aspire(1, 2) == []

    def test_a_stream_that_comes_back_waits_for_its_source(self) -> None:
        driven = DrivenState()
        driven.serve(1)
        driven.configure()
        driven.quiesced(1)
        driven.unloaded(1)
        assert driven.configure(m=StreamOptions()) == []
        assert driven.state.waiting_streams() == ("m",)
        assert [type(one) for one in driven.aspire(1)] == [Load]

    def test_lists_of_streams_that_are_not_configured_are_ignored(self) -> None:
        driven = DrivenState()
        assert driven.aspire(1, stream="unknown") == []
        assert driven.state.states() == ()


class TestFailures:
    def test_a_failed_load_is_tried_again_after_the_interval(self) -> None:
        driven = DrivenState()
        driven.aspire(1)
        assert driven.load_failed(1) == []
        assert driven.slots(1) == ()
        assert (driven.public()[1], driven.status(1)) == (PublicState.LOADING, BROKEN)
        assert driven.state.next_wakeup(driven.now) == driven.now + 60.0
        assert driven.pass_time(59.9) == []
        assert driven.pass_time(0.1) == [Load("c1-2", version(1), (SLOT,), RESOURCES)]
        assert driven.state.next_wakeup(driven.now) is None
        driven.loaded(1)
        assert (driven.public()[1], driven.status(1)) == (PublicState.AVAILABLE, Status())

    def test_the_last_attempt_is_the_end(self) -> None:
        driven = DrivenState()
        driven.aspire(1)
        attempts = 0
        while driven.harness_state(1) is HarnessState.LOADING:
            attempts += 1
            driven.load_failed(1)
            driven.pass_time(60.0)
        assert attempts == 3
        assert (driven.public()[1], driven.status(1)) == (PublicState.END, BROKEN)
        assert driven.aspire(1) == []
        assert driven.pass_time(1000.0) == []

    @pytest.mark.parametrize("code", [Code.UNAVAILABLE, Code.ABORTED, Code.RESOURCE_EXHAUSTED, Code.UNAUTHENTICATED])
    def test_what_lies_not_in_the_version_heals_by_itself_after_the_last_attempt(self, code: Code) -> None:
        driven = DrivenState(options=Options(max_num_load_retries=0, load_retry_interval_s=60.0))
        driven.aspire(1)
        away = Status(code, "the bucket is away")
        for _ in range(3):
            driven.load_failed(1, away)
            assert (driven.public()[1], driven.status(1)) == (PublicState.END, away)
            assert driven.state.first_versions_settled()
            assert driven.state.next_wakeup(driven.now) == driven.now + 60.0
            assert driven.pass_time(59.9) == []
            assert [type(one) for one in driven.pass_time(0.1)] == [Load]
        driven.loaded(1)
        assert (driven.public()[1], driven.status(1)) == (PublicState.AVAILABLE, Status())
        assert driven.state.next_wakeup(driven.now) is None

    def test_a_version_that_would_heal_by_itself_may_be_given_up(self) -> None:
        driven = DrivenState(options=Options(max_num_load_retries=0, load_retry_interval_s=60.0))
        driven.aspire(1)
        driven.load_failed(1, Status(Code.UNAVAILABLE, "the bucket is away"))
        driven.aspire()
        assert driven.pass_time(1000.0) == []
        assert driven.public()[1] is PublicState.END

    def test_without_an_interval_it_is_tried_again_at_once(self) -> None:
        driven = DrivenState(options=Options(load_retry_interval_s=-1.0))
        driven.aspire(1)
        assert driven.load_failed(1) == [Load("c1-2", version(1), (SLOT,), RESOURCES)]

    def test_a_version_in_error_heals_when_its_files_change(self) -> None:
        driven = DrivenState()
        driven.aspire(1)
        driven.fail_for_good(1)
        assert [type(one) for one in driven.aspire(version(1, "repaired"))] == [Load]
        assert (driven.public()[1], driven.status(1)) == (PublicState.LOADING, Status())
        driven.load_failed(1)
        assert driven.harness_state(1) is HarnessState.LOAD_REQUESTED, "its attempts are counted anew"

    def test_a_version_that_waits_for_a_retry_is_tried_at_once_when_its_files_change(self) -> None:
        driven = DrivenState()
        driven.aspire(1)
        driven.load_failed(1)
        assert driven.aspire(version(1, "repaired")) == [Load("c1-2", version(1, "repaired"), (SLOT,), RESOURCES)]

    def test_an_attempt_on_older_files_is_cancelled_and_begun_again(self) -> None:
        driven = DrivenState()
        driven.aspire(1)
        assert driven.aspire(version(1, "newer")) == [CancelLoad(servable(1))]
        assert driven.aspire(version(1, "newest")) == []
        assert driven.public() == {1: PublicState.LOADING}
        assert driven.load_cancelled(1) == [Load("c1-2", version(1, "newest"), (SLOT,), RESOURCES)]

    def test_a_version_in_error_may_be_tried_again_after_it_was_not_aspired(self) -> None:
        driven = DrivenState()
        driven.aspire(1)
        driven.fail_for_good(1)
        driven.aspire()
        assert (driven.public()[1], driven.status(1)) == (PublicState.END, BROKEN)
        assert [type(one) for one in driven.aspire(1)] == [Load]

    def test_an_error_of_the_source_is_the_versions_error(self) -> None:
        driven = DrivenState()
        assert [one.version.id for one in driven.aspire(doubted(1), 2) if isinstance(one, Load)] == [servable(2)]
        assert (driven.public()[1], driven.status(1)) == (PublicState.END, BAD)
        assert [type(one) for one in driven.aspire(1, 2)] == [Load], "it is tried once its source has no doubt any more"
        assert driven.aspire(doubted(1), 2) == [CancelLoad(servable(1))]
        assert driven.load_cancelled(1) == []
        assert driven.status(1) == BAD

    def test_an_error_of_the_source_ends_the_wait_for_a_retry(self) -> None:
        driven = DrivenState()
        driven.aspire(1)
        driven.load_failed(1)
        driven.aspire(doubted(1))
        assert driven.harness_state(1) is HarnessState.ERROR
        assert driven.pass_time(60.0) == []


class TestCancellation:
    def test_a_load_that_nobody_wants_any_more_is_cancelled_at_once(self) -> None:
        driven = DrivenState()
        driven.aspire(1)
        assert driven.aspire() == [CancelLoad(servable(1))]
        assert driven.load_cancelled(1) == []
        assert (driven.public()[1], driven.status(1)) == (PublicState.END, CANCELLED)
        assert driven.slots(1) == ()

    def test_a_version_whose_load_has_not_begun_just_ends(self) -> None:
        driven = DrivenState(options=Options(max_concurrent_loads=1))
        driven.aspire(1, 2)
        assert driven.public() == {1: PublicState.START, 2: PublicState.LOADING}
        assert driven.aspire(2) == []
        assert (driven.public()[1], driven.status(1)) == (PublicState.END, Status())

    def test_a_version_that_waits_for_a_retry_ends_at_once(self) -> None:
        driven = DrivenState()
        driven.aspire(1)
        driven.load_failed(1)
        assert driven.aspire() == []
        assert (driven.public()[1], driven.status(1)) == (PublicState.END, CANCELLED)
        assert driven.state.next_wakeup(driven.now) is None

    def test_a_load_that_was_ready_before_its_cancellation_is_unloaded(self) -> None:
        driven = DrivenState()
        driven.aspire(1)
        driven.aspire()
        assert driven.loaded(1) == [Quiesce("c1-2", servable(1))]

    def test_a_version_wanted_again_while_its_load_is_cancelled_begins_anew_after_that(self) -> None:
        driven = DrivenState()
        driven.aspire(1)
        driven.aspire()
        assert driven.aspire(1) == []
        assert driven.load_cancelled(1) == [Load("c1-2", version(1), (SLOT,), RESOURCES)]

    def test_files_that_changed_do_not_bring_back_what_nobody_wants(self) -> None:
        driven = DrivenState()
        driven.aspire(1)
        driven.aspire(version(1, "newer"))
        assert driven.aspire() == [], "the load is being cancelled already"
        assert driven.load_cancelled(1) == []
        assert driven.public() == {1: PublicState.END}


class TestWantedAgain:
    def test_a_version_on_its_way_out_ends_before_it_is_loaded_anew(self) -> None:
        driven = DrivenState()
        driven.serve(1)
        driven.aspire()
        assert driven.aspire(1) == []
        assert driven.quiesced(1) == [Unload("c1-3", servable(1))]
        assert driven.unloaded(1) == [Load("c1-4", version(1), (SLOT,), RESOURCES)]

    def test_the_whole_list_waits(self) -> None:
        driven = DrivenState()
        driven.serve(1)
        driven.aspire(2)
        driven.loaded(2)
        assert driven.aspire(1, 3) == []
        driven.quiesced(1)
        assert [one.version.id.version for one in driven.unloaded(1) if isinstance(one, Load)] == [3, 1]

    def test_a_later_list_replaces_the_one_that_waits(self) -> None:
        driven = DrivenState()
        driven.serve(1)
        driven.aspire()
        driven.aspire(1)
        assert [one.version.id.version for one in driven.aspire(2) if isinstance(one, Load)] == [2]
        driven.quiesced(1)
        assert driven.unloaded(1) == []

    def test_an_old_version_that_still_serves_just_goes_on(self) -> None:
        driven = DrivenState()
        driven.serve(1)
        driven.aspire(2)
        driven.fail_for_good(2)
        assert driven.aspire(1) == []
        assert driven.public() == {1: PublicState.AVAILABLE, 2: PublicState.END}


class TestRoom:
    def test_what_can_never_fit_is_refused_at_once(self) -> None:
        driven = DrivenState()
        assert driven.aspire(version(1, size_bytes=HUGE)) == []
        assert driven.public() == {1: PublicState.END}
        assert driven.status(1) == Status(
            Code.RESOURCE_EXHAUSTED,
            "Insufficient resources to load servable {name: m version: 1} "
            "(needs 120.2 GiB memory on one node; the most free is 64.0 GiB)",
        )

    def test_it_waits_while_something_comes_up_or_goes(self) -> None:
        driven = DrivenState({"m": StreamOptions(), "n": StreamOptions()})
        driven.aspire(1, stream="n")
        driven.aspire(version(1, size_bytes=HUGE))
        assert driven.public() == {1: PublicState.START}
        driven.loaded(1, stream="n")
        assert driven.status(1).code is Code.RESOURCE_EXHAUSTED

    def test_room_that_a_failed_load_leaves_is_used(self) -> None:
        driven = DrivenState(options=Options(max_num_load_retries=0))
        big = 40 * GIBIBYTE
        assert [type(one) for one in driven.aspire(version(1, size_bytes=big), version(2, size_bytes=big))] == [Load]
        assert [one.version.id.version for one in driven.load_failed(2) if isinstance(one, Load)] == [1]

    def test_a_refused_version_heals_when_room_appears(self) -> None:
        driven = DrivenState()
        driven.aspire(version(1, size_bytes=BIG))
        assert driven.status(1).code is Code.RESOURCE_EXHAUSTED
        assert driven.nodes(NODE, Node("node-b", 70 * GIBIBYTE, 8.0)) == []
        assert driven.public() == {1: PublicState.END}
        (load,) = driven.nodes(NODE, Node("node-b", 80 * GIBIBYTE, 8.0))
        assert isinstance(load, Load)
        assert load.slots == (Slot("node-b"),)
        assert driven.status(1) == Status()

    def test_a_refused_version_heals_when_another_one_has_been_unloaded(self) -> None:
        driven = DrivenState({"m": StreamOptions(), "n": StreamOptions()})
        driven.aspire(version(1, size_bytes=40 * GIBIBYTE))
        driven.loaded(1)
        driven.aspire(version(1, size_bytes=40 * GIBIBYTE, stream="n"), stream="n")
        assert driven.status(1, "n").code is Code.RESOURCE_EXHAUSTED
        driven.aspire()
        driven.quiesced(1)
        assert [one.version.id for one in driven.unloaded(1) if isinstance(one, Load)] == [servable(1, "n")]

    def test_of_two_refused_versions_the_one_that_fits_is_healed(self) -> None:
        driven = DrivenState()
        driven.aspire(version(1, size_bytes=60 * GIBIBYTE), version(2, size_bytes=60 * GIBIBYTE))
        assert driven.public() == {1: PublicState.END, 2: PublicState.END}
        driven.nodes(NODE, Node("node-b", 80 * GIBIBYTE, 8.0))
        assert sorted(state.value for state in driven.public().values()) == [PublicState.START, PublicState.LOADING]
        (up,) = (number for number, state in driven.public().items() if state is PublicState.LOADING)
        driven.loaded(up)
        assert sorted(state.value for state in driven.public().values()) == [PublicState.AVAILABLE, PublicState.END]

    def test_files_that_have_become_small_enough_need_not_wait(self) -> None:
        driven = DrivenState({"m": StreamOptions(), "n": StreamOptions()})
        driven.aspire(1, stream="n")
        driven.aspire(version(1, size_bytes=HUGE))
        assert [type(one) for one in driven.aspire(version(1, "smaller"))] == [Load]

    def test_room_that_fewer_replicas_leave_is_used(self) -> None:
        asked = ResourceRequest(30 * GIBIBYTE)
        driven = DrivenState({"m": StreamOptions(2, asked), "n": StreamOptions(1, asked)})
        driven.serve(1)
        driven.aspire(1, stream="n")
        assert driven.status(1, "n").code is Code.RESOURCE_EXHAUSTED
        told = driven.configure(m=StreamOptions(1, asked), n=StreamOptions(1, asked))
        assert [type(one) for one in told] == [Place, Load]

    def test_the_same_events_again_do_not_make_a_refused_version_flap(self) -> None:
        driven = DrivenState()
        driven.aspire(version(1, size_bytes=HUGE))
        before = len(driven.published)
        driven.nodes(NODE)
        driven.pass_time(100.0)
        driven.aspire(version(1, size_bytes=HUGE))
        assert len(driven.published) == before

    def test_new_options_are_a_new_chance(self) -> None:
        driven = DrivenState()
        driven.aspire(version(1, size_bytes=HUGE))
        (load,) = driven.configure(m=StreamOptions(resources=ResourceRequest(GIBIBYTE)))
        assert isinstance(load, Load)
        assert load.resources == ReplicaResources(GIBIBYTE)

    def test_the_resources_are_the_configured_ones(self) -> None:
        asked = ResourceRequest(GIBIBYTE, 2 * GIBIBYTE, 0.5, GpuUse.EXCLUSIVE)
        driven = DrivenState({"m": StreamOptions(resources=asked)}, [gpu_node("g")])
        (load,) = driven.aspire(1)
        assert load == Load(
            "c1-1",
            version(1),
            (Slot("g", 0, 2 * GIBIBYTE),),
            ReplicaResources(GIBIBYTE, 2 * GIBIBYTE, 0.5, GpuUse.EXCLUSIVE),
        )

    def test_a_model_that_wants_no_gpu_stays_on_cpus_where_there_are_gpus(self) -> None:
        asked = StreamOptions(resources=ResourceRequest(gpu=GpuUse.NONE))
        driven = DrivenState({"m": asked, "n": StreamOptions()}, [gpu_node("g")])
        driven.serve(1)
        assert driven.slots(1) == (Slot("g"),)
        assert driven.nodes(gpu_node("g"), gpu_node("h")) == []
        assert driven.configure(m=StreamOptions(labels=(("a", 1),)), n=StreamOptions()) == [], "it stays as it was loaded"
        assert driven.aspire(1, 2) != [], "the next version goes to the GPUs"
        assert all(slot.gpu is not None for slot in driven.slots(2))


class TestNodes:
    def test_a_new_gpu_gets_a_replica_of_each_version(self) -> None:
        driven = DrivenState(nodes=[gpu_node("a")])
        driven.serve(1)
        limit = RESOURCES.memory_bytes
        assert driven.slots(1) == (Slot("a", 0, limit),)
        slots = (Slot("a", 0, limit), Slot("b", 0, limit))
        resources = ReplicaResources(limit, limit)
        assert driven.nodes(gpu_node("a"), gpu_node("b")) == [Place(servable(1), slots, resources)]
        assert driven.nodes(gpu_node("b")) == [Place(servable(1), slots[1:], resources)]

    def test_a_version_moves_from_cpus_to_the_gpus_when_these_are_there(self) -> None:
        driven = DrivenState(nodes=[Node("a", 64 * GIBIBYTE, 8.0)])
        driven.serve(1)
        limit = RESOURCES.memory_bytes
        assert driven.nodes(gpu_node("a")) == [Place(servable(1), (Slot("a", 0, limit),), ReplicaResources(limit, limit))]

    def test_a_lost_replica_is_replaced_and_the_others_stay(self) -> None:
        nodes = [Node(name, 64 * GIBIBYTE, 8.0) for name in "abc"]
        driven = DrivenState({"m": StreamOptions(replicas=2)}, nodes)
        driven.serve(1)
        assert driven.slots(1) == (Slot("a"), Slot("b"))
        assert driven.nodes(*nodes[1:]) == [Place(servable(1), (Slot("b"), Slot("c")), RESOURCES)]

    def test_a_version_without_room_keeps_what_is_left_until_there_is_room(self) -> None:
        a, b = (Node(name, GIBIBYTE, 8.0) for name in "ab")
        taken = ReplicaResources(GIBIBYTE)
        driven = DrivenState({"m": StreamOptions(replicas=2, resources=ResourceRequest(GIBIBYTE))}, [a, b])
        driven.serve(1)
        assert driven.nodes(b) == [Place(servable(1), (Slot("b"),), taken)]
        assert driven.public() == {1: PublicState.AVAILABLE}
        assert driven.nodes(a, b) == [Place(servable(1), (Slot("b"), Slot("a")), taken)]

    def test_a_version_that_has_lost_everything_is_placed_anew_when_there_is_room(self) -> None:
        driven = DrivenState()
        driven.serve(1)
        assert driven.nodes() == []
        assert driven.public() == {1: PublicState.AVAILABLE}
        assert driven.nodes(Node("node-b", GIBIBYTE, 1.0)) == [Place(servable(1), (Slot("node-b"),), RESOURCES)]

    def test_room_that_a_version_leaves_is_given_to_one_that_lost_its_place(self) -> None:
        a, b = (Node(name, GIBIBYTE, 8.0) for name in "ab")
        asked = StreamOptions(resources=ResourceRequest(GIBIBYTE))
        driven = DrivenState({"m": asked, "n": asked}, [a, b])
        driven.serve(1, "m")
        driven.serve(1, "n")
        lost, stays = ("m", "n") if driven.slots(1, "m") == (Slot("a"),) else ("n", "m")
        assert driven.nodes(b) == []
        driven.aspire(stream=stays)
        driven.quiesced(1, stays)
        assert driven.unloaded(1, stays) == [Place(servable(1, lost), (Slot("b"),), ReplicaResources(GIBIBYTE))]

    def test_a_load_that_loses_a_node_begins_again_and_it_does_not_count(self) -> None:
        driven = DrivenState(options=Options(max_num_load_retries=1))
        driven.aspire(1)
        other = Node("node-b", GIBIBYTE, 1.0)
        assert driven.nodes(other) == [CancelLoad(servable(1))]
        assert driven.nodes(other) == []
        assert driven.load_cancelled(1) == [Load("c1-2", version(1), (Slot("node-b"),), RESOURCES)]
        assert driven.public() == {1: PublicState.LOADING}
        driven.load_failed(1)
        assert [type(one) for one in driven.pass_time(60.0)] == [Load]
        driven.load_failed(1)
        assert driven.public() == {1: PublicState.END}

    def test_a_load_that_was_ready_although_it_lost_a_node_keeps_what_is_left(self) -> None:
        a, b = (Node(name, GIBIBYTE, 8.0) for name in "ab")
        driven = DrivenState({"m": StreamOptions(replicas=2, resources=ResourceRequest(GIBIBYTE))}, [a, b])
        driven.aspire(1)
        assert driven.nodes(b) == [CancelLoad(servable(1))]
        assert driven.loaded(1) == [Place(servable(1), (Slot("b"),), ReplicaResources(GIBIBYTE))]
        assert driven.slots(1) == (Slot("b"),)

    def test_an_old_version_that_serves_for_a_failed_one_follows_the_nodes_too(self) -> None:
        driven = DrivenState()
        driven.serve(1)
        driven.aspire(2)
        driven.fail_for_good(2)
        assert driven.nodes(Node("node-b", GIBIBYTE, 1.0)) == [Place(servable(1), (Slot("node-b"),), RESOURCES)]

    def test_other_settings_begin_anew_what_has_not_come_up_and_leave_alone_what_serves(self) -> None:
        driven = DrivenState(options=Options(max_num_load_retries=0))
        driven.serve(1)
        driven.aspire(1, 2)
        driven.load_failed(2)
        told = driven.aspire(replace(version(1), settings="batched"), replace(version(2), settings="batched"))
        assert [one.version for one in told if isinstance(one, Load)] == [replace(version(2), settings="batched")]
        assert len(told) == 1

    def test_new_options_move_what_runs(self) -> None:
        driven = DrivenState()
        driven.serve(1)
        assert driven.configure(m=StreamOptions(replicas=2)) == [Place(servable(1), (SLOT, SLOT), RESOURCES)]
        assert driven.configure(m=StreamOptions(replicas=2)) == []
        assert driven.configure(m=StreamOptions(replicas=1)) == [Place(servable(1), (SLOT,), RESOURCES)]

    def test_options_that_changed_during_a_load_apply_after_it(self) -> None:
        driven = DrivenState()
        driven.aspire(1)
        assert driven.configure(m=StreamOptions(replicas=2)) == []
        assert driven.loaded(1) == [Place(servable(1), (SLOT, SLOT), RESOURCES)]


class TestSettling:
    def test_a_stream_without_versions_holds_nobody_back(self) -> None:
        driven = DrivenState({"m": StreamOptions(), "empty": StreamOptions()})
        assert driven.state.first_versions_settled()
        assert driven.state.waiting_streams() == ("m", "empty")
        driven.aspire(stream="empty")
        driven.aspire(1)
        assert driven.state.waiting_streams() == ("empty",)
        assert not driven.state.first_versions_settled()
        driven.loaded(1)
        assert driven.state.first_versions_settled()

    def test_one_available_version_of_a_stream_is_enough(self) -> None:
        driven = DrivenState()
        driven.aspire(1, 2)
        driven.loaded(1)
        assert driven.state.first_versions_settled()

    def test_a_version_that_fails_has_failed_only_after_its_last_attempt(self) -> None:
        driven = DrivenState()
        driven.aspire(1)
        driven.load_failed(1)
        assert not driven.state.first_versions_settled()
        driven.pass_time(60.0)
        driven.fail_for_good(1)
        assert driven.state.first_versions_settled()

    def test_all_versions_must_have_failed(self) -> None:
        driven = DrivenState()
        driven.aspire(1, version(2, size_bytes=HUGE))
        driven.fail_for_good(1)
        assert driven.state.first_versions_settled()

    def test_what_is_settled_stays_so(self) -> None:
        driven = DrivenState()
        driven.serve(1)
        driven.aspire(2)
        assert driven.state.first_versions_settled()


class TestStop:
    def test_everything_is_unloaded_and_nothing_comes_back(self) -> None:
        driven = DrivenState()
        driven.serve(1)
        driven.aspire(1, 2)
        assert driven.handle(StopRequested()) == [CancelLoad(servable(2)), Quiesce("c1-3", servable(1))]
        assert driven.aspire(3) == []
        assert driven.configure(n=StreamOptions()) == []
        driven.load_cancelled(2)
        driven.quiesced(1)
        assert not driven.state.stopped()
        driven.unloaded(1)
        assert driven.state.stopped()
        assert driven.public() == {1: PublicState.END, 2: PublicState.END}

    def test_with_nothing_loaded_it_has_stopped_at_once(self) -> None:
        driven = DrivenState()
        assert not driven.state.stopped()
        driven.handle(StopRequested())
        assert driven.state.stopped()


class TestDeterminism:
    @pytest.mark.parametrize("stream_names", [("a", "b", "c")])
    def test_the_same_events_give_the_same_instructions(self, stream_names: tuple[str, ...]) -> None:
        def run() -> str:
            driven = DrivenState(
                {name: StreamOptions(replicas=2) for name in stream_names}, [gpu_node("x", 2), gpu_node("y", 3)]
            )
            told = [driven.aspire(1, 2, stream=name) for name in stream_names]
            told += [driven.loaded(2, name) for name in stream_names]
            told += [driven.nodes(gpu_node("y", 2)), driven.aspire(stream="b")]
            return json.dumps([repr(one) for one in told])

        assert run() == run()
