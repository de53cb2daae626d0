"""Web servers: WebDAV, and plain ones with an index of versions."""

from __future__ import annotations

import base64
import hashlib
import json
import netrc
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar, TypeVar
from urllib.parse import urlsplit

from cluster.core.errors import AspiredError, DataLoss, FailedPrecondition, NotFound, PermissionDenied
from cluster.core.object_uri import ObjectUri, join_http, parse_http_uri
from cluster.storage.object_error import StoreAdvice, refusal_of
from cluster.storage.object_storage import ObjectStorage
from cluster.storage.storage import StoredFile, Tree, tree_of
from cluster.storage.version_manifest import MANIFEST_NAME, parse_manifest

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import HTTPStore, ObjectStore

INDEX_NAME = "aspired_versions.json"
"""The file in a base path that says which versions there are: `{"versions": [1, 2]}`."""

_CHECKSUM_TAG = "sha256:"
_UNLISTED = frozenset({400, 403, 405, 501})  # what servers without WebDAV answer; some say that there is nothing
_LISTS_NOTHING = "the web server lists no directories (WebDAV PROPFIND)"

_Found = TypeVar("_Found")


class HttpStorage(ObjectStorage):
    """`http(s)://host/path/`, read only.

    Directories are listed by WebDAV, one request for each. A server that does not know it needs INDEX_NAME in the base path
    and a manifest in each version, as `aspired publish` writes it: the manifest is the listing. A file's tag is its checksum
    then, which whoever fetches it compares.

    User and password of the host are those of NETRC or ~/.netrc.
    """

    advice: ClassVar[StoreAdvice] = StoreAdvice(
        "the web server", "put the host with login and password in ~/.netrc", "the server must allow GET and PROPFIND there"
    )

    def uri(self, path: str) -> ObjectUri:
        return parse_http_uri(path)

    def open(self, uri: ObjectUri) -> HTTPStore:
        from obstore.store import HTTPStore

        options = self.client_options(allow_http=uri.bucket.startswith("http://"))
        if authorization := _authorization(uri.bucket):
            options["default_headers"] = {"authorization": authorization}
        return HTTPStore(uri.bucket, client_options=options, retry_config=self.retry_config())

    def join(self, base_path: str, child: str) -> str:
        return join_http(base_path, child)

    def children(self, path: str) -> Sequence[str]:
        return _listed_or_told(
            path,
            super().children,
            self._indexed,
            FailedPrecondition(f"{path}: {_LISTS_NOTHING}, and there is no {INDEX_NAME} in the base path"),
        )

    def tree(self, path: str) -> Tree:
        return _listed_or_told(
            path,
            super().tree,
            self._published,
            DataLoss(f"{path}: {_LISTS_NOTHING}, and there is no {MANIFEST_NAME} in the version"),
        )

    def list_files(self, store: ObjectStore, uri: ObjectUri) -> Iterator[ObjectMeta]:
        import obstore

        # Directory by directory: servers seldom allow to list whole trees at once.
        pending = [uri.key]
        while pending:
            found = obstore.list_with_delimiter(store, pending.pop() or None)
            yield from found["objects"]
            pending += found["common_prefixes"]

    def is_tag_of(self, found: ObjectMeta, tag: str) -> bool:
        return tag.startswith(_CHECKSUM_TAG) or super().is_tag_of(found, tag)

    def _indexed(self, path: str) -> Sequence[str]:
        index = self.join(path, INDEX_NAME)
        try:
            versions = json.loads(self.read(index))["versions"]
            if not all(type(version) is int and version >= 0 for version in versions):
                raise ValueError("versions are numbers")
        except (ValueError, KeyError, TypeError) as error:
            raise DataLoss(f'{index} is no index: expected {{"versions": [1, 2]}}') from error
        return [str(version) for version in versions]

    def _published(self, path: str) -> Tree:
        whole = self.join(path, MANIFEST_NAME)
        content = self.read(whole)
        files = [
            StoredFile(file.name, file.size_bytes, _CHECKSUM_TAG + file.sha256) for file in parse_manifest(content, whole).files
        ]
        tag = _CHECKSUM_TAG + hashlib.sha256(content).hexdigest()
        return tree_of([*files, StoredFile(MANIFEST_NAME, len(content), tag)], age_s=None)


def _listed_or_told(path: str, listed: Callable[[str], _Found], told: Callable[[str], _Found], neither: AspiredError) -> _Found:
    """What a listing gives; where the server has none, what the file says that stands in for it."""
    try:
        return listed(path)
    except AspiredError as error:
        refusal = refusal_of(error.__cause__) if error.__cause__ is not None else None
        unlisted = refusal is not None and refusal.status in _UNLISTED
        if not unlisted and not isinstance(error, NotFound):
            raise
        try:
            return told(path)
        except (NotFound, PermissionDenied):
            raise (error if isinstance(error, NotFound | PermissionDenied) else neither) from error.__cause__


def _authorization(server: str) -> str | None:
    host = urlsplit(server).hostname or ""
    try:
        found = netrc.netrc(os.environ.get("NETRC")).authenticators(host)
    except FileNotFoundError:
        return None
    except netrc.NetrcParseError as error:
        raise ValueError(f"{error.filename} cannot be read at line {error.lineno}") from None
    if found is None:
        return None
    login, _, password = found
    return "Basic " + base64.b64encode(f"{login}:{password}".encode()).decode()
