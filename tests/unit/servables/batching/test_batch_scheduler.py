from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from cluster.config.batching_parameters import BatchingParameters
from cluster.core.errors import InvalidArgument, Unavailable
from servables.batching.batch_scheduler import Batch, BatchScheduler, Task
from servables.call import Call
from servables.servable import Array


def scheduler(**parameters: object) -> BatchScheduler[Task]:
    return BatchScheduler(BatchingParameters.model_validate(parameters))


def task(
    rows: int = 1,
    *,
    deadline: float = math.inf,
    signature: str = "serving_default",
    outputs: tuple[str, ...] = ("y",),
    inner: tuple[int, ...] = (),
    dtype: type = np.float32,
    name: str = "x",
) -> Task:
    inputs: dict[str, Array] = {name: np.zeros((rows, *inner), dtype)}
    return Task(Call(0, signature, inputs, outputs), deadline)


def add(scheduler: BatchScheduler[Task], *tasks: Task, now: float = 0.0) -> None:
    for each in tasks:
        scheduler.add(each, now)


def tasks_of(batch: Batch[Task] | None) -> Sequence[Task]:
    assert batch is not None
    return [piece.task for piece in batch.slices]


def rows_of(batch: Batch[Task] | None) -> list[int]:
    assert batch is not None
    return [piece.rows for piece in batch.slices]


def drained(scheduler: BatchScheduler[Task], now: float = 0.0) -> list[Sequence[Task]]:
    batches = []
    while (batch := scheduler.next_batch(now)) is not None:
        batches.append(tasks_of(batch))
    return batches


# -- when a batch is handed out


def test_nothing_is_handed_out_when_nothing_waits() -> None:
    idle = scheduler()
    assert idle.next_batch(0.0) is None
    assert idle.ready_at() == math.inf


def test_without_a_timeout_an_open_batch_is_handed_out_at_once() -> None:
    busy = scheduler()
    first, second = task(), task(2)
    add(busy, first, second)

    assert busy.ready_at() <= 0.0
    assert drained(busy) == [[first, second]]


def test_an_open_batch_waits_for_the_timeout_since_its_first_task() -> None:
    waiting = scheduler(batch_timeout_micros=1_000_000)
    first, second = task(), task()
    add(waiting, first, now=10.0)
    add(waiting, second, now=10.9)

    assert waiting.next_batch(10.99) is None
    assert waiting.ready_at() == 11.0
    assert tasks_of(waiting.next_batch(11.0)) == [first, second]


def test_a_batch_that_is_due_takes_more_until_it_is_handed_out() -> None:
    due = scheduler(batch_timeout_micros=1_000_000)
    first, late = task(), task()
    add(due, first, now=0.0)
    add(due, late, now=5.0)

    assert tasks_of(due.next_batch(5.0)) == [first, late]


def test_a_full_batch_does_not_wait_for_its_timeout() -> None:
    full = scheduler(max_batch_size=3, batch_timeout_micros=1_000_000)
    first, second = task(1), task(2)
    add(full, first, second)

    assert full.ready_at() == -math.inf
    assert tasks_of(full.next_batch(0.0)) == [first, second]


def test_a_task_that_does_not_fit_closes_the_batch_and_opens_the_next() -> None:
    closing = scheduler(max_batch_size=3, batch_timeout_micros=1_000_000)
    first, second = task(2), task(2)
    add(closing, first, now=0.0)
    add(closing, second, now=0.5)

    assert tasks_of(closing.next_batch(0.5)) == [first]
    assert closing.next_batch(1.4) is None
    assert tasks_of(closing.next_batch(1.5)) == [second]


def test_tasks_keep_their_order() -> None:
    ordered = scheduler(max_batch_size=2)
    tasks = [task() for _ in range(5)]
    add(ordered, *tasks)

    assert drained(ordered) == [tasks[0:2], tasks[2:4], tasks[4:5]]


# -- what goes together


@pytest.mark.parametrize(
    "other",
    [
        task(signature="other"),
        task(outputs=("z",)),
        task(outputs=("y", "z")),
        task(inner=(2,)),
        task(dtype=np.float64),
        task(name="other"),
    ],
)
def test_tasks_that_do_not_fit_together_are_batched_apart(other: Task) -> None:
    apart = scheduler()
    one = task()
    add(apart, one, other)

    assert drained(apart) == [[one], [other]]


def test_the_order_of_outputs_does_not_matter() -> None:
    together = scheduler()
    one, other = task(outputs=("y", "z")), task(outputs=("z", "y"))
    add(together, one, other)

    assert drained(together) == [[one, other]]


