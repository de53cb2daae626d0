"""Azure's blob service, as far as storages use it, in memory. It takes any signature."""

from __future__ import annotations

import contextlib
import http.server
import itertools
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape

_MOST_LISTED = 1000  # Azure itself lists 5,000; fewer show more of the paging


@dataclass
class _Blob:
    content: bytes
    tag: str
    modified: str = field(default_factory=lambda: formatdate(usegmt=True))


class _Blobs:
    """The containers of one account; each blob by its name."""

    def __init__(self) -> None:
        self.containers: dict[str, dict[str, _Blob]] = {}
        self.blocks: dict[tuple[str, str, str], bytes] = {}
        self._tags = itertools.count(1)

    def put(self, container: str, name: str, content: bytes) -> _Blob:
        blob = self.containers[container][name] = _Blob(content, f"0x{next(self._tags):X}")
        return blob

    def listing(self, container: str, prefix: str, delimiter: str, after: str) -> str:
        entries: dict[str, str] = {}
        for name, blob in sorted(self.containers[container].items()):
            if not name.startswith(prefix):
                continue
            rest = name[len(prefix) :]
            if delimiter and delimiter in rest:
                directory = prefix + rest.partition(delimiter)[0] + delimiter
                entries[directory] = f"<BlobPrefix><Name>{escape(directory)}</Name></BlobPrefix>"
            else:
                entries[name] = (
                    f"<Blob><Name>{escape(name)}</Name><Properties><Last-Modified>{blob.modified}</Last-Modified>"
                    f"<Etag>{blob.tag}</Etag><Content-Length>{len(blob.content)}</Content-Length>"
                    "<Content-Type>application/octet-stream</Content-Type></Properties></Blob>"
                )
        names = [name for name in entries if name > after]
        page, more = names[:_MOST_LISTED], len(names) > _MOST_LISTED
        return (
            f"<EnumerationResults><Blobs>{''.join(entries[name] for name in page)}</Blobs>"
            f"<NextMarker>{escape(page[-1]) if more else ''}</NextMarker></EnumerationResults>"
        )


class _Handler(http.server.BaseHTTPRequestHandler):
    """Paths are /account/container/blob."""

    protocol_version = "HTTP/1.1"
    blobs: _Blobs

    def do_GET(self) -> None:
        container, name, query = _target(self.path)
        if container not in self.blobs.containers:
            self._refuse(404, "ContainerNotFound")
        elif query.get("comp") == "list":
            found = self.blobs.listing(container, query.get("prefix", ""), query.get("delimiter", ""), query.get("marker", ""))
            self._answer(200, found.encode())
        elif name not in self.blobs.containers[container]:
            self._refuse(404, "BlobNotFound")
        else:
            self._send(self.blobs.containers[container][name])

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_PUT(self) -> None:
        container, name, query = _target(self.path)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if query.get("restype") == "container":
            self.blobs.containers[container] = {}
            self._answer(201)
        elif container not in self.blobs.containers:
            self._refuse(404, "ContainerNotFound")
        elif query.get("comp") == "block":
            self.blobs.blocks[container, name, query["blockid"]] = body
            self._answer(201)
        else:
            if query.get("comp") == "blocklist":
                blocks = [block.text or "" for block in ElementTree.fromstring(body)]
                body = b"".join(self.blobs.blocks.pop((container, name, block)) for block in blocks)
            self._answer(201, headers={"ETag": f'"{self.blobs.put(container, name, body).tag}"'})

    def do_POST(self) -> None:
        """A batch: some requests to delete, as parts of one multipart message."""
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        answers = []
        for number, path in enumerate(re.findall(r"^DELETE (\S+) HTTP", body, re.MULTILINE)):
            container, name, _ = _target(path)
            gone = self.blobs.containers.get(container, {}).pop(name, None)
            status = "404 The specified blob does not exist." if gone is None else "202 Accepted"
            answers.append(
                f"--batch\r\nContent-Type: application/http\r\nContent-ID: {number}\r\n\r\nHTTP/1.1 {status}\r\n"
                "x-ms-version: 2021-08-06\r\n\r\n"
            )
        content = "\r\n".join([*answers, "--batch--\r\n"]).encode()
        self._answer(202, content, {"Content-Type": "multipart/mixed; boundary=batch"})

    def _send(self, blob: _Blob) -> None:
        content, status = blob.content, 200
        headers = {"ETag": f'"{blob.tag}"', "Last-Modified": blob.modified, "x-ms-blob-type": "BlockBlob"}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("x-ms-range") or self.headers.get("Range") or "")
        if wanted:
            start, end = int(wanted[1]), min(int(wanted[2]) + 1, len(content))
            if start >= len(content):
                self._refuse(416, "InvalidRange")
                return
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(content)}"
            content, status = content[start:end], 206
        self._answer(status, content, headers)

    def _refuse(self, status: int, code: str) -> None:
        self._answer(status, f"<Error><Code>{code}</Code></Error>".encode())

    def _answer(self, status: int, content: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        with contextlib.suppress(ConnectionError):  # clients may go
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


def _target(path: str) -> tuple[str, str, dict[str, str]]:
    """Container, blob and query."""
    url = urlsplit(path)
    _, _, rest = unquote(url.path).lstrip("/").partition("/")
    container, _, name = rest.partition("/")
    return container, name, {key: values[0] for key, values in parse_qs(url.query).items()}


@contextlib.contextmanager
def azure_server() -> Iterator[int]:
    """Gives its port."""
    handler = type("Handler", (_Handler,), {"blobs": _Blobs()})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, name="azure", daemon=True)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()
