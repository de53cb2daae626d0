from __future__ import annotations

import functools
import hashlib
import http.server
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.core.errors import Aborted, DataLoss, FailedPrecondition, NotFound, Unauthenticated, Unavailable
from cluster.storage.http_storage import INDEX_NAME, HttpStorage
from cluster.storage.object_storage import Patience
from cluster.storage.storage import StoredFile
from cluster.storage.version_manifest import MANIFEST_NAME, ManifestFile, VersionManifest
from tests.fakes.certificates import CertificateAuthority
from tests.fakes.object_servers import static_server, webdav_server

STORAGE = HttpStorage(Patience(retries=0))


@pytest.fixture
def base_path(tmp_path: Path) -> Iterator[str]:
    with static_server(tmp_path) as port:
        yield f"http://127.0.0.1:{port}/m"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The directory that `base_path` shows: versions 1 and 3 by its index, of which 3 has a manifest."""
    version = tmp_path / "m/3"
    (version / "variables").mkdir(parents=True)
    files = {"saved_model.pb": b"graph", "variables/a b": b"data"}
    for name, content in files.items():
        (version / name).write_bytes(content)
    listed = [ManifestFile(name, len(content), hashlib.sha256(content).hexdigest()) for name, content in files.items()]
    (version / MANIFEST_NAME).write_bytes(VersionManifest(tuple(listed)).to_json())
    (tmp_path / "m" / INDEX_NAME).write_text('{"versions": [1, 3]}')
    return tmp_path / "m"


@pytest.mark.usefixtures("model")
def test_an_index_and_manifests_stand_in_for_listings(base_path: str) -> None:
    assert STORAGE.children(base_path) == ["1", "3"]
    path = STORAGE.join(base_path, "3")
    files = STORAGE.tree(path).files
    assert [file.name for file in files] == [MANIFEST_NAME, "saved_model.pb", "variables/a b"]
    contents = {file.name: b"".join(STORAGE.read_range(path, file, 0, file.size_bytes)) for file in files}
    assert contents["saved_model.pb"] == b"graph"
    assert contents["variables/a b"] == b"data"


def test_another_manifest_is_another_fingerprint(base_path: str, model: Path) -> None:
    before = STORAGE.tree(f"{base_path}/3")
    assert STORAGE.tree(f"{base_path}/3").fingerprint == before.fingerprint
    entry = ManifestFile("saved_model.pb", 5, "0" * 64)
    (model / "3" / MANIFEST_NAME).write_bytes(VersionManifest((entry,)).to_json())
    assert STORAGE.tree(f"{base_path}/3").fingerprint != before.fingerprint


def test_a_file_of_another_size_than_the_manifest_says_is_not_read(base_path: str, model: Path) -> None:
    file = next(file for file in STORAGE.tree(f"{base_path}/3").files if file.name == "saved_model.pb")
    (model / "3/saved_model.pb").write_bytes(b"longer than before")
    with pytest.raises(Aborted, match=r"saved_model\.pb has changed"):
        list(STORAGE.read_range(f"{base_path}/3", file, 0, 5))


@pytest.mark.usefixtures("model")
def test_a_server_without_ranges_gives_whole_files_alone(base_path: str) -> None:
    with pytest.raises(FailedPrecondition, match="no parts of files"):
        list(STORAGE.read_range(f"{base_path}/3", StoredFile("saved_model.pb", 5, "sha256:x"), 1, 3))


@pytest.mark.usefixtures("model")
def test_without_listing_and_index_says_what_is_missing(base_path: str) -> None:
    with pytest.raises(FailedPrecondition, match=f"PROPFIND.*no {INDEX_NAME} in the base path"):
        STORAGE.children(f"{base_path}/none")
    with pytest.raises(DataLoss, match=f"PROPFIND.*no {MANIFEST_NAME} in the version"):
        STORAGE.tree(f"{base_path}/1")


@pytest.mark.parametrize("content", ["", "[1]", '{"versions": ["1"]}', '{"versions": 1}', '{"versions": [-1]}', "{}"])
def test_an_index_that_is_none_is_refused(base_path: str, model: Path, content: str) -> None:
    (model / INDEX_NAME).write_text(content)
    with pytest.raises(DataLoss, match=rf'{INDEX_NAME} is no index: expected \{{"versions": \[1, 2\]\}}'):
        STORAGE.children(base_path)


def test_user_and_password_are_those_of_netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m/1").mkdir(parents=True)
    netrc = tmp_path / "netrc"
    monkeypatch.setenv("NETRC", str(netrc))
    storage = HttpStorage(Patience(retries=0))
    with webdav_server(tmp_path, {"reader": "SECRET"}) as port:
        path = f"http://127.0.0.1:{port}/m"
        with pytest.raises(Unauthenticated, match=r"HTTP 401.*~/.netrc"):
            storage.children(path)
        netrc.write_text("machine 127.0.0.1 login reader password wrong\n")
        netrc.chmod(0o600)
        with pytest.raises(Unauthenticated):
            storage.children(path)
        netrc.write_text("machine 127.0.0.1 login reader password SECRET\n")
        assert storage.children(path) == ["1"]
        netrc.write_text("SECRET nonsense")
        with pytest.raises(Unauthenticated, match="cannot be read at line 1") as refusal:
            HttpStorage().children(path)
        assert "SECRET" not in str(refusal.value)


def test_an_authority_of_ones_own_is_trusted_by_ssl_cert_file(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = CertificateAuthority()
    issued = authority.issue("server")
    for name, text in (("ca.pem", authority.cert), ("cert.pem", issued.cert), ("key.pem", issued.key)):
        (tmp_path / name).write_text(text)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    handler = functools.partial(QuietHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        path = f"https://127.0.0.1:{server.server_port}/m"
        with pytest.raises(Unavailable, match="certificate is not trusted; SSL_CERT_FILE"):
            HttpStorage(Patience(retries=0)).children(path)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        assert HttpStorage(Patience(retries=0)).children(path) == ["1", "3"]
        server.shutdown()
        thread.join()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


def test_what_is_not_there_is_not_found(tmp_path: Path) -> None:
    with webdav_server(tmp_path) as port, pytest.raises(NotFound, match="there is nothing under this path"):
        STORAGE.children(f"http://127.0.0.1:{port}/none")
