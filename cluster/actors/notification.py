"""Waiting for a condition on state that one event loop owns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Notification:
    """Wakes all who wait whenever the state they look at may have changed. For one event loop."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()

    def notify(self) -> None:
        """The state has changed: everybody looks again."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait_for(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Waits until `condition` holds; False when it still does not after `timeout_s`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while not condition():
            left_s = deadline - loop.time()
            if left_s <= 0:
                return False
            try:
                async with asyncio.timeout(left_s):  # unlike wait_for in Python 3.11, it never swallows a cancellation
                    await self._changed.wait()
            except TimeoutError:
                return condition()
        return True
