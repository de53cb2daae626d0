"""What the publishing commands show: for people in tables, for programs as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from cluster.client import (
    Publication,
    PublishedVersion,
    PulledVersion,
    Removal,
    Signature,
    TensorInfo,
    VersionState,
    VersionStatus,
)
from cluster.terminal import Terminal

_UNITS = ("KB", "MB", "GB", "TB")
_STYLES = {
    VersionState.PUBLISHED: "green",
    VersionState.UNMANIFESTED: None,
    VersionState.BEING_PUBLISHED: "cyan",
    VersionState.BEING_UNPUBLISHED: "yellow",
    VersionState.BROKEN: "red",
}


def print_signatures(terminal: Terminal, signatures: Mapping[str, Signature], remarks: Sequence[str]) -> None:
    rows = []
    for name, signature in sorted(signatures.items()):
        for role, infos in (("input", signature.inputs), ("output", signature.outputs)):
            rows += [(name, role, alias, info.dtype.label, _shape(info)) for alias, info in sorted(infos.items())]
    if rows:
        terminal.table(("SIGNATURE", "TENSOR", "NAME", "TYPE", "SHAPE"), rows)
        terminal.print()
    for remark in remarks:
        terminal.warn(remark)


def print_versions(
    terminal: Terminal, versions: Sequence[PublishedVersion], statuses: Mapping[int, VersionStatus] | None
) -> None:
    """`statuses` is what a server says of the versions, None when none was asked."""
    columns = ["VERSION", "STATE", "FILES", "SIZE", "PUBLISHED", "BY", "ANNOTATIONS"]
    rows = []
    for version in versions:
        row = [
            str(version.version),
            f"{version.state.value}: {version.reason}" if version.reason else version.state.value,
            str(version.files),
            size_text(version.size_bytes),
            version.published_at or "-",
            version.publisher or "-",
            ", ".join(f"{key}={value}" for key, value in sorted(version.annotations.items())) or "-",
        ]
        if statuses is not None:
            row.insert(2, _served(statuses.get(version.version)))
        rows.append(row)
    if statuses is not None:
        columns.insert(2, "SERVED")
    terminal.table(columns, rows, [_STYLES[version.state] for version in versions])


def print_removal(terminal: Terminal, removal: Removal, *, dry_run: bool = False) -> None:
    if removal.versions:
        verb = "Would delete" if dry_run else "Deleted"
        terminal.print(f"{verb} {_numbers(removal.versions)}.")
    else:
        terminal.print("Nothing to delete.")
    if removal.kept_served:
        terminal.note(f"Kept {_numbers(removal.kept_served)} besides: the server has {_them(removal.kept_served)}.")
    if removal.blind and removal.versions:
        terminal.note("No server was asked whether it serves what was deleted: name one to have it asked.")


def publication_json(publication: Publication) -> str:
    return _json(
        {
            "version": publication.version,
            "path": publication.path,
            "files": publication.files,
            "size_bytes": publication.size_bytes,
            "signatures": signatures_document(publication.signatures),
            "removed": None if publication.removed is None else removal_document(publication.removed),
            "remarks": list(publication.remarks),
        }
    )


def dry_run_json(version: int, path: str, files: int, size_bytes: int, signatures: Mapping[str, Signature]) -> str:
    return _json(
        {
            "dry_run": True,
            "version": version,
            "path": path,
            "files": files,
            "size_bytes": size_bytes,
            "signatures": signatures_document(signatures),
        }
    )


def versions_json(versions: Sequence[PublishedVersion], statuses: Mapping[int, VersionStatus] | None) -> str:
    return _json([_version_document(version, statuses) for version in versions])


def removal_json(removal: Removal) -> str:
    return _json(removal_document(removal))


def pulled_json(pulled: PulledVersion) -> str:
    return _json(
        {
            "version": pulled.version,
            "path": pulled.path,
            "files": pulled.files,
            "size_bytes": pulled.size_bytes,
            "verified": pulled.verified,
        }
    )


def removal_document(removal: Removal) -> dict[str, Any]:
    return {
        "versions": list(removal.versions),
        "kept_served": list(removal.kept_served),
        "server_asked": not removal.blind,
    }


def signatures_document(signatures: Mapping[str, Signature]) -> dict[str, Any]:
    return {
        name: {
            "method_name": signature.method_name,
            "inputs": {alias: _tensor_document(info) for alias, info in signature.inputs.items()},
            "outputs": {alias: _tensor_document(info) for alias, info in signature.outputs.items()},
        }
        for name, signature in signatures.items()
    }


def size_text(size_bytes: int) -> str:
    """A size as people read it: `1.2 MB`, in powers of ten."""
    if size_bytes < 1000:
        return f"{size_bytes} B"
    size = float(size_bytes)
    for unit in _UNITS:
        size /= 1000
        if size < 999.95:
            return f"{size:.1f} {unit}"
    return f"{size:.0f} {_UNITS[-1]}"


def content_text(files: int, size_bytes: int) -> str:
    return f"{'1 file' if files == 1 else f'{files} files'}, {size_text(size_bytes)}"


def _version_document(version: PublishedVersion, statuses: Mapping[int, VersionStatus] | None) -> dict[str, Any]:
    document: dict[str, Any] = {
        "version": version.version,
        "path": version.path,
        "state": version.state.value,
        "reason": version.reason,
        "files": version.files,
        "size_bytes": version.size_bytes,
        "published_at": version.published_at,
        "publisher": version.publisher,
        "annotations": dict(version.annotations),
    }
    if statuses is not None:
        status = statuses.get(version.version)
        document["served"] = None if status is None else status.state.name
        document["served_error"] = "" if status is None else status.message
    return document


def _tensor_document(info: TensorInfo) -> dict[str, Any]:
    return {"dtype": info.dtype.name, "shape": None if info.shape is None else list(info.shape)}


def _shape(info: TensorInfo) -> str:
    if info.shape is None:
        return "any"
    return "(" + ", ".join("?" if size < 0 else str(size) for size in info.shape) + ")"


def _served(status: VersionStatus | None) -> str:
    if status is None:
        return "-"
    return f"{status.state.name}: {' '.join(status.message.split())}" if status.message else status.state.name


def _numbers(versions: Sequence[int]) -> str:
    return f"version{'' if len(versions) == 1 else 's'} {', '.join(map(str, versions))}"


def _them(versions: Sequence[int]) -> str:
    return "it" if len(versions) == 1 else "them"


def _json(document: Any) -> str:
    return json.dumps(document, indent=2) + "\n"
