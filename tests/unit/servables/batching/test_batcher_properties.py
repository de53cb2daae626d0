"""Whatever is batched with whatever: every call gets exactly the answer, or the error, that it would get alone."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.config.batching_parameters import BatchingParameters
from cluster.core.errors import Code, InvalidArgument
from servables.batching.batcher import Batcher
from servables.call import Call, Reply
from servables.runner import Submission
from servables.servable import Array
from servables.signatures import PREDICT_METHOD_NAME, Signature
from tests.fakes.fake_servable import FakeServable, Gate

SIGNATURES = {name: Signature(PREDICT_METHOD_NAME, {}, {}) for name in ("a", "b")}
DTYPES = (np.dtype(np.float64), np.dtype(np.int64), np.dtype(object))
TINY_S = 1e-9
"""Time enough to be queued, never to be run."""


@dataclass(frozen=True)
class Asked:
    """One call of a scenario. Every element of its input is unlike any other call's, so that mixed up rows show."""

    rows: int
    inner: tuple[int, ...]
    dtype: np.dtype[np.generic]
    signature: str
    outputs: tuple[str, ...]
    bad_rows: frozenset[int]
    timeout_s: float | None
    cancelled: bool

    def call(self, call_id: int) -> Call:
        numbers = np.arange(self.rows * int(np.prod(self.inner)), dtype=np.int64).reshape(self.rows, *self.inner)
        numbers = 2 * (numbers + 1000 * (call_id + 1))
        # An odd number stands for a row that cannot be computed.
        for row in self.bad_rows:
            if row < self.rows:
                numbers[row] += 1
        x: Array = numbers.astype(self.dtype)
        if self.dtype == object:
            x = np.frompyfunc(lambda number: b"%d" % number, 1, 1)(numbers)
            x = np.asarray(x, dtype=object).reshape(numbers.shape)
        return Call(call_id, self.signature, {"x": x}, self.outputs, self.timeout_s)


def numbers_of(x: Array) -> list[int]:
    return [int(value) for value in x.reshape(-1)]


def fails_on_odd_numbers(inputs: Mapping[str, Array]) -> BaseException | None:
    bad = [number for number in numbers_of(inputs["x"]) if number % 2]
    return InvalidArgument(f"bad {bad[0]}") if bad else None


def compute(inputs: Mapping[str, Array]) -> dict[str, Array]:
    x: Any = inputs["x"]
    return {"same": x, "twice": np.asarray(x + x)}


kinds = st.fixed_dictionaries(
    {
        "inner": st.sampled_from([(), (2,), (3,)]),
        "dtype": st.sampled_from(DTYPES),
        "signature": st.sampled_from(sorted(SIGNATURES)),
        "outputs": st.sampled_from([("same",), ("twice",), ("same", "twice"), ("twice", "same")]),
    }
)
timeouts_s = st.sampled_from([None, None, 3600.0, 0.0, TINY_S])
cancelled = st.sampled_from([False, False, False, True])


@st.composite
def asked_calls(
    draw: st.DrawFn, timeouts_s: st.SearchStrategy[float | None] = timeouts_s, cancelled: st.SearchStrategy[bool] = cancelled
) -> list[Asked]:
    """Calls of a few kinds only, so that some of them fit together."""
    asked = st.builds(
        lambda kind, **others: Asked(**kind, **others),
        kind=st.sampled_from(draw(st.lists(kinds, min_size=1, max_size=3))),
        rows=st.integers(0, 6),
        bad_rows=st.one_of(st.just(frozenset[int]()), st.frozensets(st.integers(0, 5), max_size=2)),
        timeout_s=timeouts_s,
        cancelled=cancelled,
    )
    return draw(st.lists(asked, max_size=24))


@st.composite
def batching_parameters(draw: st.DrawFn) -> BatchingParameters:
    max_batch_size = draw(st.integers(4, 12))
    allowed = draw(st.sampled_from([(), (2, max_batch_size), (1, 3, max_batch_size)]))
    return BatchingParameters(
        max_batch_size=max_batch_size,
        max_enqueued_batches=draw(st.sampled_from([1, 3, 1000])),
        num_batch_threads=draw(st.integers(1, 3)),
        batch_timeout_micros=draw(st.sampled_from([0, 200])),
        allowed_batch_sizes=allowed,
        enable_large_batch_splitting=draw(st.booleans()),
        max_execution_batch_size=draw(st.integers(2, 4)),
    )


