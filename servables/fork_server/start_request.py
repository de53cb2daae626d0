"""What a start command asks of a fork server, and whether that may do it. Pure."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass

HEADER = struct.Struct("!I")
"""Goes before an encoded request, with its three files: its length in bytes."""
MAX_REQUEST_BYTES = 1 << 22
READY = b"R"
"""What a fork says: it waits to be told to go on."""
GO = b"G"
"""What the command answers. From now on the fork is the worker, and the command must not become it."""

UNREAD_VARIABLES = frozenset({"OLDPWD", "OPENBLAS_NUM_THREADS", "PWD", "SHLVL", "SPT_NOENV", "_"})
"""Environment variables that make no difference: of shells, of what sets process titles, and of numpy's matrix products."""
RAY_PREFIX = "RAY_"


_KINDS = {"code_version": str, "environment": dict, "directory": str, "oom_score_adj": int, "niceness": int}


@dataclass(frozen=True, slots=True)
class StartRequest:
    """One process to be. `arguments` begin with the script; standard input, output and error travel beside the request.

    `code_version` is what the command saw of the code on disk (see `code_version.code_version`).
    """

    code_version: str
    arguments: tuple[str, ...]
    environment: dict[str, str]
    directory: str
    oom_score_adj: int
    niceness: int

    def encode(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @staticmethod
    def decode(data: bytes) -> StartRequest:
        """Raises ValueError for what is no request."""
        try:
            told = json.loads(data)
            request = StartRequest(**{**told, "arguments": tuple(told["arguments"])})
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"no start request: {error}") from error
        if not request.arguments or not all(isinstance(getattr(request, name), kind) for name, kind in _KINDS.items()):
            raise ValueError("no start request: a field is not what it should be")
        return request


def refusal(request: StartRequest, code_version: str, environment: Mapping[str, str], ray_imported: bool) -> str:
    """Why a process that has imported its modules at `code_version` in `environment` must not be forked; empty when it may.

    A module may have read any variable. Only Ray's own modules read Ray's variables.
    """
    if request.code_version != code_version:
        return "the code on disk is no longer the code that was imported"
    differing = sorted(
        name
        for name in request.environment.keys() | environment.keys()
        if request.environment.get(name) != environment.get(name)
        and name not in UNREAD_VARIABLES
        and (ray_imported or not name.startswith(RAY_PREFIX))
    )
    return f"modules were imported with other values of {', '.join(differing)}" if differing else ""
