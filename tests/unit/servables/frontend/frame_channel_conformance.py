"""What every FrameChannel must do. A channel's tests subclass `FrameChannelConformance` and say how its replica is made."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from cluster.core.errors import Code, InvalidArgument, NotServing, ReplicaLost
from servables.call import Call, Reply
from servables.frontend.frame_channel import FrameChannel
from servables.servable import Array

PATIENCE_S = 30
HELD = 1000.0
"""A run whose `x` has a value from here on waits until `release`; one with a negative value fails."""
SIGNATURE = "serving_default"


def run(inputs: Mapping[str, Array]) -> dict[str, Array]:
    """What the served model computes once it may: `y = x / 2 + 2`."""
    x: Any = inputs["x"]
    return {"y": np.asarray(x / 2 + 2)}


def is_held(inputs: Mapping[str, Array]) -> bool:
    x: Any = inputs["x"]
    return bool((x >= HELD).any())


def failure(inputs: Mapping[str, Array]) -> BaseException | None:
    x: Any = inputs["x"]
    return InvalidArgument("x is negative") if (x < 0).any() else None


class ReplicaUnderTest(ABC):
    """One replica that serves `run`, `is_held` and `failure` on exactly two threads, without batching, and a channel to it."""

    channel: FrameChannel

    @abstractmethod
    async def wait_until_held(self) -> None:
        """Returns when one more run has begun that waits."""

    @abstractmethod
    async def release(self) -> None:
        """Lets go on all runs that wait, now or later."""

    @abstractmethod
    async def quiesce(self) -> None:
        """Closes the replica's gate."""


class Sent:
    """A frame under way, with the replies it has got."""

    def __init__(self, channel: FrameChannel, calls: Sequence[Call]) -> None:
        self.replies: dict[int, Reply] = {}
        self._arrived = asyncio.Event()
        self.task = asyncio.ensure_future(channel.send(calls, self._on_replies))

    async def reply(self, call_id: int) -> Reply:
        while call_id not in self.replies:
            self._arrived.clear()
            await asyncio.wait_for(self._arrived.wait(), PATIENCE_S)
        return self.replies[call_id]

    async def end(self) -> dict[int, Reply]:
        await asyncio.wait_for(self.task, PATIENCE_S)
        return self.replies

    def _on_replies(self, replies: Sequence[Reply]) -> None:
        for reply in replies:
            assert reply.call_id not in self.replies, "a call has one reply"
            self.replies[reply.call_id] = reply
        self._arrived.set()


def call(call_id: int, x: float, *, timeout_s: float | None = None) -> Call:
    return Call(call_id, SIGNATURE, {"x": np.array([x], np.float32)}, ("y",), timeout_s)


class FrameChannelConformance:
    """Subclasses define the fixture `replica`, a ReplicaUnderTest."""

    async def test_every_call_gets_its_own_reply(self, replica: ReplicaUnderTest) -> None:
        replies = await Sent(replica.channel, [call(number, number) for number in range(50)]).end()
        assert {number: reply.outputs["y"].tolist() for number, reply in replies.items()} == {
            number: [number / 2 + 2] for number in range(50)
        }

    async def test_replies_carry_the_outputs_that_were_asked_for(self, replica: ReplicaUnderTest) -> None:
        (reply,) = (await Sent(replica.channel, [call(1, 4)]).end()).values()
        assert reply.status.ok
        assert list(reply.outputs) == ["y"]
        assert reply.outputs["y"].dtype == np.float32

    async def test_a_slow_call_does_not_hold_the_replies_of_its_frame(self, replica: ReplicaUnderTest) -> None:
        sent = Sent(replica.channel, [call(1, HELD), call(2, 4)])
        assert (await sent.reply(2)).outputs["y"] == [4]
        assert 1 not in sent.replies
        assert not sent.task.done()
        await replica.release()
        assert (await sent.end())[1].status.ok

    async def test_several_frames_are_under_way_at_once(self, replica: ReplicaUnderTest) -> None:
        slow = Sent(replica.channel, [call(1, HELD)])
        await replica.wait_until_held()
        assert (await Sent(replica.channel, [call(2, 4)]).end())[2].outputs["y"] == [4]
        assert not slow.task.done()
        await replica.release()
        await slow.end()

    async def test_an_error_is_the_reply_of_the_call_that_made_it(self, replica: ReplicaUnderTest) -> None:
        replies = await Sent(replica.channel, [call(1, -1), call(2, 4)]).end()
        assert replies[1].status.code is Code.INVALID_ARGUMENT
        assert replies[1].status.message == "x is negative"
        assert replies[1].outputs == {}
        assert replies[2].status.ok

    async def test_a_call_whose_time_is_over_is_answered_without_being_run(self, replica: ReplicaUnderTest) -> None:
        busy = Sent(replica.channel, [call(1, HELD), call(2, HELD)])
        await replica.wait_until_held()
        await replica.wait_until_held()
        late = await Sent(replica.channel, [call(3, 4, timeout_s=0.01)]).end()
        assert late[3].status.code is Code.DEADLINE_EXCEEDED
        await replica.release()
        await busy.end()

    async def test_a_cancelled_call_that_has_not_begun_is_dropped_and_still_answered(self, replica: ReplicaUnderTest) -> None:
        busy = Sent(replica.channel, [call(1, HELD), call(2, HELD)])
        await replica.wait_until_held()
        await replica.wait_until_held()
        waiting = Sent(replica.channel, [call(3, 4), call(4, 4)])
        await asyncio.sleep(0)
        # Cancelling is best effort while the frame is still on its way, so it is said until it has been heard.
        while 3 not in waiting.replies:
            replica.channel.cancel([3])
            await asyncio.sleep(0.001)
        assert waiting.replies[3].status.code is Code.CANCELLED
        assert 4 not in waiting.replies
        await replica.release()
        await busy.end()
        assert (await waiting.end())[4].status.ok

    async def test_cancelling_what_is_unknown_or_answered_does_nothing(self, replica: ReplicaUnderTest) -> None:
        await Sent(replica.channel, [call(1, 4)]).end()
        replica.channel.cancel([1, 999])
        assert (await Sent(replica.channel, [call(2, 4)]).end())[2].status.ok

    async def test_a_closed_gate_refuses_frames_and_finishes_those_inside(self, replica: ReplicaUnderTest) -> None:
        inside = Sent(replica.channel, [call(1, HELD)])
        await replica.wait_until_held()
        await replica.quiesce()
        refused = Sent(replica.channel, [call(2, 4)])
        with pytest.raises(NotServing):
            await refused.end()
        assert refused.replies == {}
        await replica.release()
        assert (await inside.end())[1].status.ok

    async def test_closing_the_channel_ends_what_is_under_way(self, replica: ReplicaUnderTest) -> None:
        sent = Sent(replica.channel, [call(1, HELD)])
        await replica.wait_until_held()
        await replica.channel.close()
        with pytest.raises(ReplicaLost):
            await sent.end()
        await replica.release()
