"""What GetModelStatus tells of a model's versions, and what it means to somebody who waits for one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cluster.core.errors import Code
from cluster.core.servable_state import PublicState


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """One version. `code` and `message` are OK and "" unless the version's load failed."""

    version: int
    state: PublicState
    code: Code = Code.OK
    message: str = ""

    def __str__(self) -> str:
        text = f"version {self.version} is {self.state.name}"
        return text if self.code is Code.OK else f"{text} with {self.code.name}: {self.message}"


def available(statuses: Sequence[VersionStatus], version: int | None) -> VersionStatus | None:
    """The version that is waited for, once it can answer: `version`, or the highest available one."""
    ready = [status for status in _candidates(statuses, version) if status.state is PublicState.AVAILABLE]
    return max(ready, key=lambda status: status.version, default=None)


def hopeless(statuses: Sequence[VersionStatus], version: int | None) -> bool:
    """Whether every version that could become available has ended, and at least one of them in an error.

    Not for ever: a server may load a failed version again, and a new one may appear.
    """
    candidates = _candidates(statuses, version)
    return all(status.state is PublicState.END for status in candidates) and any(
        status.code is not Code.OK for status in candidates
    )


def describe(statuses: Sequence[VersionStatus], version: int | None) -> str:
    candidates = _candidates(statuses, version)
    if not candidates:
        return "the server does not know the version" if version is not None else "the server knows no version of it"
    return "; ".join(map(str, candidates))


def _candidates(statuses: Sequence[VersionStatus], version: int | None) -> list[VersionStatus]:
    return [status for status in statuses if version is None or status.version == version]
