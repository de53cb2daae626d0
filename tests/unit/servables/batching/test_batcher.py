from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest

from cluster.config.batching_parameters import BatchingParameters
from cluster.core.errors import Code, InvalidArgument, Status
from servables.batching.batcher import Batcher
from servables.call import Call, Reply
from servables.runner import Submission
from servables.servable import Array
from tests.fakes.fake_servable import FakeServable, Gate

EXPIRED = Status(Code.RESOURCE_EXHAUSTED, "Run() timeout exceeded while waiting in batching queue")
HOLD = -1.0
"""A value that holds a run at the servable's gate."""


def holds(inputs: Mapping[str, Array]) -> bool:
    return bool((inputs["x"] == HOLD).any())


def fails_on_negatives(inputs: Mapping[str, Array]) -> BaseException | None:
    x: Any = inputs["x"]
    bad = x[x < HOLD]
    return InvalidArgument(f"bad value {bad[0]:g}") if bad.size else None


def call(*values: float, timeout_s: float | None = None, signature: str = "serving_default") -> Call:
    return Call(int(values[0]) if values else 0, signature, {"x": np.array(values, np.float32)}, ("y",), timeout_s)


@asynccontextmanager
async def batching(servable: FakeServable, gate: Gate | None = None, **parameters: object) -> AsyncIterator[Batcher]:
    batcher = Batcher(servable, BatchingParameters.model_validate({"num_batch_threads": 1, **parameters}))
    try:
        yield batcher
    finally:
        if gate is not None:
            gate.open()
        await batcher.close()


def submit(batcher: Batcher, call: Call) -> tuple[asyncio.Future[Reply], Submission]:
    answered: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
    return answered, batcher.submit(call, answered.set_result)


def ask(batcher: Batcher, *calls: Call) -> asyncio.Future[list[Reply]]:
    return asyncio.gather(*(submit(batcher, call)[0] for call in calls))


def hold(batcher: Batcher, gate: Gate) -> asyncio.Future[Reply]:
    """Occupies the batcher's only thread until the gate opens."""
    answered, _ = submit(batcher, call(HOLD))
    gate.wait_until_reached()
    return answered


def values(reply: Reply) -> list[float]:
    assert reply.status.ok, reply.status
    return [float(value) for value in reply.outputs["y"]]


async def test_calls_that_wait_run_as_one_batch_and_get_their_own_rows() -> None:
    gate = Gate()
    servable = FakeServable(gate=gate, held=holds)
    async with batching(servable, gate) as batcher:
        held = hold(batcher, gate)
        replies = ask(batcher, call(2, 4), call(6), call(8, 10, 12))
        gate.open()

        assert [values(reply) for reply in await replies] == [[3, 4], [5], [6, 7, 8]]
        assert values(await held) == [1.5]
        assert servable.runs == [1, 6]


async def test_a_call_alone_leaves_at_once() -> None:
    async with batching(FakeServable()) as batcher:
        assert [values(reply) for reply in await ask(batcher, call(2))] == [[3]]


async def test_a_batch_is_filled_up_to_an_allowed_size() -> None:
    gate = Gate()
    servable = FakeServable(gate=gate, held=holds)
    async with batching(servable, gate, max_batch_size=8, allowed_batch_sizes=(1, 4, 8)) as batcher:
        hold(batcher, gate)
        replies = ask(batcher, call(2), call(4), call(6))
        gate.open()

        assert [values(reply) for reply in await replies] == [[3], [4], [5]]
        assert servable.runs == [1, 4]


async def test_inputs_of_unequal_lengths_are_padded_together() -> None:
    gate = Gate()
    servable = FakeServable(gate=gate, held=holds)
    async with batching(servable, gate, pad_variable_length_inputs=True) as batcher:
        blocked = Call(0, "serving_default", {"x": np.full((1, 1), HOLD)}, ("y",))
        submit(batcher, blocked)
        gate.wait_until_reached()
        short = Call(1, "serving_default", {"x": np.array([[2.0]])}, ("y",))
        long = Call(2, "serving_default", {"x": np.array([[4.0, 6.0]])}, ("y",))
        replies = ask(batcher, short, long)
        gate.open()

        assert [reply.outputs["y"].tolist() for reply in await replies] == [[[3, 3]], [[4, 5]]]


