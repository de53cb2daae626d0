from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.core.errors import ResourceExhausted
from cluster.core.resource_ledger import ResourceLedger, Totals
from cluster.core.resources import Gpu, GpuUse, Node, ReplicaResources, Slot
from cluster.core.servable_id import ServableId

GIBIBYTE = 1 << 30


def servable(number: int) -> ServableId:
    return ServableId("m", number)


def cpu_node(name: str, memory_gib: float = 8, cpus: float = 4.0, **labels: str) -> Node:
    return Node(name, int(memory_gib * GIBIBYTE), cpus, labels=labels)


def gpu_node(name: str, gpus: int = 2, gpu_memory_gib: float | None = 16, memory_gib: float = 64) -> Node:
    gpu_memory_bytes = None if gpu_memory_gib is None else int(gpu_memory_gib * GIBIBYTE)
    return Node(name, int(memory_gib * GIBIBYTE), 8.0, tuple(Gpu(index, gpu_memory_bytes) for index in range(gpus)))


def needs(memory_gib: float = 1, gpu_memory_gib: float = 0, cpus: float = 0.0, exclusive: bool = False) -> ReplicaResources:
    return ReplicaResources(
        int(memory_gib * GIBIBYTE), int(gpu_memory_gib * GIBIBYTE), cpus, GpuUse.EXCLUSIVE if exclusive else GpuUse.SHARED
    )


def ledger_of(*nodes: Node) -> ResourceLedger:
    ledger = ResourceLedger()
    ledger.set_nodes(nodes)
    return ledger


def book(ledger: ResourceLedger, number: int, resources: ReplicaResources, replicas: int | None = None) -> tuple[Slot, ...]:
    slots = ledger.plan(servable(number), resources, replicas)
    ledger.reserve(servable(number), resources, slots)
    ledger.validate()
    return slots


class TestOnCpus:
    def test_one_replica_where_nobody_says_how_many(self) -> None:
        assert book(ledger_of(cpu_node("a"), cpu_node("b", memory_gib=16)), 1, needs()) == (Slot("b"),)

    def test_replicas_spread_over_the_nodes_with_the_most_free_memory(self) -> None:
        ledger = ledger_of(cpu_node("a", 8), cpu_node("b", 32), cpu_node("c", 16))
        assert book(ledger, 1, needs(), replicas=2) == (Slot("b"), Slot("c"))

    def test_more_replicas_than_nodes_share_nodes_evenly(self) -> None:
        slots = book(ledger_of(cpu_node("a", 32), cpu_node("b", 8)), 1, needs(), replicas=4)
        assert Counter(slot.node_id for slot in slots) == {"a": 2, "b": 2}

    def test_equal_nodes_are_taken_by_name_whatever_their_order(self) -> None:
        nodes = [cpu_node(name) for name in "dbca"]
        assert book(ledger_of(*nodes), 1, needs(), replicas=2) == book(ledger_of(*reversed(nodes)), 1, needs(), replicas=2)

    def test_all_replicas_or_none(self) -> None:
        ledger = ledger_of(cpu_node("a", 8), cpu_node("b", 2))
        with pytest.raises(ResourceExhausted) as raised:
            ledger.plan(servable(3), needs(3), replicas=3)
        assert str(raised.value) == (
            "Insufficient resources to load servable {name: m version: 3} "
            "(needs 3.0 GiB memory on one node, 3 times; the most free is 8.0 GiB)"
        )
        assert ledger.reserved() == Totals()

    def test_says_what_is_short(self) -> None:
        ledger = ledger_of(cpu_node("a", 2, cpus=1.0))
        book(ledger, 1, needs(0.9))
        with pytest.raises(ResourceExhausted) as raised:
            ledger.plan(servable(2), needs(3.2, cpus=2.0), replicas=None)
        assert str(raised.value) == (
            "Insufficient resources to load servable {name: m version: 2} "
            "(needs 3.2 GiB memory on one node; the most free is 1.1 GiB; 2 CPUs; the most free is 1)"
        )

    def test_cpus_are_accounted(self) -> None:
        ledger = ledger_of(cpu_node("a", cpus=0.3))
        for number in range(3):
            book(ledger, number, needs(0.1, cpus=0.1))
        assert ledger.overcommitted() == ()
        with pytest.raises(ResourceExhausted):
            ledger.plan(servable(10), needs(0.1, cpus=0.1), replicas=None)
        ledger.release(servable(0))
        book(ledger, 10, needs(0.1, cpus=0.1))

    def test_nothing_fits_where_there_is_no_node(self) -> None:
        with pytest.raises(ResourceExhausted, match=r"no node of the cluster"):
            ledger_of().plan(servable(1), needs(0), replicas=None)

    def test_only_nodes_with_the_labels_count(self) -> None:
        ledger = ledger_of(cpu_node("a", 64), cpu_node("b", 8, pool="serving"))
        assert ledger.plan(servable(1), needs(), None, [("pool", "serving")]) == (Slot("b"),)
        with pytest.raises(ResourceExhausted, match=r"has the labels"):
            ledger.plan(servable(1), needs(), None, [("pool", "training")])


