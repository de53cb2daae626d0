"""Requests that come together leave together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

MAX_HOLD_S = 0.001
QUIET_TURNS = 8


class Arrivals:
    """Lets frames wait for requests that are about to join them.

    REST's requests of one moment are read in one turn of the event loop. gRPC's come some turns after each other: clients send
    each as its answer comes, and grpc.aio hears of a request, reads it turns later, and only then hears of the next. So each
    would find the last one gone and travel alone; a frame costs more than what is in it. So `announce` is said when grpc.aio
    hears of a request, `arrive` just before a request of either listener is handed over, and `leave` when it is answered. While
    several are in flight a frame waits until all that was announced has arrived and nothing more has come for `QUIET_TURNS`
    turns of the loop. A lone request waits for nobody.

    What is announced may never come: frames wait for `max_hold_s` at most, and no longer for what has kept them so long.
    """

    def __init__(self, max_hold_s: float = MAX_HOLD_S) -> None:
        self.in_flight = 0
        """Requests that have arrived and not left."""
        self._max_hold_s = max_hold_s
        self._expected = 0
        self._held: list[Callable[[], None]] = []
        self._quiet_turns = 0
        self._counting = False
        self._timer: asyncio.TimerHandle | None = None

    def announce(self) -> None:
        self._expected += 1

    def arrive(self) -> None:
        self.in_flight += 1
        if self._expected:
            self._expected -= 1
        self._quiet_turns = 0
        if self._held:
            self._count_turns()

    def leave(self) -> None:
        self.in_flight -= 1

    def hold(self, depart: Callable[[], None]) -> bool:
        """Whether a frame is to wait. If so, `depart` is called once when it need wait no more."""
        if self.in_flight < 2 and not self._expected:
            return False
        self._held.append(depart)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._max_hold_s, self._give_up)
        self._count_turns()
        return True

    def _count_turns(self) -> None:
        if not self._expected and not self._counting:
            self._counting = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._counting = False
        self._quiet_turns += 1
        if self._quiet_turns < QUIET_TURNS:
            self._count_turns()
        elif not self._expected:
            self._release()

    def _give_up(self) -> None:
        self._expected = 0
        self._release()

    def _release(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        held, self._held = self._held, []
        self._quiet_turns = 0
        for depart in held:
            depart()
