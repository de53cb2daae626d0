"""What the operating system says of files, as errors of ours."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from cluster.core.errors import AspiredError, FailedPrecondition, PermissionDenied, ResourceExhausted


@contextlib.contextmanager
def file_errors(path: Path) -> Iterator[None]:
    """Turns what the operating system says of `path` into an AspiredError."""
    try:
        yield
    except PermissionError as error:
        raise PermissionDenied(f"{error.filename or path}: {error.strerror}") from error
    except OSError as error:
        kind: type[AspiredError] = ResourceExhausted if error.errno in (errno.ENOSPC, errno.EDQUOT) else FailedPrecondition
        raise kind(f"{error.filename or path}: {error.strerror or error}") from error
