"""Tells one state of the code from another."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
"""What has to be on the module path for `cluster` and `servables` to be found."""
_PACKAGES = ("cluster", "servables")


def code_version() -> str:
    """Equal for two processes when they run the same Python and find the same files of ours, unchanged."""
    facts = [sys.executable, sys.version]
    for package in _PACKAGES:
        facts.extend(_modules(os.path.join(ROOT, package)))
    return hashlib.blake2b("\n".join(facts).encode(errors="surrogateescape"), digest_size=16).hexdigest()


def _modules(directory: str) -> Iterator[str]:
    for entry in sorted(os.scandir(directory), key=lambda entry: entry.name):
        if entry.is_dir() and entry.name != "__pycache__":
            yield from _modules(entry.path)
        elif entry.name.endswith(".py"):
            found = entry.stat()
            yield f"{entry.path} {found.st_size} {found.st_mtime_ns}"
