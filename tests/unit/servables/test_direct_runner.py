from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest

from cluster.core.errors import Code, InvalidArgument, Status
from servables.call import Call, Reply
from servables.direct_runner import SLICE_S, DirectRunner
from servables.runner import Submission
from servables.servable import Array
from servables.short_runs import SHORT_S, TRIALS
from tests.fakes.fake_servable import FakeServable, Gate

HOLD = -1.0
"""A value that holds a run at the servable's gate."""


def holds(inputs: Mapping[str, Array]) -> bool:
    return bool((inputs["x"] == HOLD).any())


def fails_on_negatives(inputs: Mapping[str, Array]) -> BaseException | None:
    x: Any = inputs["x"]
    return InvalidArgument("negative") if (x < HOLD).any() else None


def call(value: float, timeout_s: float | None = None, signature: str = "serving_default") -> Call:
    return Call(int(value), signature, {"x": np.array([value], np.float32)}, ("y",), timeout_s)


@asynccontextmanager
async def running(servable: FakeServable, gate: Gate | None = None, num_threads: int = 1) -> AsyncIterator[DirectRunner]:
    runner = DirectRunner(servable, num_threads)
    try:
        yield runner
    finally:
        if gate is not None:
            gate.open()
        await runner.close()


def submit(runner: DirectRunner, call: Call) -> tuple[asyncio.Future[Reply], Submission]:
    answered: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
    return answered, runner.submit(call, answered.set_result)


def ask(runner: DirectRunner, *calls: Call) -> asyncio.Future[list[Reply]]:
    return asyncio.gather(*(submit(runner, call)[0] for call in calls))


def hold(runner: DirectRunner, gate: Gate) -> asyncio.Future[Reply]:
    answered, _ = submit(runner, call(HOLD))
    gate.wait_until_reached()
    return answered


def value(reply: Reply) -> float:
    assert reply.status.ok, reply.status
    return float(reply.outputs["y"][0])


async def test_each_call_is_run_by_itself() -> None:
    servable = FakeServable(fails=fails_on_negatives)
    async with running(servable, num_threads=4) as runner:
        *good, bad = await ask(runner, *(call(2 * n) for n in range(32)), call(-5))

        assert [value(reply) for reply in good] == [n + 2 for n in range(32)]
        assert bad == Reply(-5, status=Status(Code.INVALID_ARGUMENT, "negative"))
        assert servable.runs == [1] * 33


async def test_any_shape_runs_even_a_scalar() -> None:
    servable = FakeServable(lambda inputs: {"y": inputs["x"]}, held=lambda _: False)
    servable_inputs: dict[str, Array] = {"x": np.zeros((0, 3)), "scalar": np.array(1.0)}
    async with running(servable) as runner:
        (reply,) = await ask(runner, Call(1, "serving_default", servable_inputs, ("y",)))

        assert reply.outputs["y"].shape == (0, 3)


async def test_slow_calls_hold_up_no_other_while_a_thread_is_free() -> None:
    gate = Gate()
    async with running(FakeServable(gate=gate, held=holds), gate, num_threads=3) as runner:
        slow = ask(runner, call(HOLD), call(HOLD), *(call(2) for _ in range(20)))
        gate.wait_until_reached(2)
        replies = await ask(runner, *(call(2 * n) for n in range(20)))

        assert [value(reply) for reply in replies] == [n + 2 for n in range(20)]
        gate.open()
        assert [value(reply) for reply in await slow] == [1.5] * 2 + [3] * 20


async def test_calls_beyond_the_threads_wait_in_order() -> None:
    gate = Gate()
    order: list[float] = []

    def record(inputs: Mapping[str, Array]) -> dict[str, Array]:
        order.append(float(inputs["x"][0]))
        return {"y": inputs["x"]}

    async with running(FakeServable(record, gate=gate, held=holds), gate) as runner:
        hold(runner, gate)
        replies = ask(runner, *(call(n) for n in range(5)))

        assert (runner.running, runner.waiting) == (1, 5)
        gate.open()
        await replies
        assert order == [HOLD, 0, 1, 2, 3, 4]


async def test_a_call_that_expires_while_it_waits_is_answered_and_not_run() -> None:
    gate = Gate()
    servable = FakeServable(gate=gate, held=holds)
    async with running(servable, gate) as runner:
        held = hold(runner, gate)
        for _ in range(2):
            (expired,) = await ask(runner, call(2, timeout_s=0.01))
            assert expired.status.code is Code.DEADLINE_EXCEEDED
        gate.open()
        assert value(await held) == 1.5
        assert servable.runs == [1]


@pytest.mark.parametrize(
    ("bad", "status"),
    [
        (call(2, signature="other"), Status(Code.FAILED_PRECONDITION, 'Serving signature key "other" not found.')),
        (call(2, timeout_s=0.0), Status(Code.DEADLINE_EXCEEDED, "The deadline passed before the call could run")),
    ],
)
async def test_a_call_that_cannot_run_is_answered_after_submit(bad: Call, status: Status) -> None:
    servable = FakeServable()
    async with running(servable) as runner:
        answered, submission = submit(runner, bad)

        assert not answered.done()
        assert (await answered).status == status
        submission.cancel()
        assert servable.runs == []