async def outcomes(batcher: Batcher, gate: Gate, asked: list[Asked], warm_ups: int) -> dict[int, list[Reply]]:
    """Submits the calls while the threads are held, cancels some, opens the gate and waits for every reply."""
    replies: dict[int, list[Reply]] = {call_id: [] for call_id in range(len(asked))}
    all_answered = asyncio.Event()

    def on_reply(reply: Reply) -> None:
        replies[reply.call_id].append(reply)
        if all(replies.values()):
            all_answered.set()

    submissions: list[Submission] = []
    for call_id, each in enumerate(asked):
        submissions.append(batcher.submit(each.call(call_id), on_reply))
        if call_id == warm_ups:
            gate.open()
    for submission, each in zip(submissions, asked, strict=True):
        if each.cancelled:
            submission.cancel()
    gate.open()
    if asked:
        await all_answered.wait()
    await batcher.close()
    return replies


def check(asked: Asked, call: Call, reply: Reply, parameters: BatchingParameters, deterministic: bool) -> None:
    code = reply.status.code
    numbers = numbers_of(call.inputs["x"])
    if asked.rows > parameters.max_batch_size and asked.timeout_s != 0.0:
        assert code is Code.INVALID_ARGUMENT
        assert "larger than maximum" in reply.status.message
    elif code is Code.OK:
        assert asked.timeout_s != 0.0
        assert not any(number % 2 for number in numbers)
        expected = compute(call.inputs)
        assert set(reply.outputs) == set(asked.outputs)
        for alias, array in reply.outputs.items():
            assert array.dtype == expected[alias].dtype
            assert array.shape == expected[alias].shape
            assert array.tolist() == expected[alias].tolist()
    elif code is Code.INVALID_ARGUMENT:
        bad = int(reply.status.message.removeprefix("bad "))
        assert bad in numbers or not deterministic
    elif code is Code.CANCELLED:
        assert asked.cancelled
    elif code in (Code.RESOURCE_EXHAUSTED, Code.DEADLINE_EXCEEDED):
        assert asked.timeout_s in (0.0, TINY_S)
    else:
        assert code is Code.UNAVAILABLE
        assert "queue to which this task was submitted is full" in reply.status.message
        assert parameters.max_enqueued_batches < 1000


@settings(max_examples=200, deadline=None)
@given(
    asked=asked_calls(),
    parameters=batching_parameters(),
    deterministic=st.booleans(),
    warm_ups=st.integers(0, 24),
)
def test_every_call_gets_its_own_outcome(
    asked: list[Asked], parameters: BatchingParameters, deterministic: bool, warm_ups: int
) -> None:
    gate = Gate()
    seen: Counter[int] = Counter()

    def fails(inputs: Mapping[str, Array]) -> BaseException | None:
        # Filled up rows are copies in the same run, hence the set.
        seen.update(set(numbers_of(inputs["x"])))
        return fails_on_odd_numbers(inputs)

    servable = FakeServable(compute, signatures=SIGNATURES, deterministic=deterministic, gate=gate, fails=fails)

    async def scenario() -> dict[int, list[Reply]]:
        return await outcomes(Batcher(servable, parameters), gate, asked, warm_ups)

    replies = asyncio.run(scenario())

    assert all(len(each) == 1 for each in replies.values())
    for call_id, each in enumerate(asked):
        check(each, each.call(call_id), replies[call_id][0], parameters, deterministic)
    if not deterministic:
        assert all(times == 1 for times in seen.values())


@settings(max_examples=50, deadline=None)
@given(asked=asked_calls(timeouts_s=st.sampled_from([None, 3600.0]), cancelled=st.just(False)))
def test_nothing_but_its_own_rows_fails_a_call_that_the_queue_takes(asked: list[Asked]) -> None:
    gate = Gate()
    servable = FakeServable(compute, signatures=SIGNATURES, gate=gate, fails=fails_on_odd_numbers)

    async def scenario() -> dict[int, list[Reply]]:
        return await outcomes(Batcher(servable, BatchingParameters(num_batch_threads=2)), gate, asked, len(asked))

    for call_id, replies in asyncio.run(scenario()).items():
        alone = fails_on_odd_numbers(asked[call_id].call(call_id).inputs)
        assert [reply.status.message for reply in replies] == ["" if alone is None else str(alone)]