async def test_a_large_call_is_split_and_its_outputs_joined() -> None:
    servable = FakeServable()
    parameters: dict[str, Any] = {"max_batch_size": 10, "enable_large_batch_splitting": True, "max_execution_batch_size": 2}
    async with batching(servable, **parameters) as batcher:
        assert [values(reply) for reply in await ask(batcher, call(2, 4, 6, 8, 10))] == [[3, 4, 5, 6, 7]]
        assert servable.runs == [2, 2, 1]


async def test_a_split_call_fails_as_a_whole_when_one_slice_fails() -> None:
    servable = FakeServable(fails=fails_on_negatives)
    parameters: dict[str, Any] = {"max_batch_size": 10, "enable_large_batch_splitting": True, "max_execution_batch_size": 2}
    async with batching(servable, **parameters) as batcher:
        bad, good = await ask(batcher, call(2, -5, 6, 8, 10), call(12))

        assert bad.status == Status(Code.INVALID_ARGUMENT, "bad value -5")
        assert values(good) == [8]


async def test_outputs_of_a_split_call_that_do_not_fit_together_are_an_error() -> None:
    def as_wide_as_its_first_value(inputs: Mapping[str, Array]) -> dict[str, Array]:
        return {"y": np.zeros((len(inputs["x"]), int(inputs["x"][0])))}

    parameters: dict[str, Any] = {"max_batch_size": 10, "enable_large_batch_splitting": True, "max_execution_batch_size": 1}
    async with batching(FakeServable(as_wide_as_its_first_value), **parameters) as batcher:
        (reply,) = await ask(batcher, call(1, 2))

        assert reply.status.code is Code.FAILED_PRECONDITION


async def test_an_open_batch_waits_until_it_is_full() -> None:
    servable = FakeServable()
    async with batching(servable, max_batch_size=3, batch_timeout_micros=3_600_000_000) as batcher:
        assert [values(reply) for reply in await ask(batcher, call(2), call(4), call(6))] == [[3], [4], [5]]
        assert servable.runs == [3]


async def test_an_open_batch_runs_when_its_timeout_is_over() -> None:
    servable = FakeServable()
    async with batching(servable, max_batch_size=100, batch_timeout_micros=2_000, num_batch_threads=3) as batcher:
        for _ in range(5):
            replies = await ask(batcher, call(2), call(4))
            assert [values(reply) for reply in replies] == [[3], [4]]
            (alone,) = await ask(batcher, call(6))
            assert values(alone) == [5]


async def test_two_open_batches_both_get_their_timeout() -> None:
    async with batching(FakeServable(), batch_timeout_micros=1_000, num_batch_threads=2) as batcher:
        wide = Call(1, "serving_default", {"x": np.ones((1, 2))}, ("y",))
        narrow, other = await ask(batcher, call(2), wide)

        assert narrow.status.ok
        assert other.outputs["y"].tolist() == [[2.5, 2.5]]


async def test_slow_batch_does_not_hold_up_others_while_a_thread_is_free() -> None:
    gate = Gate()
    async with batching(FakeServable(gate=gate, held=holds), gate, num_batch_threads=2) as batcher:
        held = hold(batcher, gate)

        assert [values(reply) for reply in await ask(batcher, call(2))] == [[3]]
        assert not held.done()


async def test_no_more_batches_run_at_once_than_there_are_threads() -> None:
    gate = Gate()
    servable = FakeServable(gate=gate)
    async with batching(servable, gate, max_batch_size=1, num_batch_threads=2) as batcher:
        replies = ask(batcher, call(2), call(4), call(6))
        gate.wait_until_reached(2)

        assert (batcher.running, batcher.waiting, len(servable.runs)) == (2, 1, 2)
        gate.open()
        assert [values(reply) for reply in await replies] == [[3], [4], [5]]
        assert (batcher.running, batcher.waiting) == (0, 0)


# -- errors


