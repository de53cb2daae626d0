"""The source actor: polls each stream of a source on a schedule of its own."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from cluster.actors.actor_link import ActorLink
from cluster.core.aspired_version import AspiredVersion
from cluster.core.errors import AspiredError
from cluster.core.events import VersionsAspired
from cluster.core.source import Source

RESEND_INTERVAL_S = 10.0
"""How often an unchanged list is said again, for a controller that has forgotten it."""
FIRST_LIST_INTERVAL_S = 1.0
"""How often a stream that is to be read once is looked at until it has a list."""
MAX_POLL_THREADS = 256

logger = logging.getLogger(__name__)


class SourceActor:
    """Async Ray actor, detached, restarted without limit, one per source.

    Each stream has its own task, so a stream whose storage hangs or fails delays no other. `poll_interval_s` 0: each stream
    is read until it has been seen once; negative: never read.
    """

    async def __init__(  # type: ignore[misc]  # Ray awaits it on the actor's event loop
        self, source: Source, controller: ActorLink, poll_interval_s: float
    ) -> None:
        self._source = source
        self._controller = controller
        self._poll_interval_s = poll_interval_s
        streams = source.streams()
        self._threads = ThreadPoolExecutor(max(1, min(MAX_POLL_THREADS, len(streams))), thread_name_prefix="poll")
        if poll_interval_s >= 0:
            self._tasks = [asyncio.create_task(self._follow(stream)) for stream in streams]

    async def streams(self) -> Sequence[str]:
        """The names of the streams that this source emits."""
        return self._source.streams()

    async def _follow(self, stream: str) -> None:
        """Polls one stream; tells the controller on change, and now and then without."""
        told: Sequence[AspiredVersion] | None = None
        told_at = -RESEND_INTERVAL_S
        error_told = ""
        while True:
            if told is None or self._poll_interval_s > 0:
                versions, error = await self._poll(stream)
            else:
                versions, error = told, ""
            now = time.monotonic()
            due = error != error_told or now - told_at >= RESEND_INTERVAL_S
            if versions is not None and (versions != told or due):
                await self._controller.call("handle", VersionsAspired(stream, tuple(versions)))
                told, told_at = versions, now
            elif versions is None and due:
                if error != error_told:
                    logger.warning("stream %s: %s", stream, error or "readable again")
                await self._controller.call("report_source", stream, error)
                told_at = now
            error_told = error
            if self._poll_interval_s > 0 or told is None:
                await asyncio.sleep(self._poll_interval_s or FIRST_LIST_INTERVAL_S)
            else:
                await asyncio.sleep(RESEND_INTERVAL_S)

    async def _poll(self, stream: str) -> tuple[Sequence[AspiredVersion] | None, str]:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, self._source.poll, stream, time.monotonic()), ""
        except AspiredError as error:
            return None, error.message
        except Exception as error:  # a bug in one stream's poll must not end the stream
            logger.exception("polling stream %s failed", stream)
            return None, f"{type(error).__name__}: {error}"