class TestOnGpus:
    def test_one_replica_on_every_gpu_where_nobody_says_how_many(self) -> None:
        slots = book(ledger_of(gpu_node("a", 2), gpu_node("b", 1), cpu_node("c")), 1, needs(1, 2))
        limit = 2 * GIBIBYTE
        assert set(slots) == {Slot("a", 0, limit), Slot("a", 1, limit), Slot("b", 0, limit)}

    def test_every_gpu_or_none(self) -> None:
        ledger = ledger_of(gpu_node("a"), gpu_node("b", gpu_memory_gib=4))
        with pytest.raises(ResourceExhausted) as raised:
            ledger.plan(servable(1), needs(1, 8), None)
        assert str(raised.value) == (
            "Insufficient resources to load servable {name: m version: 1} "
            "(needs 1.0 GiB memory on one node, 4 times; the most free is 64.0 GiB; "
            "a GPU with 8.0 GiB memory, 4 times; 4 of 4 can be had, the most free with 16.0 GiB)"
        )

    def test_versions_share_a_gpu_until_its_memory_is_full(self) -> None:
        ledger = ledger_of(gpu_node("a", gpus=1))
        assert book(ledger, 1, needs(1, 8)) == book(ledger, 2, needs(1, 8)) == (Slot("a", 0, 8 * GIBIBYTE),)
        with pytest.raises(ResourceExhausted):
            ledger.plan(servable(3), needs(1, 1), None)

    def test_given_replicas_take_the_least_loaded_devices(self) -> None:
        ledger = ledger_of(gpu_node("a"), gpu_node("b"))
        assert [slot.node_id + str(slot.gpu) for slot in book(ledger, 1, needs(), replicas=1)] == ["a0"]
        assert [slot.node_id + str(slot.gpu) for slot in book(ledger, 2, needs(), replicas=2)] == ["a1", "b0"]

    def test_more_replicas_than_gpus_do_not_fit(self) -> None:
        with pytest.raises(ResourceExhausted, match=r"a GPU, 3 times; 2 of 2"):
            ledger_of(gpu_node("a")).plan(servable(1), needs(), replicas=3)

    def test_an_exclusive_device_is_lent_to_nobody_else(self) -> None:
        ledger = ledger_of(gpu_node("a"))
        assert book(ledger, 1, needs(exclusive=True), replicas=1) == (Slot("a", 0),)
        assert book(ledger, 2, needs(), replicas=1) == (Slot("a", 1),)
        with pytest.raises(ResourceExhausted, match=r"a GPU for itself; 0 of 2 can be had"):
            ledger.plan(servable(3), needs(exclusive=True), replicas=1)

    def test_an_exclusive_device_comes_back_with_its_release(self) -> None:
        ledger = ledger_of(gpu_node("a", gpus=1))
        book(ledger, 1, needs(exclusive=True))
        ledger.release(servable(1))
        assert book(ledger, 2, needs(exclusive=True)) == (Slot("a", 0),)

    def test_a_device_of_unknown_size_has_no_limit(self) -> None:
        assert book(ledger_of(gpu_node("a", 1, gpu_memory_gib=None)), 1, needs(1, 100)) == (Slot("a", 0),)

    def test_a_replica_that_names_no_gpu_memory_has_no_limit(self) -> None:
        assert book(ledger_of(gpu_node("a", 1)), 1, needs(1, 0)) == (Slot("a", 0),)

    def test_memory_of_the_node_counts_too(self) -> None:
        with pytest.raises(ResourceExhausted):
            ledger_of(gpu_node("a", gpus=2, memory_gib=3)).plan(servable(1), needs(2), None)

    def test_a_version_bound_to_nodes_without_gpus_computes_on_cpus(self) -> None:
        ledger = ledger_of(gpu_node("a"), cpu_node("b", pool="cpu"))
        assert ledger.plan(servable(1), needs(), None, [("pool", "cpu")]) == (Slot("b"),)


