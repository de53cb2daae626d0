"""Where aspired versions come from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from cluster.core.aspired_version import AspiredVersion

AspiredVersionsCallback = Callable[[str, Sequence[AspiredVersion]], None]
"""Called with a stream's name and the FULL list of its aspired versions; omitting a version asks to unload it."""


class Source(ABC):
    """Decides which versions of its streams should be served (TF Serving: `core/source.h`).

    A `SourceActor` owns a source and calls `poll` for each stream on a schedule of its own, from a thread, never twice at a
    time for one stream. A source must say nothing about a stream that it cannot see: a poll that fails raises, and what is
    served stays.
    """

    @abstractmethod
    def streams(self) -> Sequence[str]:
        """The names of the streams, in the order of the config."""

    @abstractmethod
    def poll(self, stream: str, now: float) -> Sequence[AspiredVersion] | None:
        """Looks at one stream: the full list of its aspired versions, or None when the list is not to be touched.

        May block on storage. `now` is a monotonic time in seconds. Raises AspiredError when the stream cannot be read; the
        message is shown to operators.
        """

    def due(self, stream: str, polled: float) -> float | None:
        """When a poll of the stream says something new although nothing changes, if later than `polled`; None: never.

        Asked for after each poll, with its `now`: what waits for nothing but time need not wait for the next poll as well.
        """
        return None

    def waiting(self, stream: str) -> Sequence[str]:
        """What keeps versions of the stream from being aspired as they are, a line for each. Asked for after each poll."""
        return ()
