"""What the manager knows of its version replicas: their reports, their slots, and what it wants of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from cluster.actors.notification import Notification
from cluster.core.replica_report import ReplicaDirective, ReplicaPhase, ReplicaReport
from cluster.core.resources import Slot
from cluster.core.slot_claims import Claim, SlotClaims

DIRECTIVE_POLL_S = 20.0
"""How long a replica's poll is held before it is answered with nothing new."""


@dataclass(slots=True)
class _Application:
    claims: SlotClaims = field(default_factory=SlotClaims)
    reports: dict[str, ReplicaReport] = field(default_factory=dict)
    directive: ReplicaDirective = field(default_factory=ReplicaDirective)
    established: bool = False


class ReplicaBoard:
    """Where replicas report and loaders wait; lives on the manager actor's event loop.

    A replica keeps one long poll (`watch`) open. It carries the replica's whole report, so a manager that has restarted knows
    every replica again as soon as Ray has repeated the polls that were cut off.
    """

    def __init__(self) -> None:
        self._applications: dict[str, _Application] = {}
        self._changed = Notification()

    def assign(self, application: str, slots: Sequence[Slot]) -> None:
        """The application is to have one replica in each slot."""
        self._application(application).claims.assign(slots)

    def slots(self, application: str) -> tuple[Slot, ...]:
        return self._application(application).claims.slots

    def direct(self, application: str, directive: ReplicaDirective) -> None:
        """Tells all replicas of the application, those of now and those to come."""
        self._application(application).directive = directive
        self._changed.notify()

    def forget(self, application: str) -> None:
        """The application is gone."""
        self._applications.pop(application, None)
        self._changed.notify()

    def applications(self) -> tuple[str, ...]:
        return tuple(self._applications)

    def reports(self, application: str) -> tuple[ReplicaReport, ...]:
        """The last report of each replica that holds a slot."""
        held = self._applications.get(application)
        if held is None:
            return ()
        holders = held.claims.holders()
        return tuple(report for replica_id, report in held.reports.items() if replica_id in holders)

    def established(self, application: str) -> bool:
        """Whether its replicas say that it has been available; a manager that has restarted knows it from them."""
        held = self._applications.get(application)
        return held is not None and held.established

    def claim_slot(
        self, application: str, replica_id: str, node_id: str, pid: int, dead: Collection[int]
    ) -> Slot | tuple[int, ...] | None:
        """See `SlotClaims.claim`; None when the application is not (yet) known."""
        held = self._applications.get(application)
        if held is None or not held.claims.slots:
            return None
        claimed = held.claims.claim(replica_id, node_id, pid, dead)
        self._drop_reports_without_claim(held)
        return claimed

    async def watch(self, report: ReplicaReport, seen: ReplicaDirective) -> ReplicaDirective:
        """Takes a replica's report; returns once the directive is another than `seen`, or after DIRECTIVE_POLL_S."""
        held = self._application(report.application)
        if report.replica_id not in held.claims.holders():
            held.claims.adopt(Claim(report.replica_id, report.pid, report.slot))
        held.reports[report.replica_id] = report
        held.established |= seen.established
        self._changed.notify()  # also ends the poll that this one replaces
        application = report.application

        def superseded() -> bool:
            now = self._applications.get(application)
            return now is not held or now.directive != seen or now.reports.get(report.replica_id) is not report

        await self._changed.wait_for(superseded, DIRECTIVE_POLL_S)
        now = self._applications.get(application)
        return now.directive if now is not None else ReplicaDirective(quiesce=True)

    async def wait_for(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Waits until `condition` holds, looking again whenever a report or a directive has changed."""
        return await self._changed.wait_for(condition, timeout_s)

    def quiesced(self, application: str) -> bool:
        """Nothing is in flight in any replica: those that answered are done, and one that loads has taken nothing."""
        return all(report.phase is not ReplicaPhase.READY for report in self.reports(application))

    def _application(self, application: str) -> _Application:
        return self._applications.setdefault(application, _Application())

    @staticmethod
    def _drop_reports_without_claim(held: _Application) -> None:
        holders = held.claims.holders()
        held.reports = {replica_id: report for replica_id, report in held.reports.items() if replica_id in holders}