class TestKeeping:
    def test_slots_that_are_still_right_stay(self) -> None:
        ledger = ledger_of(cpu_node("a", 8), cpu_node("b", 64), cpu_node("c", 64))
        slots = (Slot("a"), Slot("b"))
        ledger.reserve(servable(1), needs(5), slots)
        assert ledger.plan(servable(1), needs(5), 2, keep=slots) == slots

    def test_a_lost_slot_is_replaced_and_the_others_stay(self) -> None:
        ledger = ledger_of(cpu_node("a"), cpu_node("b"))
        slots = book(ledger, 1, needs(), replicas=2)
        ledger.set_nodes([cpu_node("b"), cpu_node("c")])
        assert ledger.plan(servable(1), needs(), 2, keep=slots) == (Slot("b"), Slot("c"))

    def test_a_new_gpu_is_added(self) -> None:
        ledger = ledger_of(gpu_node("a", gpus=1))
        slots = book(ledger, 1, needs())
        ledger.set_nodes([gpu_node("a", gpus=1), gpu_node("b", gpus=1)])
        assert ledger.plan(servable(1), needs(), None, keep=slots) == (Slot("a", 0), Slot("b", 0))

    def test_fewer_replicas_keep_the_first_slots(self) -> None:
        ledger = ledger_of(cpu_node("a"), cpu_node("b"))
        slots = book(ledger, 1, needs(), replicas=2)
        assert ledger.plan(servable(1), needs(), 1, keep=slots) == slots[:1]

    def test_a_replica_does_not_stay_on_cpus_once_there_are_gpus(self) -> None:
        ledger = ledger_of(cpu_node("a"))
        slots = book(ledger, 1, needs())
        ledger.set_nodes([gpu_node("a", gpus=1)])
        assert ledger.plan(servable(1), needs(), None, keep=slots) == (Slot("a", 0),)

    def test_a_slot_on_a_node_that_may_not_be_used_any_more_is_left(self) -> None:
        ledger = ledger_of(cpu_node("a"), cpu_node("b", pool="serving"))
        assert ledger.plan(servable(1), needs(), 1, [("pool", "serving")], keep=[Slot("a")]) == (Slot("b"),)


class TestWhenCapacityShrinks:
    def test_what_is_reserved_stays_and_nothing_new_fits(self) -> None:
        ledger = ledger_of(cpu_node("a", 8))
        book(ledger, 1, needs(6))
        ledger.set_nodes([cpu_node("a", 4)])
        ledger.validate()
        assert ledger.overcommitted() == ("a",)
        with pytest.raises(ResourceExhausted, match=r"the most free is -2\.0 GiB"):
            ledger.plan(servable(2), needs(1), None)
        ledger.release(servable(1))
        assert ledger.overcommitted() == ()
        book(ledger, 2, needs(1))

    def test_what_holds_more_than_is_left_may_be_booked_again(self) -> None:
        ledger = ledger_of(cpu_node("a", 8))
        slots = book(ledger, 1, needs(6))
        ledger.set_nodes([cpu_node("a", 4), cpu_node("b", 8)])
        ledger.reserve(servable(1), needs(6), (*slots, Slot("b")))
        ledger.validate()

    def test_a_node_that_left_is_overcommitted_until_its_versions_are_released(self) -> None:
        ledger = ledger_of(gpu_node("a", 1), gpu_node("b", 1))
        slots = book(ledger, 1, needs())
        ledger.set_nodes([gpu_node("b", 1)])
        assert ledger.overcommitted() == ("a",)
        assert ledger.existing(slots) == (Slot("b", 0),)
        ledger.release(servable(1))
        assert ledger.overcommitted() == ()

    def test_a_device_that_failed_is_not_there(self) -> None:
        ledger = ledger_of(gpu_node("a", 2))
        slots = book(ledger, 1, needs())
        assert ledger.set_nodes([gpu_node("a", 1)])
        assert ledger.existing(slots) == (Slot("a", 0),)
        assert ledger.overcommitted() == ("a",)

    def test_what_runs_is_adopted_whether_or_not_it_fits(self) -> None:
        ledger = ledger_of(cpu_node("a", 4))
        ledger.adopt(servable(1), needs(6), [Slot("a")])
        ledger.validate()
        assert ledger.overcommitted() == ("a",)

    def test_more_than_there_is_without_a_reason_is_a_bug(self) -> None:
        ledger = ledger_of(cpu_node("a", 4))
        ledger.reserve(servable(1), needs(6), [Slot("a")])
        with pytest.raises(AssertionError):
            ledger.validate()


