"""What passes between the client's decisions and its transports.

A conversation is a generator: it yields what is to be done (`Send` or `Sleep`), is sent the `Outcome`, and returns
the call's result or raises an AspiredError. It reads no socket and waits for nothing, so the same conversations serve
the blocking and the asyncio client, and a test can play the server.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from cluster.core.errors import AspiredError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class WireRequest:
    """One request, encoded. `path` is the URL path or the full name of the gRPC method; `verb` is empty on gRPC."""

    verb: str
    path: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one step ended: with the body of a successful reply, or with an error.

    `sent` is False only when no server can have seen the request.
    """

    body: bytes = b""
    error: AspiredError | None = None
    sent: bool = True


@dataclass(frozen=True, slots=True)
class Send:
    """Send the request to the target with this index; None waits for the reply without limit."""

    target: int
    request: WireRequest
    timeout_s: float | None


@dataclass(frozen=True, slots=True)
class Sleep:
    delay_s: float


Step: TypeAlias = Send | Sleep
Conversation: TypeAlias = Generator[Step, Outcome, T]


def run(conversation: Conversation[T], perform: Callable[[Step], Outcome]) -> T:
    """Plays a conversation to its end, each step in the calling thread."""
    try:
        step = next(conversation)
        while True:
            step = conversation.send(perform(step))
    except StopIteration as stop:
        result: T = stop.value
        return result


async def run_async(conversation: Conversation[T], perform: Callable[[Step], Awaitable[Outcome]]) -> T:
    """Plays a conversation to its end, each step awaited."""
    try:
        step = next(conversation)
        while True:
            step = conversation.send(await perform(step))
    except StopIteration as stop:
        result: T = stop.value
        return result
