"""What the disk says, as an error that an operator can act on."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

from cluster.core.errors import AspiredError, PermissionDenied, ResourceExhausted, Unavailable


def disk_error(error: OSError, cache: Path, path: str, bytes_missing: int) -> AspiredError:
    """The error for a version at `path`, of which so many bytes are still to come into `cache`."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return disk_full(cache, path, bytes_missing)
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return PermissionDenied(
            f"the model cache {cache} cannot be written: {error.strerror}: name a directory of the server's own user with "
            "--model_cache_dir"
        )
    return Unavailable(f"the model cache {cache}: {error.strerror or error}")


def disk_full(cache: Path, path: str, bytes_missing: int) -> ResourceExhausted:
    return ResourceExhausted(
        f"{path} needs {bytes_missing} bytes on the disk of the model cache {cache}, where {shutil.disk_usage(cache).free} are "
        "free: make room there, or name a directory on another disk with --model_cache_dir"
    )
