"""One servable stream as the controller keeps it: its versions, what is aspired of them, and how the others ended."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cluster.core.aspired_version import AspiredVersion
from cluster.core.aspired_version_policy import AspiredVersionPolicy, ServableAction, VersionSnapshot
from cluster.core.errors import Code, Status
from cluster.core.events import StreamOptions
from cluster.core.loader_harness import HarnessState, LoaderHarness
from cluster.core.servable_id import CopyId, ServableId
from cluster.core.servable_state import PublicState, ServableState

ENDED_VERSIONS_KEPT = 100
"""How many versions of one stream are remembered after their end."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a version ended. `fingerprint` is that of the files that failed, empty when it may be tried again as it is.

    `refused`: it failed for lack of room alone.
    """

    id: ServableId
    status: Status
    fingerprint: str = ""
    attempts: int = 0
    refused: bool = False

    @property
    def state(self) -> ServableState:
        return ServableState(self.id, PublicState.END, self.status)

    def stands_for(self, version: AspiredVersion) -> bool:
        """Whether `version` is, file by file, the one that failed."""
        return not self.status.ok and self.fingerprint != "" and self.fingerprint == version.fingerprint

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.id.name,
            "version": self.id.version,
            "code": int(self.status.code),
            "message": self.status.message,
            "fingerprint": self.fingerprint,
            "attempts": self.attempts,
            "refused": self.refused,
        }

    @classmethod
    def from_json(cls, kept: dict[str, Any]) -> Ending:
        return cls(
            ServableId(kept["name"], kept["version"]),
            Status(Code(kept["code"]), kept["message"]),
            kept["fingerprint"],
            kept["attempts"],
            kept["refused"],
        )


@dataclass(slots=True)
class ServableStream:
    """The versions of one stream that are in hand (`harnesses`) or have ended, by number.

    `beside`: further copies of versions. One that is aspired is the successor of a ready version whose files have been
    overwritten: it takes that version's place when it is ready. All others are on their way out.
    `aspired` None: no source has spoken for the stream since it was configured, so nothing of it changes. `pending`: a newer
    list that waits until versions of it, wanted again on their way out, have ended. `settled`: its first versions are up, or
    have failed.
    """

    name: str
    options: StreamOptions = field(default_factory=StreamOptions)
    configured: bool = False
    aspired: tuple[AspiredVersion, ...] | None = None
    pending: tuple[AspiredVersion, ...] | None = None
    settled: bool = False
    harnesses: dict[int, LoaderHarness] = field(default_factory=dict)
    beside: dict[CopyId, LoaderHarness] = field(default_factory=dict)
    ended: dict[int, Ending] = field(default_factory=dict)
    states: tuple[ServableState, ...] = ()

    @property
    def waiting(self) -> bool:
        """It has no version to serve yet."""
        return not self.aspired and not self.pending

    def aspired_version(self, number: int) -> AspiredVersion | None:
        """The version of that number in the aspired list."""
        return next((version for version in self.aspired or () if version.id.version == number), None)

    def copy(self, copy_id: CopyId) -> LoaderHarness | None:
        """This copy of a version of the stream, if there is one."""
        harness = self.harnesses.get(copy_id.servable.version)
        return harness if harness is not None and harness.copy == copy_id.copy else self.beside.get(copy_id)

    def copies_beside(self, number: int) -> list[LoaderHarness]:
        """The version's copies but for the one in `harnesses`."""
        return [harness for harness in self.beside.values() if harness.id.version == number]

    def successor(self, number: int) -> LoaderHarness | None:
        """The copy that is to take the place of the version's copy in `harnesses`."""
        return next((harness for harness in self.copies_beside(number) if harness.aspired), None)

    def leaving(self, number: int) -> bool:
        """Whether the version must end before it can begin anew; what goes beside a copy that stays is in nobody's way."""
        harness = self.harnesses.get(number)
        return harness.leaving if harness is not None else bool(self.copies_beside(number))

    def must_wait(self, versions: Sequence[AspiredVersion]) -> bool:
        """Whether one of `versions` is still on its way out."""
        return any(self.leaving(version.id.version) for version in versions)

    def next_action(self, policy: AspiredVersionPolicy) -> ServableAction | None:
        """What the policy says of the stream as it is."""
        wanted = {version.id.version: version for version in self.aspired or ()}
        return policy.next_action(
            [
                VersionSnapshot(harness.id, harness.state, harness.aspired, self._outdated(harness, wanted.get(number)))
                for number, harness in self.harnesses.items()
            ]
        )

    def _outdated(self, harness: LoaderHarness, wanted: AspiredVersion | None) -> bool:
        if harness.state is not HarnessState.READY or not harness.aspired or wanted is None or not wanted.status.ok:
            return False
        if wanted.files == harness.version.files:
            return False
        return all(copy.state is HarnessState.NEW for copy in self.copies_beside(harness.id.version))

    def end(self, ending: Ending) -> None:
        """Remembers how a version ended, and forgets the one that ended first if these are too many."""
        self.ended.pop(ending.id.version, None)
        self.ended[ending.id.version] = ending
        if len(self.ended) > ENDED_VERSIONS_KEPT:
            del self.ended[next(iter(self.ended))]

    def forgive(self, wanted: Collection[int]) -> None:
        """A version that failed and is aspired no longer may be tried again, should it be aspired once more."""
        for number, ending in self.ended.items():
            if ending.fingerprint and number not in wanted:
                self.ended[number] = replace(ending, fingerprint="")

    def endings(self) -> list[Ending]:
        """How all versions ended that have, those in error included, by number."""
        failed = [
            Ending(
                harness.id,
                harness.status,
                harness.version.fingerprint if harness.version.status.ok else "",
                harness.attempts,
                harness.refused,
            )
            for harness in self.harnesses.values()
            if harness.state is HarnessState.ERROR
        ]
        return sorted((*self.ended.values(), *failed), key=lambda ending: ending.id.version)

    def note_settled(self) -> None:
        """TF Serving's wait at start (`core/servable_state_monitor.cc`): any version available, or all at their end."""
        states = [harness.state for harness in self.harnesses.values() if harness.aspired]
        if HarnessState.READY in states or (states and all(state is HarnessState.ERROR for state in states)):
            self.settled = True

    def refresh_states(self) -> bool:
        """Renews `states`; True when they have changed."""
        states = {number: ending.state for number, ending in self.ended.items()}
        for number, harness in self.harnesses.items():
            states[number] = ServableState(harness.id, harness.public_state, harness.status)
        renewed = tuple(states[number] for number in sorted(states))
        changed, self.states = renewed != self.states, renewed
        return changed