def test_with_padding_only_the_rank_must_be_equal() -> None:
    padding = scheduler(pad_variable_length_inputs=True)
    short, long, square = task(inner=(2,)), task(inner=(5,)), task(inner=(2, 2))
    add(padding, short, long, square)

    assert drained(padding) == [[short, long], [square]]


def test_with_padding_empty_tensors_are_batched_apart() -> None:
    padding = scheduler(pad_variable_length_inputs=True)
    empty, full, empty_too = task(inner=(0,)), task(inner=(5,)), task(inner=(0,))
    add(padding, empty, full, empty_too)

    assert drained(padding) == [[empty, empty_too], [full]]


def test_with_padding_ranks_above_6_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="Only tensors with rank from 1 to 6 can be padded"):
        add(scheduler(pad_variable_length_inputs=True), task(inner=(1,) * 6))


def test_queues_take_turns() -> None:
    turns = scheduler(max_batch_size=1)
    a = [task(signature="a") for _ in range(3)]
    b = [task(signature="b") for _ in range(2)]
    add(turns, *a, *b)

    assert drained(turns) == [[a[0]], [b[0]], [a[1]], [b[1]], [a[2]]]


def test_a_queue_with_an_open_batch_holds_up_no_other() -> None:
    two = scheduler(max_batch_size=2, batch_timeout_micros=1_000_000)
    lonely, pair = task(signature="a"), [task(signature="b"), task(signature="b")]
    add(two, lonely, *pair)

    assert drained(two) == [pair]
    assert drained(two, now=1.0) == [[lonely]]


# -- what is refused


def test_inputs_that_have_no_common_rows_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="must have at least one input tensor"):
        scheduler().add(Task(Call(0, "serving_default", {}, ("y",))), 0.0)


def test_a_task_larger_than_a_batch_is_refused() -> None:
    small = scheduler(max_batch_size=3)
    with pytest.raises(InvalidArgument) as raised:
        add(small, task(4))

    assert raised.value.message == "Task size 4 is larger than maximum input batch size 3"
    assert small.waiting == 0


def test_a_full_queue_refuses_a_task_that_would_need_another_batch() -> None:
    full = scheduler(max_batch_size=2, max_enqueued_batches=2)
    accepted = [task(2), task(1)]
    add(full, *accepted)
    with pytest.raises(Unavailable) as raised:
        add(full, task(2))
    last = task(1)
    add(full, last)

    assert raised.value.message == (
        "The batch scheduling queue to which this task was submitted is full; "
        "currently 2 batches enqueued and max_enqueued_batches is 2"
    )
    assert drained(full) == [[accepted[0]], [accepted[1], last]]


def test_a_full_queue_leaves_other_queues_alone() -> None:
    full = scheduler(max_batch_size=1, max_enqueued_batches=1)
    add(full, task(signature="a"), task(signature="b"))
    with pytest.raises(Unavailable):
        add(full, task(signature="a"))

    assert full.waiting == 2


def test_handing_out_makes_room() -> None:
    full = scheduler(max_batch_size=1, max_enqueued_batches=1)
    add(full, task())
    assert full.next_batch(0.0) is not None
    add(full, task())

    assert full.waiting == 1


def test_tasks_without_rows_fill_the_queue_too() -> None:
    full = scheduler(max_batch_size=2, max_enqueued_batches=1)
    add(full, task(0), task(0))
    with pytest.raises(Unavailable):
        add(full, task(0))


# -- large batch splitting


def test_a_large_task_is_split_over_batches() -> None:
    splitting = scheduler(max_batch_size=10, enable_large_batch_splitting=True, max_execution_batch_size=4)
    small, large = task(1), task(9)
    add(splitting, small, large)

    first, second, third = (splitting.next_batch(0.0) for _ in range(3))
    assert [rows_of(batch) for batch in (first, second, third)] == [[1, 3], [4], [2]]
    assert tasks_of(second) == [large]
    assert [piece.start for piece in large.slices] == [0, 3, 7]
    assert [len(piece.inputs["x"]) for piece in large.slices] == [3, 4, 2]


def test_a_large_task_does_not_start_in_a_full_batch() -> None:
    splitting = scheduler(max_batch_size=10, enable_large_batch_splitting=True, max_execution_batch_size=2)
    add(splitting, task(2), task(3))

    assert [rows_of(splitting.next_batch(0.0)) for _ in range(3)] == [[2], [2], [1]]


def test_a_small_task_after_a_full_batch_is_not_split() -> None:
    splitting = scheduler(max_batch_size=10, enable_large_batch_splitting=True, max_execution_batch_size=3)
    add(splitting, task(3), task(1))

    assert [rows_of(splitting.next_batch(0.0)) for _ in range(2)] == [[3], [1]]