async def test_a_run_gets_the_time_that_is_left() -> None:
    servable = FakeServable()
    async with running(servable) as runner:
        await ask(runner, call(2, timeout_s=1000))
        await ask(runner, call(2))

        first, second = servable.timeouts_s
        assert first is not None
        assert 0 < first <= 1000
        assert second is None


async def test_a_cancelled_call_is_dropped_and_answered() -> None:
    gate = Gate()
    servable = FakeServable(gate=gate, held=holds)
    async with running(servable, gate) as runner:
        hold(runner, gate)
        cancelled, submission = submit(runner, call(2))
        kept = ask(runner, call(4))
        submission.cancel()
        submission.cancel()

        assert not cancelled.done()
        assert (await cancelled).status.code is Code.CANCELLED
        gate.open()
        assert [value(reply) for reply in await kept] == [4]
        assert servable.runs == [1, 1]


async def test_cancelling_a_call_that_runs_lets_it_end() -> None:
    gate = Gate()
    async with running(FakeServable(gate=gate), gate) as runner:
        answered, submission = submit(runner, call(2))
        gate.wait_until_reached()
        submission.cancel()
        gate.open()

        assert value(await answered) == 3


@pytest.mark.parametrize("error", [ValueError("odd"), SystemExit("odd")])
async def test_an_unexpected_exception_is_an_internal_error_and_logged(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(FakeServable(fails=lambda _: error)) as runner:
        for _ in range(2):
            (reply,) = await ask(runner, call(2))
            assert reply.status == Status(Code.INTERNAL, f"{type(error).__name__}: odd")

    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 2
    assert all(record.exc_info and record.exc_info[1] is error for record in caplog.records)


async def test_closing_ends_what_runs_fails_what_waits_and_ends_the_threads() -> None:
    gate = Gate()
    before = set(threading.enumerate())
    runner = DirectRunner(FakeServable(gate=gate, held=holds), 2)
    held = [hold(runner, gate), hold(runner, gate)]
    waiting = ask(runner, call(2), call(4, timeout_s=1000))
    assert set(threading.enumerate()) > before
    closing = asyncio.ensure_future(runner.close())

    assert [reply.status.code for reply in await waiting] == [Code.UNAVAILABLE] * 2
    assert not closing.done()
    gate.open()
    await closing
    assert [value(reply) for reply in await asyncio.gather(*held)] == [1.5, 1.5]
    assert set(threading.enumerate()) <= before

    (late,) = await ask(runner, call(2))
    assert late.status.code is Code.UNAVAILABLE
    await runner.close()


async def test_closing_an_idle_runner_returns() -> None:
    await DirectRunner(FakeServable(), 2).close()


async def test_calls_that_have_turned_out_to_be_short_run_where_they_are_and_are_answered_later() -> None:
    ran_in: list[int] = []

    def record(inputs: Mapping[str, Array]) -> dict[str, Array]:
        ran_in.append(threading.get_ident())
        return {"y": inputs["x"]}

    async with running(FakeServable(record, held=lambda _: False)) as runner:
        while threading.get_ident() not in ran_in:
            await ask(runner, call(1))
        answered, _ = submit(runner, call(7))
        assert not answered.done()

        assert value(await answered) == 7


@asynccontextmanager
async def running_short_calls() -> AsyncIterator[DirectRunner]:
    """A runner that has learnt that calls take half as long as is short."""

    def take_a_while(inputs: Mapping[str, Array]) -> dict[str, Array]:
        until = time.perf_counter() + SHORT_S / 2
        while time.perf_counter() < until:
            pass
        return {"y": inputs["x"]}

    async with running(FakeServable(take_a_while, held=lambda _: False)) as runner:
        for _ in range(4):
            await ask(runner, *(call(n) for n in range(TRIALS)))
        yield runner


async def test_short_calls_run_in_slices_between_which_the_loop_sees_to_other_things() -> None:
    async with running_short_calls() as runner:
        replies = ask(runner, *(call(n) for n in range(int(20 * SLICE_S / SHORT_S))))
        waiting = [runner.waiting]
        while not replies.done():
            await asyncio.sleep(0)
            waiting.append(runner.waiting)

        assert [value(reply) for reply in await replies] == list(range(int(20 * SLICE_S / SHORT_S)))
        assert len({count for count in waiting if count}) > 2


@pytest.mark.parametrize("end", ["cancel", "expire", "close"])
async def test_short_calls_that_wait_for_the_next_slice_can_be_ended(end: str) -> None:
    async with running_short_calls() as runner:
        timeout_s = SLICE_S if end == "expire" else None
        submitted = [submit(runner, call(n, timeout_s)) for n in range(int(20 * SLICE_S / SHORT_S))]
        answered, submission = submitted[-1]
        if end == "cancel":
            submission.cancel()
        elif end == "close":
            await runner.close()

        code = {"cancel": Code.CANCELLED, "expire": Code.DEADLINE_EXCEEDED, "close": Code.UNAVAILABLE}[end]
        assert (await answered).status.code is code
        assert (await submitted[0][0]).status.ok
