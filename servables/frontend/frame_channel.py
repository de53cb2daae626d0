"""How a frontend's frames reach the replicas of one version."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from cluster.core.errors import Unimplemented
from cluster.core.serving_map import ServableEntry
from servables.call import Call, Reply
from servables.profile import ProfileOptions

OnReplies = Callable[[Sequence[Reply]], None]


class FrameChannel(ABC):
    """Carries frames (lists of calls) to one version's replicas. One per version and frontend, used on one event loop.

    A frame is transport only: its calls are answered one by one, in any order, as each is done. Any number of frames may be
    under way; how many are sent before more calls collect is decided by `ServableRouter`.
    """

    @abstractmethod
    async def send(self, calls: Sequence[Call], on_replies: OnReplies) -> None:
        """Delivers the calls to one replica; `on_replies` is called on the event loop until each call has its reply.

        Returns when every call has been answered. Raises, for those that have not:
        NotServing when none of them has run or will run (the gate is closed, or they never arrived), so they may go elsewhere;
        ReplicaLost when they may have run.
        """

    @abstractmethod
    def cancel(self, call_ids: Sequence[int]) -> None:
        """Tells the replica that nobody waits for these calls; they are dropped if they have not begun. Best effort."""

    async def profile(self, options: ProfileOptions) -> bytes:
        """Lets one replica record itself (`Servable.profile`) and returns the trace. Raises its error, or as `send` does."""
        raise Unimplemented("Replicas behind this channel cannot be profiled.")

    @abstractmethod
    def update(self, entry: ServableEntry) -> None:
        """The version's endpoints have changed."""

    @abstractmethod
    async def close(self) -> None:
        """Releases the channel. Frames under way end in ReplicaLost."""


FrameChannelFactory = Callable[[ServableEntry], FrameChannel]
