"""A channel whose replica is the test."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np

from cluster.core.errors import AspiredError, ReplicaLost, Status
from cluster.core.serving_map import ServableEntry
from servables.call import Call, Reply
from servables.frontend.frame_channel import FrameChannel, OnReplies
from servables.profile import ProfileOptions

OK = Status()


class GatedFrame:
    """A frame that the router has sent; the test answers its calls one by one, or ends it."""

    def __init__(self, calls: Sequence[Call], on_replies: OnReplies) -> None:
        self.calls = list(calls)
        self._on_replies = on_replies
        self._unanswered = {call.call_id for call in calls}
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def reply(self, *calls: Call, status: Status = OK) -> None:
        """Answers the calls, all of the frame's if none is named, each with its own inputs as outputs."""
        answered = calls or tuple(self.calls)
        self._on_replies([Reply(call.call_id, call.inputs if status.ok else {}, status) for call in answered])
        self._unanswered -= {call.call_id for call in answered}
        if not self._unanswered:
            self.over.set_result(None)

    def end(self, error: AspiredError | None = None) -> None:
        """Ends the frame, with the replies it has got until now."""
        if error is None:
            self.over.set_result(None)
        else:
            self.over.set_exception(error)


class GatedChannel(FrameChannel):
    """Keeps the frames it is given until the test answers them. `trace` is what a profile gives."""

    def __init__(self, entry: ServableEntry) -> None:
        self.entry = entry
        self.frames: list[GatedFrame] = []
        self.cancelled: list[int] = []
        self.closed = False
        self.trace: bytes | AspiredError = b""
        self.profiles: list[ProfileOptions] = []
        self._arrived = asyncio.Event()

    async def send(self, calls: Sequence[Call], on_replies: OnReplies) -> None:
        frame = GatedFrame(calls, on_replies)
        self.frames.append(frame)
        self._arrived.set()
        await frame.over

    async def frame(self, number: int) -> GatedFrame:
        """The frame sent as number `number`, counted from 0, as soon as it is sent."""
        while len(self.frames) <= number:
            self._arrived.clear()
            await asyncio.wait_for(self._arrived.wait(), 30)
        return self.frames[number]

    def cancel(self, call_ids: Sequence[int]) -> None:
        self.cancelled.extend(call_ids)

    async def profile(self, options: ProfileOptions) -> bytes:
        self.profiles.append(options)
        if isinstance(self.trace, AspiredError):
            raise self.trace
        return self.trace

    def update(self, entry: ServableEntry) -> None:
        self.entry = entry

    async def close(self) -> None:
        self.closed = True
        for frame in self.frames:
            if not frame.over.done():
                frame.end(ReplicaLost("closed"))


def values_of(frame: GatedFrame) -> list[float]:
    """The first input value of each call in the frame: what tests tell calls apart by."""
    return [float(np.ravel(next(iter(call.inputs.values())))[0].item()) for call in frame.calls]