def test_a_split_task_waits_until_its_last_slice_is_handed_out() -> None:
    splitting = scheduler(max_batch_size=10, enable_large_batch_splitting=True, max_execution_batch_size=2)
    large = task(3)
    add(splitting, large)

    splitting.next_batch(0.0)
    assert (large.waiting, splitting.waiting) == (True, 1)
    splitting.next_batch(0.0)
    assert (large.waiting, splitting.waiting) == (False, 0)


def test_with_splitting_a_full_queue_tells_its_capacity() -> None:
    full = scheduler(max_batch_size=10, enable_large_batch_splitting=True, max_execution_batch_size=2, max_enqueued_batches=2)
    add(full, task(3))
    with pytest.raises(Unavailable) as raised:
        add(full, task(2))

    assert raised.value.message == (
        "The batch scheduling queue to which this task was submitted is full; task size is 2 but scheduling capacity is only 1 "
        "(num_enqueued_batches=2, max_enqueued_batches=2, open_batch_size=1, max_execution_batch_size=2)"
    )


def test_with_splitting_an_empty_queue_has_room_for_all_its_batches() -> None:
    full = scheduler(max_batch_size=10, enable_large_batch_splitting=True, max_execution_batch_size=2, max_enqueued_batches=2)
    with pytest.raises(Unavailable, match=r"capacity is only 4 .num_enqueued_batches=1, .* open_batch_size=0"):
        add(full, task(5))
    add(full, task(4))

    assert full.waiting == 1


# -- cancelling and expiring


def test_a_cancelled_task_is_not_handed_out() -> None:
    cancelling = scheduler()
    first, second = task(), task()
    add(cancelling, first, second)

    assert cancelling.cancel(first)
    assert not cancelling.cancel(first)
    assert drained(cancelling) == [[second]]


def test_a_task_that_was_handed_out_cannot_be_cancelled() -> None:
    cancelling = scheduler()
    only = task()
    add(cancelling, only)
    cancelling.next_batch(0.0)

    assert not cancelling.cancel(only)


def test_a_queue_whose_tasks_are_all_cancelled_is_forgotten() -> None:
    cancelling = scheduler(max_batch_size=1, max_enqueued_batches=2)
    tasks = [task(), task()]
    add(cancelling, *tasks)
    for each in tasks:
        cancelling.cancel(each)

    assert cancelling.next_batch(0.0) is None
    assert (cancelling.waiting, cancelling.ready_at()) == (0, math.inf)
    add(cancelling, task(), task())


def test_cancelling_makes_room() -> None:
    cancelling = scheduler(max_batch_size=2, max_enqueued_batches=1, batch_timeout_micros=1_000_000)
    first, second, third = task(), task(), task()
    add(cancelling, first, second)
    cancelling.cancel(first)
    add(cancelling, third)

    assert drained(cancelling) == [[second, third]]


def test_cancelling_the_closed_batch_leaves_the_open_one_to_its_timeout() -> None:
    cancelling = scheduler(max_batch_size=2, batch_timeout_micros=1_000_000)
    closed, opened = task(2), task(1)
    add(cancelling, closed, opened)
    cancelling.cancel(closed)

    assert cancelling.next_batch(0.5) is None
    assert drained(cancelling, now=1.0) == [[opened]]


def test_cancelling_a_split_task_takes_out_what_still_waits() -> None:
    splitting = scheduler(max_batch_size=10, enable_large_batch_splitting=True, max_execution_batch_size=2)
    large, after = task(5), task(1)
    add(splitting, large, after)
    assert rows_of(splitting.next_batch(0.0)) == [2]

    assert splitting.cancel(large)
    assert drained(splitting) == [[after]]


def test_an_expired_task_is_taken_out_and_returned() -> None:
    expiring = scheduler(batch_timeout_micros=10_000_000)
    short, long, endless = task(deadline=1.0), task(deadline=2.0), task()
    add(expiring, long, short, endless)

    assert expiring.next_deadline() == 1.0
    assert expiring.expire(0.99) == []
    assert expiring.expire(1.0) == [short]
    assert expiring.next_deadline() == 2.0
    assert drained(expiring, now=10.0) == [[long, endless]]


def test_a_task_that_was_handed_out_does_not_expire() -> None:
    expiring = scheduler()
    add(expiring, task(deadline=1.0))
    expiring.next_batch(0.0)

    assert expiring.next_deadline() == math.inf
    assert expiring.expire(2.0) == []


def test_draining_returns_everything_that_waits_once() -> None:
    draining = scheduler(max_batch_size=10, enable_large_batch_splitting=True, max_execution_batch_size=2)
    large, other = task(5), task(signature="other")
    add(draining, large, other)

    assert set(draining.drain()) == {large, other}
    assert (draining.waiting, draining.next_batch(1e9)) == (0, None)
