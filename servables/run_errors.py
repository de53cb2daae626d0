"""What a call is answered with when it did not run, or failed."""

from __future__ import annotations

import logging

from cluster.core.errors import AspiredError, Cancelled, Code, DeadlineExceeded, FailedPrecondition, Status, Unavailable

CLOSED = Unavailable("The servable is being unloaded").to_status()
CANCELLED = Cancelled("The call was cancelled before it ran").to_status()
EXPIRED = DeadlineExceeded("The deadline passed before the call could run").to_status()

_MAX_TEXT_LENGTH = 200

logger = logging.getLogger(__name__)


def unknown_signature(name: str) -> Status:
    """TF Serving's text for a signature that the servable does not have."""
    return FailedPrecondition(f'Serving signature key "{name}" not found.').to_status()


def status_of(error: BaseException) -> Status:
    """The status that the caller gets for what `Servable.run` raised; logs what no servable may raise."""
    if isinstance(error, AspiredError):
        return error.to_status()
    logger.error("a run failed in an unexpected way", exc_info=error)
    return Status(Code.INTERNAL, f"{type(error).__name__}: {error}"[:_MAX_TEXT_LENGTH])
