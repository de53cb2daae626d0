"""Servers of the object stores that are not S3, each on loopback, reached by the variables that users set."""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import hmac
import http.server
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import httpx
from cheroot import wsgi
from wsgidav.wsgidav_app import WsgiDAVApp

from cluster.storage.azure_storage import azure_config
from tests.fakes.s3_server import START_TIMEOUT_S, free_port

_AZURITE = Path(__file__).parents[2] / ".aspired/peers/azurite/node_modules/.bin/azurite-blob"
NO_AZURITE = "needs Azure's emulator: npm install --prefix .aspired/peers/azurite azurite"


def google_environment(url: str) -> dict[str, str]:
    """For moto's server at `url`: Google's XML interface, which the library speaks, is S3's."""
    return {"STORAGE_EMULATOR_HOST": url, "GOOGLE_BEARER_TOKEN": "token-secret"}


def azure_environment(port: int) -> dict[str, str]:
    """For an Azurite, or a gate before one, at `port`."""
    config = azure_config({"AZURE_STORAGE_CONNECTION_STRING": "UseDevelopmentStorage=true"})
    account, key = config["account_name"], config["account_key"]
    endpoint = f"http://127.0.0.1:{port}/{account}"
    connection = f"AccountName={account};AccountKey={key};BlobEndpoint={endpoint}"
    return {"AZURE_STORAGE_CONNECTION_STRING": connection}


def azurite_command() -> str | None:
    """None where it is not installed: it is a Node.js program."""
    return shutil.which("azurite-blob") or (str(_AZURITE) if _AZURITE.exists() else None)


@contextlib.contextmanager
def azurite() -> Iterator[int]:
    """Azure's emulator, in memory; gives its port."""
    command, port = azurite_command(), free_port()
    assert command is not None, NO_AZURITE
    options = ["--inMemoryPersistence", "--silent", "--disableTelemetry", "--skipApiVersionCheck"]
    process = subprocess.Popen([command, "--blobPort", str(port), *options], stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert process.poll() is None, f"azurite has ended with {process.returncode}"
            assert time.monotonic() < deadline, "azurite does not listen"
            time.sleep(0.05)
        yield port
    finally:
        process.kill()
        process.wait()


def make_azure_container(port: int, name: str) -> None:
    """What the library does not do."""
    config = azure_config(azure_environment(port))
    account, date, version = config["account_name"], formatdate(usegmt=True), "2021-08-06"
    no_headers = "\n" * 12
    signed = f"PUT{no_headers}x-ms-date:{date}\nx-ms-version:{version}\n/{account}/{account}/{name}\nrestype:container"
    digest = hmac.new(base64.b64decode(config["account_key"]), signed.encode(), hashlib.sha256).digest()
    authorization = f"SharedKey {account}:{base64.b64encode(digest).decode()}"
    headers = {"x-ms-date": date, "x-ms-version": version, "Authorization": authorization}
    httpx.put(f"{config['endpoint']}/{name}?restype=container", headers=headers).raise_for_status()


@contextlib.contextmanager
def webdav_server(root: Path, users: dict[str, str] | None = None) -> Iterator[int]:
    """WebDAV of a directory; gives its port. `users` (name -> password) are all who may read, else everybody may."""
    port = free_port()
    known = {name: {"password": password} for name, password in users.items()} if users else True
    app = WsgiDAVApp(
        {
            "provider_mapping": {"/": str(root)},
            "simple_dc": {"user_mapping": {"*": known}},
            "http_authenticator": {"accept_basic": True, "accept_digest": False, "default_to_digest": False},
            "logging": {"enable": False},
            "verbose": 0,
            "property_manager": None,
            "lock_storage": False,
        }
    )
    server = wsgi.Server(("127.0.0.1", port), app)
    server.prepare()
    thread = threading.Thread(target=server.serve, name="webdav", daemon=True)
    thread.start()
    try:
        yield port
    finally:
        server.stop()
        thread.join()


class _StaticHandler(http.server.SimpleHTTPRequestHandler):
    """GET and HEAD of whole files: no listing, no ranges."""

    def list_directory(self, path: object) -> None:
        self.send_error(404)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def static_server(root: Path) -> Iterator[int]:
    """A web server of the plainest kind; gives its port."""
    handler = functools.partial(_StaticHandler, directory=str(root))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, name="static", daemon=True)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()
