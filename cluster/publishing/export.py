"""A directory that is to be published: which files it gives, and whether a server could load them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cluster.core.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied
from cluster.publishing.saved_model import SAVED_MODEL_NAMES, check_saved_model
from cluster.publishing.version_number import parse_version_name
from cluster.storage.version_manifest import MANIFEST_NAME, is_claim, is_safe_name
from servables.signatures import Signature

TENSORFLOW = "tensorflow"
TFLITE = "tflite"
TFLITE_NAME = "model.tflite"
_TFLITE_IDENTIFIER = slice(4, 8)


@dataclass(frozen=True, slots=True)
class ExportFile:
    """One file. `name` is relative to the version's directory, with "/" between its parts; `path` is where it lies."""

    name: str
    path: Path
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Export:
    """What was found in a directory. `signatures` is empty for what is no SavedModel.

    `remarks` are sentences about what will be published but may not do what its owner wants.
    """

    directory: Path
    platform: str
    files: tuple[ExportFile, ...]
    signatures: Mapping[str, Signature] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)


def read_export(directory: str | Path, platform: str | None = None) -> Export:
    """Looks at an export, as publishers do before they write anything.

    Without `platform` the files tell: a SavedModel or a TFLite model. Of other platforms nothing is known but that there
    are files. Links are followed, wherever they lead, as a copy follows them; a manifest of an earlier publication and claims
    are left out. Raises NotFound, InvalidArgument, FailedPrecondition or PermissionDenied, each with what to do about it.
    """
    root = Path(directory)
    if not root.is_dir():
        raise NotFound(f"{root}: {'not a directory' if root.exists() else 'there is no such directory'}; give the export's own")
    files = tuple(sorted(_files(root), key=lambda file: file.name))
    if not files:
        raise NotFound(f"{root} is empty: there is nothing to publish")
    names = {file.name for file in files}
    platform = platform or _platform_of(root, names)
    if platform == TENSORFLOW:
        signatures, remarks = check_saved_model(root, names)
        return Export(root, platform, files, signatures, remarks)
    if platform == TFLITE:
        _check_tflite(root, names)
    return Export(root, platform, files)


def _platform_of(root: Path, names: set[str]) -> str:
    if names.intersection(SAVED_MODEL_NAMES):
        return TENSORFLOW
    if TFLITE_NAME in names:
        return TFLITE
    raise _no_model(root, names)


def _no_model(root: Path, names: set[str]) -> FailedPrecondition:
    inside = sorted({name.rpartition("/")[0] for name in names if name.rpartition("/")[2] in (*SAVED_MODEL_NAMES, TFLITE_NAME)})
    versions = [name for name in inside if parse_version_name(name) is not None]
    if versions:
        newest = max(versions, key=lambda name: parse_version_name(name) or 0)
        return FailedPrecondition(f"{root} holds versions, it is no export itself: give one of them, as in {root / newest}")
    if inside:
        return FailedPrecondition(f"{root} holds no model, but there is one in {root / inside[0]}: give that directory")
    return FailedPrecondition(
        f"{root} holds neither a SavedModel (saved_model.pb) nor a TFLite model ({TFLITE_NAME}); of another platform, name it: "
        "--platform=hashmap"
    )


def _check_tflite(root: Path, names: set[str]) -> None:
    if TFLITE_NAME not in names:
        raise FailedPrecondition(f"{root} holds no {TFLITE_NAME}: it is not a TFLite model")
    with open(root / TFLITE_NAME, "rb") as file:
        if file.read(8)[_TFLITE_IDENTIFIER] != b"TFL3":
            raise InvalidArgument(f"{root / TFLITE_NAME} is not a TFLite model")


def _files(root: Path) -> Iterator[ExportFile]:
    # A link may lead back to a directory that it lies in: what is above is known by its identity.
    pending: list[tuple[str, Path, frozenset[tuple[int, int]]]] = [("", root, frozenset())]
    while pending:
        prefix, directory, above = pending.pop()
        found = directory.stat()
        if (found.st_dev, found.st_ino) in above:
            raise FailedPrecondition(f"{directory} is a link to a directory that it lies in: remove it")
        inside = above | {(found.st_dev, found.st_ino)}
        for child in _children(directory):
            name = prefix + child.name
            if not prefix and (name == MANIFEST_NAME or is_claim(name)):
                continue
            if not is_safe_name(name):
                raise InvalidArgument(f"{child}: files of a version must not have a backslash in their name; rename it")
            found = _stat(child)
            if stat.S_ISDIR(found.st_mode):
                pending.append((f"{name}/", child, inside))
            elif not stat.S_ISREG(found.st_mode):
                raise FailedPrecondition(f"{child} is neither a file nor a directory: remove it")
            elif not os.access(child, os.R_OK):
                raise PermissionDenied(f"{child} cannot be read: Permission denied")
            else:
                yield ExportFile(name, child, found.st_size)


def _children(directory: Path) -> list[Path]:
    try:
        return list(directory.iterdir())
    except PermissionError as error:
        raise PermissionDenied(f"{directory} cannot be read: {error.strerror}") from error


def _stat(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except OSError as error:
        if path.is_symlink():
            raise FailedPrecondition(f"{path} is a link that leads nowhere: remove it, or bring back what it led to") from error
        raise FailedPrecondition(f"{path} has gone while the export was looked at: is it still being written?") from error