class TestAccounts:
    def test_totals(self) -> None:
        ledger = ledger_of(gpu_node("a", 2), cpu_node("b"))
        book(ledger, 1, needs(1, 2, cpus=0.5))
        assert ledger.capacity() == Totals(12.0, 72 * GIBIBYTE, 2, 32 * GIBIBYTE)
        assert ledger.reserved() == Totals(1.0, 2 * GIBIBYTE, 2, 4 * GIBIBYTE)

    def test_reserving_again_replaces_the_reservation(self) -> None:
        ledger = ledger_of(cpu_node("a"), cpu_node("b"))
        ledger.reserve(servable(1), needs(2), [Slot("a")])
        ledger.reserve(servable(1), needs(1), [Slot("b")])
        assert ledger.holds(servable(1)) == (Slot("b"),)
        assert ledger.reserved().memory_bytes == GIBIBYTE

    def test_releasing_what_holds_nothing_says_so(self) -> None:
        ledger = ledger_of(cpu_node("a"))
        assert not ledger.release(servable(1))
        book(ledger, 1, needs())
        assert ledger.release(servable(1))

    def test_tells_whether_the_gpus_have_changed(self) -> None:
        ledger = ledger_of(gpu_node("a"))
        assert not ledger.set_nodes([gpu_node("a"), cpu_node("b")])
        assert ledger.set_nodes([cpu_node("b")])
        assert not ledger.has_gpus


@given(
    nodes=st.lists(st.tuples(st.integers(0, 8), st.integers(0, 3), st.sampled_from([None, 4, 8])), max_size=5),
    steps=st.lists(
        st.tuples(
            st.integers(0, 7),
            st.integers(0, 6),
            st.integers(0, 5),
            st.sampled_from([None, 1, 2, 3]),
            st.booleans(),
            st.booleans(),
        ),
        max_size=30,
    ),
)
def test_never_promises_more_than_there_is(
    nodes: list[tuple[int, int, int | None]], steps: list[tuple[int, int, int, int | None, bool, bool]]
) -> None:
    ledger = ledger_of(
        *(gpu_node(f"n{index}", gpus, gpu_memory, memory) for index, (memory, gpus, gpu_memory) in enumerate(nodes))
    )
    for number, memory_gib, gpu_memory_gib, replicas, exclusive, release in steps:
        resources = needs(memory_gib, gpu_memory_gib, exclusive=exclusive)
        if release:
            ledger.release(servable(number))
        elif not ledger.holds(servable(number)):
            may_fit = ledger.may_fit(resources)
            try:
                slots = book(ledger, number, resources, replicas)
            except ResourceExhausted:
                continue
            assert may_fit
            assert replicas is None or len(slots) == replicas
            assert len(set(slots)) == len(slots) or not ledger.has_gpus
        assert ledger.overcommitted() == ()
        ledger.validate()


def test_of_a_gpu_a_part_of_the_memory_may_be_lent() -> None:
    assert Gpu(1, 16 * GIBIBYTE).with_part_of_memory(0.25) == Gpu(1, 4 * GIBIBYTE)
    assert Gpu(1, None).with_part_of_memory(0.25) == Gpu(1, None)
    assert Gpu(1, 7).with_part_of_memory(1.0) == Gpu(1, 7)