async def test_a_bad_call_does_not_fail_its_neighbours() -> None:
    gate = Gate()
    servable = FakeServable(gate=gate, held=holds, fails=fails_on_negatives)
    async with batching(servable, gate) as batcher:
        hold(batcher, gate)
        replies = ask(batcher, call(2), call(-5, 4), call(6), call(-7), call(8))
        gate.open()
        first, bad, second, worse, third = await replies

        assert [values(reply) for reply in (first, second, third)] == [[3], [5], [6]]
        assert bad.status == Status(Code.INVALID_ARGUMENT, "bad value -5")
        assert worse.status == Status(Code.INVALID_ARGUMENT, "bad value -7")


async def test_one_bad_call_among_many_costs_few_runs() -> None:
    gate = Gate()
    servable = FakeServable(gate=gate, held=holds, fails=fails_on_negatives)
    async with batching(servable, gate) as batcher:
        hold(batcher, gate)
        replies = ask(batcher, call(-5), *(call(2 * n) for n in range(63)))
        gate.open()
        bad, *good = await replies

        assert bad.status.code is Code.INVALID_ARGUMENT
        assert [values(reply) for reply in good] == [[n + 2] for n in range(63)]
        assert servable.runs == [1, 64, 32, 16, 8, 4, 2, 1, 1, 2, 4, 8, 16, 32]


async def test_nothing_runs_twice_when_the_servable_keeps_state() -> None:
    gate = Gate()
    servable = FakeServable(gate=gate, held=holds, fails=fails_on_negatives, deterministic=False)
    async with batching(servable, gate) as batcher:
        hold(batcher, gate)
        replies = ask(batcher, call(2), call(-5))
        gate.open()

        assert [reply.status for reply in await replies] == [Status(Code.INVALID_ARGUMENT, "bad value -5")] * 2
        assert servable.runs == [1, 2]


async def test_a_model_that_does_not_keep_the_rows_apart_is_told_so() -> None:
    servable = FakeServable(lambda inputs: {"y": np.asarray(inputs["x"].sum(keepdims=True))})
    async with batching(servable, max_batch_size=2, batch_timeout_micros=3_600_000_000) as batcher:
        (reply,) = await ask(batcher, call(2, 4))

        assert reply.status == Status(
            Code.FAILED_PRECONDITION,
            "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the input tensors",
        )


