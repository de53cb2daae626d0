"""Frames to a runner in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from cluster.core.errors import NotServing, ReplicaLost
from cluster.core.serving_map import ServableEntry
from servables.call import Call, Reply
from servables.frame import decode_calls, decode_replies, encode_calls, encode_replies, join
from servables.frontend.frame_channel import FrameChannel, OnReplies
from servables.runner import Runner, Submission


class LocalChannel(FrameChannel):
    """A version whose replica is in the frontend's own process: for tests, and for serving without a cluster.

    The runner stays its owner's; close it after the channel. With `encoded`, calls and replies take the form that they have
    between processes, and are read back from it.
    """

    def __init__(self, runner: Runner, *, encoded: bool = False) -> None:
        self._runner = runner
        self._encoded = encoded
        self._gate_closed = False
        self._frames: set[asyncio.Future[None]] = set()
        self._submissions: dict[int, Submission] = {}

    async def send(self, calls: Sequence[Call], on_replies: OnReplies) -> None:
        if self._gate_closed:
            raise NotServing("The version takes no new work.")
        if self._encoded:
            calls = decode_calls(join(encode_calls(calls)))
        answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        unanswered = len(calls)

        def on_reply(reply: Reply) -> None:
            nonlocal unanswered
            if answered.done():
                return
            self._submissions.pop(reply.call_id, None)
            on_replies(decode_replies(join(encode_replies((reply,)))) if self._encoded else (reply,))
            unanswered -= 1
            if not unanswered:
                answered.set_result(None)

        self._frames.add(answered)
        try:
            for call in calls:
                self._submissions[call.call_id] = self._runner.submit(call, on_reply)
            await answered
        finally:
            self._frames.discard(answered)
            for call in calls:
                submission = self._submissions.pop(call.call_id, None)
                if submission is not None:
                    submission.cancel()

    def cancel(self, call_ids: Sequence[int]) -> None:
        for call_id in call_ids:
            submission = self._submissions.get(call_id)
            if submission is not None:
                submission.cancel()

    def update(self, entry: ServableEntry) -> None:
        """The runner stays where it is, whatever the endpoints say."""

    def quiesce(self) -> None:
        """Closes the gate, as a replica does that is to be unloaded: what is under way finishes, frames to come are refused."""
        self._gate_closed = True

    async def close(self) -> None:
        self._gate_closed = True
        for answered in self._frames:
            if not answered.done():
                answered.set_exception(ReplicaLost("The channel was closed while the request was under way."))
