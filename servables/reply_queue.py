"""Brings the replies of many threads to one event loop, many at a wake-up."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence

from servables.call import Reply
from servables.runner import OnReply

logger = logging.getLogger(__name__)


class ReplyQueue:
    """Posted from any thread, delivered on the event loop; never within `post`, so nobody is called back in their own call."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._replies: deque[tuple[OnReply, Reply]] = deque()
        self._woken = False

    def post(self, replies: Sequence[tuple[OnReply, Reply]]) -> None:
        self._replies.extend(replies)
        if replies and not self._woken:
            self._woken = True
            self._loop.call_soon_threadsafe(self.deliver)

    def deliver(self) -> None:
        """Calls back for everything posted so far; on the event loop only."""
        # Cleared before the count is taken: what is posted after the count has a wake-up of its own.
        self._woken = False
        for _ in range(len(self._replies)):
            on_reply, reply = self._replies.popleft()
            try:
                on_reply(reply)
            except Exception:
                logger.exception("a reply could not be delivered")