@pytest.mark.parametrize("error", [ValueError("odd"), SystemExit("odd")])
async def test_an_unexpected_exception_is_an_internal_error_and_logged(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    async with batching(FakeServable(fails=lambda _: error)) as batcher:
        for _ in range(2):
            (reply,) = await ask(batcher, call(2))
            assert reply.status == Status(Code.INTERNAL, f"{type(error).__name__}: odd")

    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 2
    assert all(record.exc_info and record.exc_info[1] is error for record in caplog.records)


@pytest.mark.parametrize(
    ("bad", "status"),
    [
        (call(2, signature="other"), Status(Code.FAILED_PRECONDITION, 'Serving signature key "other" not found.')),
        (call(1, 2, 3), Status(Code.INVALID_ARGUMENT, "Task size 3 is larger than maximum input batch size 2")),
        (call(2, timeout_s=0.0), EXPIRED),
    ],
)
async def test_a_call_that_cannot_run_is_answered_after_submit(bad: Call, status: Status) -> None:
    async with batching(FakeServable(), max_batch_size=2) as batcher:
        answered, _ = submit(batcher, bad)

        assert not answered.done()
        assert (await answered).status == status


async def test_a_full_queue_refuses_calls() -> None:
    gate = Gate()
    async with batching(FakeServable(gate=gate, held=holds), gate, max_batch_size=1, max_enqueued_batches=1) as batcher:
        hold(batcher, gate)
        queued, _ = submit(batcher, call(2))
        (refused,) = await ask(batcher, call(4))

        assert refused.status.code is Code.UNAVAILABLE
        gate.open()
        assert values(await queued) == [3]


# -- deadlines and cancelling


async def test_a_call_that_expires_in_the_queue_is_answered_while_all_threads_are_busy() -> None:
    gate = Gate()
    servable = FakeServable(gate=gate, held=holds)
    async with batching(servable, gate) as batcher:
        held = hold(batcher, gate)
        patient = ask(batcher, call(2))
        (first,) = await ask(batcher, call(4, timeout_s=0.01))
        (second,) = await ask(batcher, call(6, timeout_s=0.01))

        assert [first.status, second.status] == [EXPIRED] * 2
        assert not held.done()
        gate.open()
        assert [values(reply) for reply in await patient] == [[3]]
        assert servable.runs == [1, 1]


async def test_a_batch_has_the_deadline_of_its_most_patient_call() -> None:
    gate = Gate()
    servable = FakeServable(gate=gate, held=holds)
    async with batching(servable, gate) as batcher:
        hold(batcher, gate)
        replies = ask(batcher, call(2, timeout_s=500), call(4, timeout_s=1000))
        gate.open()
        await replies

        timeout_s = servable.timeouts_s[1]
        assert timeout_s is not None
        assert 500 < timeout_s <= 1000


async def test_a_batch_with_a_call_that_waits_for_ever_has_no_deadline() -> None:
    gate = Gate()
    servable = FakeServable(gate=gate, held=holds)
    async with batching(servable, gate) as batcher:
        hold(batcher, gate)
        replies = ask(batcher, call(2, timeout_s=500), call(4))
        gate.open()
        await replies

        assert servable.timeouts_s[1] is None


async def test_a_cancelled_call_is_dropped_and_answered() -> None:
    gate = Gate()
    servable = FakeServable(gate=gate, held=holds)
    async with batching(servable, gate) as batcher:
        hold(batcher, gate)
        cancelled, submission = submit(batcher, call(2))
        kept = ask(batcher, call(4))
        submission.cancel()
        submission.cancel()

        assert not cancelled.done()
        assert (await cancelled).status.code is Code.CANCELLED
        gate.open()
        assert [values(reply) for reply in await kept] == [[4]]
        assert servable.runs == [1, 1]


async def test_cancelling_a_call_that_runs_lets_it_end() -> None:
    gate = Gate()
    async with batching(FakeServable(gate=gate), gate) as batcher:
        answered, submission = submit(batcher, call(2))
        gate.wait_until_reached()
        submission.cancel()
        gate.open()

        assert values(await answered) == [3]


async def test_cancelling_a_split_call_that_runs_drops_the_rest() -> None:
    gate = Gate()
    servable = FakeServable(gate=gate)
    parameters: dict[str, Any] = {"max_batch_size": 10, "enable_large_batch_splitting": True, "max_execution_batch_size": 2}
    async with batching(servable, gate, **parameters) as batcher:
        answered, submission = submit(batcher, call(2, 4, 6, 8))
        gate.wait_until_reached()
        submission.cancel()

        assert (await answered).status.code is Code.CANCELLED
        gate.open()
    assert servable.runs == [2]


# -- closing


async def test_closing_ends_what_runs_fails_what_waits_and_ends_the_threads() -> None:
    gate = Gate()
    batcher = Batcher(
        FakeServable(gate=gate, held=holds), BatchingParameters(num_batch_threads=2, thread_pool_name="closing_threads")
    )
    running = [hold(batcher, gate), hold(batcher, gate)]
    waiting, _ = submit(batcher, call(2))
    closing = asyncio.ensure_future(batcher.close())

    assert (await waiting).status.code is Code.UNAVAILABLE
    assert not closing.done()
    gate.open()
    await closing
    assert [values(reply) for reply in await asyncio.gather(*running)] == [[1.5], [1.5]]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("closing_threads")]

    (late,) = await ask(batcher, call(2))
    assert late.status.code is Code.UNAVAILABLE
    await batcher.close()


async def test_replies_are_delivered_before_close_returns() -> None:
    batcher = Batcher(FakeServable(), BatchingParameters(batch_timeout_micros=3_600_000_000))
    answered, _ = submit(batcher, call(2))
    await batcher.close()

    assert answered.done()
    assert answered.result().status.code is Code.UNAVAILABLE


async def test_a_callback_that_fails_costs_no_other_call_its_reply(caplog: pytest.LogCaptureFixture) -> None:
    gate = Gate()
    failing: Callable[[Reply], None] = [].index  # type: ignore[assignment]  # raises ValueError, whatever the reply
    async with batching(FakeServable(gate=gate, held=holds), gate) as batcher:
        hold(batcher, gate)
        batcher.submit(call(2), failing)
        replies = ask(batcher, call(4))
        gate.open()

        assert [values(reply) for reply in await replies] == [[4]]
    assert "could not be delivered" in caplog.text
