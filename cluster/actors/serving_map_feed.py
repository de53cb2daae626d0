"""The serving map on its way from the manager to the frontends, and their acknowledgements on the way back."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace

from cluster.actors.notification import Notification
from cluster.core.acknowledgements import Acknowledgements, FrontendReport
from cluster.core.request_logging import RequestLogging
from cluster.core.servable_id import ServableId
from cluster.core.servable_state import ServableState
from cluster.core.serving_map import Epoch, ServableEntry, ServingMap

MAP_POLL_S = 3.0
"""How long a frontend's poll is held before it is answered with the map it has."""
FRONTEND_LEASE_S = 8.0
"""A frontend that has not polled for so long is gone: more than two polls, so that one lost reply does not count."""


class ServingMapFeed:
    """Publishes whole maps to long polls; lives on the manager actor's event loop.

    Every change makes a new epoch. Of a version with several copies the newest is routed to. `published` is False until the
    manager has adopted what runs and the controller has told the states: until then pollers wait, and frontends go on with the
    map they have.
    """

    def __init__(self) -> None:
        self._map = ServingMap(epoch=Epoch(uuid.uuid4().hex[:12], 1))
        self._copies: dict[ServableId, dict[int, ServableEntry]] = {}
        self._published = False
        self._acknowledgements = Acknowledgements(FRONTEND_LEASE_S)
        self._changed = Notification()

    @property
    def current(self) -> ServingMap:
        return self._map

    def publish_first(self) -> None:
        """The map is whole: from now on polls are answered."""
        self._published = True
        self._changed.notify()

    def add(self, entry: ServableEntry) -> Epoch:
        """Routes to a copy of a version, or changes where it is."""
        self._copies.setdefault(entry.id, {})[entry.copy] = entry
        return self._route(entry.id)

    def remove(self, servable: ServableId, copy: int = 0) -> Epoch:
        """Routes to this copy of the version no longer."""
        self._copies.get(servable, {}).pop(copy, None)
        return self._route(servable)

    def _route(self, servable: ServableId) -> Epoch:
        copies = self._copies.get(servable)
        if not copies:
            self._copies.pop(servable, None)
            if servable not in self._map.entries:
                return self._map.epoch
            return self._replace(entries={key: entry for key, entry in self._map.entries.items() if key != servable})
        newest = copies[max(copies)]
        if self._map.entries.get(servable) == newest:
            return self._map.epoch
        return self._replace(entries={**self._map.entries, servable: newest})

    def set_states(
        self,
        states: tuple[ServableState, ...],
        labels: Mapping[str, Mapping[str, int]],
        request_logging: Mapping[str, RequestLogging],
    ) -> Epoch:
        """What there is to be told of the models, beside where their versions are."""
        if (states, labels, request_logging) == (self._map.states, self._map.labels, self._map.request_logging):
            return self._map.epoch
        return self._replace(states=states, labels=labels, request_logging=request_logging)

    def set_accepting(self, accepting: bool) -> Epoch:
        return self._replace(accepting=accepting) if accepting != self._map.accepting else self._map.epoch

    def frontends(self) -> tuple[FrontendReport, ...]:
        """The frontends that live now."""
        return self._acknowledgements.live(self._now())

    def leave(self, frontend_id: str) -> None:
        self._acknowledgements.leave(frontend_id)
        self._changed.notify()

    async def watch(self, report: FrontendReport, seen: Epoch) -> ServingMap:
        """Takes a frontend's report; returns once there is another map than `seen`, or the same after MAP_POLL_S."""
        if self._acknowledgements.report(report, self._now()):
            self._changed.notify()
        while not self._published:
            await self._changed.wait_for(lambda: self._published, MAP_POLL_S)
            self._acknowledgements.touch(report.frontend_id, self._now())
        await self._changed.wait_for(lambda: self._map.epoch != seen, MAP_POLL_S)
        self._acknowledgements.touch(report.frontend_id, self._now())
        return self._map

    async def acknowledged(self, epoch: Epoch) -> None:
        """Returns once every live frontend routes by `epoch` or later; a frontend that is gone counts until its lease ends."""
        while not await self._changed.wait_for(lambda: not self._acknowledgements.missing(epoch, self._now()), 1.0):
            pass

    async def wait_for_frontends(self, condition: Callable[[tuple[FrontendReport, ...]], bool], timeout_s: float) -> bool:
        """Waits until the live frontends' reports satisfy `condition`."""
        deadline = self._now() + timeout_s
        while (left_s := deadline - self._now()) > 0:
            if await self._changed.wait_for(lambda: condition(self.frontends()), min(1.0, left_s)):
                return True
        return condition(self.frontends())

    def _replace(
        self,
        entries: Mapping[ServableId, ServableEntry] | None = None,
        states: tuple[ServableState, ...] | None = None,
        labels: Mapping[str, Mapping[str, int]] | None = None,
        request_logging: Mapping[str, RequestLogging] | None = None,
        accepting: bool | None = None,
    ) -> Epoch:
        self._map = replace(
            self._map,
            epoch=replace(self._map.epoch, number=self._map.epoch.number + 1),
            entries=self._map.entries if entries is None else entries,
            states=self._map.states if states is None else states,
            labels=self._map.labels if labels is None else labels,
            request_logging=self._map.request_logging if request_logging is None else request_logging,
            accepting=self._map.accepting if accepting is None else accepting,
        )
        self._changed.notify()
        return self._map.epoch

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
