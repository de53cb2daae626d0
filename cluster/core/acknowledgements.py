"""Which frontends have applied which serving map."""

from __future__ import annotations

from dataclasses import dataclass, field

from cluster.core.serving_map import Epoch


@dataclass(frozen=True, slots=True)
class FrontendReport:
    """A frontend's account of itself, sent with every poll for a map.

    `applied` is the last map it routes by; `accepting` whether its ports are open; `in_flight` the requests it holds.
    `error` is why it cannot serve at all (a port that somebody else has taken), empty if it can.
    """

    frontend_id: str
    node_id: str
    applied: Epoch = Epoch()
    accepting: bool = False
    in_flight: int = 0
    error: str = ""


@dataclass(slots=True)
class Acknowledgements:
    """The frontends that live, by lease: one that has not polled for `lease_s` is gone and is waited for no longer.

    Adding and removing versions is safe without it (the replica's gate refuses what comes late); it makes refusals rare.
    """

    lease_s: float
    _reports: dict[str, FrontendReport] = field(default_factory=dict)
    _seen_at: dict[str, float] = field(default_factory=dict)

    def report(self, report: FrontendReport, now: float) -> bool:
        """Takes a frontend's report; True when it says something new."""
        known = self._reports.get(report.frontend_id)
        self._reports[report.frontend_id] = report
        self._seen_at[report.frontend_id] = now
        return known != report

    def touch(self, frontend_id: str, now: float) -> None:
        """The frontend waits in a poll at this moment, so it lives."""
        if frontend_id in self._reports:
            self._seen_at[frontend_id] = now

    def leave(self, frontend_id: str) -> None:
        """The frontend has said goodbye."""
        self._reports.pop(frontend_id, None)
        self._seen_at.pop(frontend_id, None)

    def live(self, now: float) -> tuple[FrontendReport, ...]:
        """The last reports of the frontends whose lease runs; forgets the others."""
        for frontend_id in [name for name, at in self._seen_at.items() if now - at > self.lease_s]:
            self.leave(frontend_id)
        return tuple(self._reports.values())

    def missing(self, epoch: Epoch, now: float) -> tuple[str, ...]:
        """The live frontends that have not applied `epoch` or a later map of the same incarnation."""
        return tuple(
            report.frontend_id
            for report in self.live(now)
            if report.applied.incarnation != epoch.incarnation or report.applied.number < epoch.number
        )
