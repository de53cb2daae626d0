"""Paths of object stores, as the model config and flags give them.

s3://BUCKET/PREFIX                                       Amazon S3, and what speaks its protocol (`s3_uri`)
gs://BUCKET/PREFIX                                       Google Cloud Storage
az://CONTAINER/PREFIX                                    Azure; the account is in the environment
abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/PREFIX    Azure, as Hadoop and Spark write it; abfs:// too
https://ACCOUNT.blob.core.windows.net/CONTAINER/PREFIX   Azure, as its portal shows it
https://HOST/PATH/                                       WebDAV, or an index of versions; http:// too
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit

from cluster.core.errors import InvalidArgument
from cluster.core.s3_uri import S3_SCHEME, parse_s3_uri

GOOGLE_SCHEME = "gs"
AZURE_SCHEME = "az"
AZURE_FILE_SYSTEM_SCHEMES = ("abfs", "abfss")
HTTP_SCHEMES = ("http", "https")

_GOOGLE_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
_AZURE_CONTAINER = re.compile(r"\$root|\$web|(?=.{3,63}$)[a-z0-9]+(-[a-z0-9]+)*")
_AZURE_ACCOUNT = re.compile(r"[a-z0-9]{3,24}")
_AZURE_CLOUDS = r"windows\.net|chinacloudapi\.cn|usgovcloudapi\.net"
_AZURE_HOST = re.compile(rf"(?P<account>[^.:@]+)\.(blob|dfs)(?P<cloud>\.core\.({_AZURE_CLOUDS}))")


@dataclass(frozen=True, slots=True)
class ObjectUri:
    """A key, or the beginning of keys, in a bucket. `key` is without slashes at its ends, and may be empty.

    `bucket` is Azure's container; for HTTP, scheme, host and port. `account` is Azure's, with `endpoint` when the path names
    it; both are empty otherwise.
    """

    bucket: str
    key: str
    account: str = ""
    endpoint: str = ""

    @property
    def folder(self) -> str:
        """What the keys of everything under it begin with."""
        return f"{self.key}/" if self.key else ""

    @property
    def place(self) -> tuple[str, str, str]:
        """All but the key: what one client is for."""
        return self.bucket, self.account, self.endpoint


def parse_google_uri(path: str) -> ObjectUri:
    """Raises InvalidArgument for what names no bucket that there could be."""
    bucket, key = _split(path)
    if not _GOOGLE_BUCKET.fullmatch(bucket):
        raise InvalidArgument(
            f"{_without_secrets(path)}: expected gs://BUCKET/PREFIX, with 3 or more lower-case letters, digits, '-', '_' "
            "and '.' for the bucket"
        )
    return ObjectUri(bucket, _key(path, key))


def parse_azure_uri(path: str) -> ObjectUri:
    """Any of the forms that name a container of Azure. Raises InvalidArgument for what does not."""
    scheme = path.partition("://")[0].lower()
    host, rest = _split(path)
    if scheme in HTTP_SCHEMES:
        account, endpoint = _azure_account(path, host)
        container, _, key = unquote(rest).partition("/")
    elif scheme in AZURE_FILE_SYSTEM_SCHEMES:
        container, at, host = host.partition("@")
        if not at:
            raise InvalidArgument(f"{path}: expected {scheme}://CONTAINER@ACCOUNT.dfs.core.windows.net/PREFIX")
        account, endpoint = _azure_account(path, host)
        key = rest
    else:
        container, key, account, endpoint = host, rest, "", ""
    if not _AZURE_CONTAINER.fullmatch(container):
        raise InvalidArgument(
            f"{_without_secrets(path)}: it names no container: expected 3 to 63 lower-case letters, digits and single hyphens"
        )
    return ObjectUri(container, _key(path, key), account, endpoint)


def parse_http_uri(path: str) -> ObjectUri:
    """A URL; its path is percent-encoded, the key is not. Raises InvalidArgument for user, password and query, too.

    Paths are shown wherever models are, so they may hold no secret.
    """
    if "?" in path or "#" in path:
        raise InvalidArgument(f"{_without_secrets(path)}: a base path has no query: leave out what follows the '?' or '#'")
    host, rest = _split(path)
    if "@" in host:
        raise InvalidArgument(f"{_without_secrets(path)}: leave user and password out, and put them in ~/.netrc")
    try:
        known = bool(urlsplit(f"//{host}").hostname) and urlsplit(f"//{host}").port != 0
    except ValueError:
        known = False
    if not known:
        raise InvalidArgument(f"{path}: expected http(s)://HOST[:PORT]/PATH")
    scheme = path.partition("://")[0].lower()
    return ObjectUri(f"{scheme}://{host.lower()}", _key(path, unquote(rest)))


def join_http(base_path: str, child: str) -> str:
    """The URL of a child, whose name is not encoded yet."""
    return f"{base_path.rstrip('/')}/{quote(child)}"


def is_azure_url(path: str) -> bool:
    """Whether an http(s) URL is one of a container of Azure, so that another protocol is spoken there."""
    scheme, _, rest = path.partition("://")
    return scheme.lower() in HTTP_SCHEMES and _AZURE_HOST.fullmatch(rest.partition("/")[0].lower()) is not None


def object_path_problem(path: str) -> str:
    """What is wrong with a base path of one of the schemes here, with the fix and without secrets; empty for all others.

    Stricter than parsing, which must take the name of any object: a query in a base path is a signature pasted with its URL.
    Only S3 has no such URLs of its own.
    """
    scheme, separator, _ = path.partition("://")
    parse = _PARSERS.get(scheme.lower() if separator else "")
    if parse is None:
        return ""
    if is_azure_url(path):
        parse = parse_azure_uri
    if "?" in path and parse is not parse_s3_uri:
        fix = "; give a SAS token in AZURE_STORAGE_SAS_TOKEN" if parse is parse_azure_uri else ""
        return f"{_without_secrets(path)}: a base path has no query: leave out what follows the '?'{fix}"
    try:
        parse(path)
    except InvalidArgument as error:
        return error.message
    return ""


_PARSERS: Mapping[str, Callable[[str], object]] = {
    S3_SCHEME: parse_s3_uri,
    GOOGLE_SCHEME: parse_google_uri,
    **dict.fromkeys((AZURE_SCHEME, *AZURE_FILE_SYSTEM_SCHEMES), parse_azure_uri),
    **dict.fromkeys(HTTP_SCHEMES, parse_http_uri),
}


def _split(path: str) -> tuple[str, str]:
    authority, _, rest = path.partition("://")[2].partition("/")
    return authority, rest


def _key(path: str, key: str) -> str:
    parts = key.strip("/").split("/")
    if parts != [""] and any(part in ("", ".", "..") for part in parts):
        raise InvalidArgument(f"{_without_secrets(path)}: '', '.' and '..' are no parts of a path here")
    return "/".join(parts)


def _azure_account(path: str, host: str) -> tuple[str, str]:
    found = _AZURE_HOST.fullmatch(host.lower())
    if found is None or not _AZURE_ACCOUNT.fullmatch(found["account"]):
        raise InvalidArgument(f"{_without_secrets(path)}: expected ACCOUNT.dfs.core.windows.net for the host")
    return found["account"], f"https://{found['account']}.blob{found['cloud']}"


def _without_secrets(path: str) -> str:
    """The path without what may be a password or a signature in it."""
    scheme, _, rest = path.partition("://")
    host, slash, rest = rest.partition("/")
    before, _, after = host.rpartition("@")
    if scheme.lower() not in AZURE_FILE_SYSTEM_SCHEMES or ":" in before:
        host = after
    return re.split(r"[?#]", f"{scheme}://{host}{slash}{rest}", maxsplit=1)[0]
