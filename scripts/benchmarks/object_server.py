"""An S3 server of few words for benchmarks: lists one bucket and sends parts of its objects, with as little work as it can.

A directory is the bucket. It knows ListObjectsV2, HeadObject, and GetObject with Range and If-Match; it checks no signature.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from collections.abc import Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

BUCKET = "bench"
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


@contextlib.contextmanager
def object_server(directory: Path) -> Iterator[str]:
    """A server of the directory in a process of its own; its URL."""
    process = subprocess.Popen(
        [sys.executable, "-m", "scripts.benchmarks.object_server", str(directory)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16
    directory: Path

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        key = unquote(url.path).removeprefix(f"/{BUCKET}").lstrip("/")
        if key:
            self._send_object(self.directory / key, with_body=True)
        else:
            self._send_listing(parse_qs(url.query).get("prefix", [""])[0])

    def do_HEAD(self) -> None:
        self._send_object(self.directory / unquote(urlsplit(self.path).path).removeprefix(f"/{BUCKET}/"), with_body=False)

    def _send_object(self, file: Path, with_body: bool) -> None:
        size = file.stat().st_size
        tag = _tag(file)
        if self.headers.get("If-Match", tag) != tag:
            self._send_head(412, {"Content-Length": "0"})
            return
        wanted = _RANGE.fullmatch(self.headers.get("Range", ""))
        start, end = (int(wanted[1]), min(int(wanted[2] or size) + 1, size)) if wanted else (0, size)
        headers = {"ETag": tag, "Content-Length": str(end - start), "Last-Modified": formatdate(0, usegmt=True)}
        if wanted:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        self._send_head(206 if wanted else 200, headers)
        if with_body and end > start:
            self.wfile.flush()
            with open(file, "rb") as opened:
                self.connection.sendfile(opened, start, end - start)

    def _send_listing(self, prefix: str) -> None:
        files = sorted(path for path in self.directory.rglob("*") if path.is_file())
        keys = [(path.relative_to(self.directory).as_posix(), path) for path in files]
        contents = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>1970-01-01T00:00:00.000Z</LastModified>"
            f"<ETag>{escape(_tag(path))}</ETag><Size>{path.stat().st_size}</Size></Contents>"
            for key, path in keys
            if key.startswith(prefix)
        )
        body = f"<ListBucketResult><IsTruncated>false</IsTruncated>{contents}</ListBucketResult>".encode()
        self._send_head(200, {"Content-Type": "application/xml", "Content-Length": str(len(body))})
        self.wfile.write(body)

    def _send_head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


def _tag(file: Path) -> str:
    found = file.stat()
    return f'"{found.st_mtime_ns:x}-{found.st_size:x}"'


def main() -> None:
    _Handler.directory = Path(sys.argv[1])
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
