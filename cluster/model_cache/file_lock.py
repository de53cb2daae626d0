"""A lock between processes, which the kernel gives back when its holder dies."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path
from types import TracebackType


class FileLock:
    """A lock on a file by name. The file is made when it is first locked; who holds it alone may delete it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def wait_exclusive(cls, path: Path) -> FileLock:
        """Waits until nobody else holds it."""
        lock = None
        while lock is None:
            lock = cls._take(path, fcntl.LOCK_EX)
        return lock

    @classmethod
    def try_exclusive(cls, path: Path) -> FileLock | None:
        """None while anybody else holds it."""
        return cls._take(path, fcntl.LOCK_EX | fcntl.LOCK_NB)

    @classmethod
    def try_shared(cls, path: Path) -> FileLock | None:
        """None while somebody holds it alone."""
        return cls._take(path, fcntl.LOCK_SH | fcntl.LOCK_NB)

    @classmethod
    def _take(cls, path: Path, operation: int) -> FileLock | None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, operation)
            # Its last holder may have deleted it: then another one of the same name is the lock now.
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return cls(descriptor)
        except (BlockingIOError, FileNotFoundError):
            pass
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        return None

    def release(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def delete(self, path: Path) -> None:
        """Deletes the file, and lets go. Only for who holds it alone."""
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        self.release()

    def __enter__(self) -> FileLock:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.release()
