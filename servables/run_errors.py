"""What a call is answered with when it could not be run."""

from __future__ import annotations

import logging
from collections.abc import Container

from cluster.core.errors import AspiredError, Code, FailedPrecondition, Status, Unavailable
from servables.call import Call

CLOSED = Unavailable("The servable is being unloaded").to_status()
CANCELLED = Status(Code.CANCELLED, "The call was cancelled before it ran")

_MAX_TEXT_LENGTH = 200

logger = logging.getLogger(__name__)


def check_signature(call: Call, signature_names: Container[str]) -> None:
    """Raises FailedPrecondition, with TF Serving's text, for a signature that the servable does not have."""
    if call.signature_name not in signature_names:
        raise FailedPrecondition(f'Serving signature key "{call.signature_name}" not found.')


def status_of(error: BaseException) -> Status:
    """The status that the caller gets for what `Servable.run` raised; logs what no servable may raise."""
    if isinstance(error, AspiredError):
        return error.to_status()
    logger.error("a run failed in an unexpected way", exc_info=error)
    return Status(Code.INTERNAL, f"{type(error).__name__}: {error}"[:_MAX_TEXT_LENGTH])
