"""What a server's actors and Serve applications are called, so that they can be found again and told from other people's.

Everything of a server starts with its name and a dot. Server names hold no dot, and neither does an escaped model name,
so a name can be taken apart exactly.
"""

from __future__ import annotations

import re

from cluster.core.servable_id import CopyId, ServableId

NAMESPACE = "aspired"
"""Ray namespace of every actor of every server."""

SERVER_NAME = re.compile(r"[a-z0-9-]{1,40}")

_UNSAFE_BYTE = re.compile(rb"[^A-Za-z0-9_-]")
_ESCAPED_BYTE = re.compile(r"~([0-9A-F]{2})")
_APPLICATION_NAME = re.compile(
    r"(?P<server>[a-z0-9-]{1,40})\.(?P<model>(?:[A-Za-z0-9_-]|~[0-9A-F]{2})+)\.(?P<version>[0-9]{1,19})(?:\.(?P<copy>[0-9]{1,19}))?"
)


def application_name(server: str, copy_id: CopyId) -> str:
    """The Serve application of one model version: `<server>.<model>.<version>`, for copies after the first `....<copy>`."""
    name = f"{server}.{_escape(copy_id.servable.name)}.{copy_id.servable.version}"
    return f"{name}.{copy_id.copy}" if copy_id.copy else name


def parse_application_name(name: str) -> tuple[str, CopyId] | None:
    """The server and the copy of a version that `name` was made of; None for an application that is not one of ours."""
    match = _APPLICATION_NAME.fullmatch(name)
    if match is None:
        return None
    try:
        model = _unescape(match["model"])
    except UnicodeDecodeError:
        return None
    server, copy_id = match["server"], CopyId(ServableId(model, int(match["version"])), int(match["copy"] or 0))
    # Only names that application_name() writes: `m.01`, `m.1.0` or a needless escape belong to somebody else.
    if application_name(server, copy_id) != name:
        return None
    return server, copy_id


def controller_name(server: str) -> str:
    return f"{server}.controller"


def manager_name(server: str) -> str:
    return f"{server}.manager"


def source_name(server: str) -> str:
    return f"{server}.source"


def frontend_name(server: str, node_id: str) -> str:
    """The frontends of one node; `node_id` is Ray's hex id, too long to be taken for a version."""
    return f"{server}.frontend.{node_id}"


def _escape(model: str) -> str:
    # "~" survives in file names, URLs and Ray's own separators alike.
    return _UNSAFE_BYTE.sub(lambda byte: b"~%02X" % byte[0][0], model.encode()).decode("ascii")


def _unescape(escaped: str) -> str:
    return _ESCAPED_BYTE.sub(lambda code: chr(int(code[1], 16)), escaped).encode("latin-1").decode()
