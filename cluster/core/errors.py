"""Every error that Aspired raises on purpose, each with its canonical code.

    AspiredError
    +-- Cancelled               the caller gave up
    +-- Unknown
    +-- InvalidArgument         the request is wrong whatever the server's state is
    |   +-- ConfigError         a flag or a config file is wrong; names the field and the fix
    +-- DeadlineExceeded
    +-- NotFound
    +-- AlreadyExists
    +-- PermissionDenied
    +-- ResourceExhausted       does not fit, or a queue that waits for room timed out
    +-- FailedPrecondition      right request, wrong moment
    +-- Aborted
    +-- OutOfRange
    +-- Unimplemented
    +-- Internal
    +-- Unavailable             try again later
    |   +-- NotServing          a replica's gate has closed: resolve again (never reaches a client)
    |   +-- ReplicaLost         the replica died while it held the request
    +-- DataLoss
    +-- Unauthenticated

An error is a code and a message; protocols map the code once, at their edge
(`servables.frontend.error_mapping`). Errors survive pickling, and cross a process boundary as a `Status`.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import ClassVar


class Code(enum.IntEnum):
    """Canonical status codes, numbered as gRPC and TensorFlow number them."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


@dataclass(frozen=True, slots=True)
class Status:
    """An outcome as data: what an error becomes when it travels or is kept."""

    code: Code = Code.OK
    message: str = ""

    @property
    def ok(self) -> bool:
        return self.code is Code.OK

    def to_error(self) -> AspiredError:
        """The error this status stands for; only for a status that is not OK."""
        return error_for(self.code, self.message)


class AspiredError(Exception):
    """Base of every deliberate error. `message` is written for the person who gets it."""

    code: ClassVar[Code] = Code.UNKNOWN

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        return self.message

    def to_status(self) -> Status:
        return Status(self.code, self.message)


class Cancelled(AspiredError):
    code = Code.CANCELLED


class Unknown(AspiredError):
    code = Code.UNKNOWN


class InvalidArgument(AspiredError):
    code = Code.INVALID_ARGUMENT


class ConfigError(InvalidArgument):
    """A flag or config value that cannot be used. The message names the field and the fix."""


class DeadlineExceeded(AspiredError):
    code = Code.DEADLINE_EXCEEDED


class NotFound(AspiredError):
    code = Code.NOT_FOUND


class AlreadyExists(AspiredError):
    code = Code.ALREADY_EXISTS


class PermissionDenied(AspiredError):
    code = Code.PERMISSION_DENIED


class ResourceExhausted(AspiredError):
    code = Code.RESOURCE_EXHAUSTED


class FailedPrecondition(AspiredError):
    code = Code.FAILED_PRECONDITION


class Aborted(AspiredError):
    code = Code.ABORTED


class OutOfRange(AspiredError):
    code = Code.OUT_OF_RANGE


class Unimplemented(AspiredError):
    code = Code.UNIMPLEMENTED


class Internal(AspiredError):
    code = Code.INTERNAL


class Unavailable(AspiredError):
    code = Code.UNAVAILABLE


class NotServing(Unavailable):
    """The replica's gate is closed to new work. The frontend resolves the version again."""


class ReplicaLost(Unavailable):
    """The replica went away while the request was with it; it may or may not have run."""


class DataLoss(AspiredError):
    code = Code.DATA_LOSS


class Unauthenticated(AspiredError):
    code = Code.UNAUTHENTICATED


_BY_CODE: dict[Code, type[AspiredError]] = {
    error.code: error
    for error in (
        Cancelled,
        Unknown,
        InvalidArgument,
        DeadlineExceeded,
        NotFound,
        AlreadyExists,
        PermissionDenied,
        ResourceExhausted,
        FailedPrecondition,
        Aborted,
        OutOfRange,
        Unimplemented,
        Internal,
        Unavailable,
        DataLoss,
        Unauthenticated,
    )
}


def error_for(code: Code, message: str) -> AspiredError:
    """The error of the tree that carries `code`; an OK code is a bug and becomes Unknown."""
    return _BY_CODE.get(code, Unknown)(message)
