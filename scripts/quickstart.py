"""The part of scripts/quickstart that runs in the environment: exports sample models, serves them, asks over REST and gRPC."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cluster.core.errors import AspiredError, DeadlineExceeded, Unavailable, Unknown
from cluster.terminal import Terminal

_WORK = Path(".aspired").resolve()
# How well does somebody pinch food with chopsticks of this length? Trained by scripts/chopsticks.py in seconds.
_MODEL = "chopsticks"
_LENGTHS_MM, _PERSONS = [180.0, 240.0, 330.0], [1, 1, 1]
_SERVER = "quickstart"
_START_TIMEOUT_S = 300.0
_STOP_TIMEOUT_S = 90.0
_POLL_INTERVAL_S = 0.5
_CONFIG = """\
model_config_list {{
  config {{
    name: "{model}"
    base_path: "{base_path}"
    model_platform: "tensorflow"
  }}
}}
"""


def main(arguments: Sequence[str]) -> int:
    terminal = Terminal()
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        config = _make_models(terminal)
        port, rest_api_port = _free_port(8500), _free_port(8501)
        with _server(terminal, config, port, rest_api_port) as server:
            _wait_until_ready(server, rest_api_port)
            _ask(terminal, port, rest_api_port)
            if "--once" not in arguments:
                _say_what_next(terminal, port, rest_api_port)
                server.wait()
                raise Unavailable("the server has ended")
    except KeyboardInterrupt:
        return 130 if "--once" in arguments else 0
    except (AspiredError, OSError) as error:
        terminal.note(f"error: {error}")
        return 1
    return 0


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _make_models(terminal: Terminal) -> Path:
    """Exports the sample model and writes a model config for it; quick when both are there."""
    models = _WORK / "models"
    with terminal.step("Exporting a sample model (about 15 s, the first time)"):
        command = [sys.executable, "scripts/export_sample_models.py", "--out", str(models), "--models", _MODEL]
        _run(command)
    config = _WORK / "models.config"
    config.write_text(_CONFIG.format(model=_MODEL, base_path=models / _MODEL))
    return config


def _free_port(wanted: int) -> int:
    """The usual port, or any other one where something listens on it already."""
    with socket.socket() as probe:
        try:
            probe.bind(("0.0.0.0", wanted))
        except OSError:
            probe.bind(("0.0.0.0", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def _server(terminal: Terminal, config: Path, port: int, rest_api_port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A server that has ended, with all its processes, when the body has."""
    flags = [f"--model_config_file={config}", f"--rest_api_port={rest_api_port}", f"--port={port}", f"--server_name={_SERVER}"]
    terminal.note("Starting the server (20 to 60 s):")
    terminal.note(f"  {shlex.join([_aspired(), 'serve', *flags])}")
    # In a session of its own, so that Ctrl-C reaches it once, from here, and not twice.
    server = subprocess.Popen([_aspired(), "serve", *flags], start_new_session=True)
    try:
        yield server
    finally:
        _stop(terminal, server)


def _stop(terminal: Terminal, server: subprocess.Popen[bytes]) -> None:
    if server.poll() is not None:
        return
    terminal.note("Stopping the server.")
    server.send_signal(signal.SIGINT)
    try:
        server.wait(_STOP_TIMEOUT_S)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        server.send_signal(signal.SIGINT)  # the second one ends it without waiting for requests
        server.wait(_STOP_TIMEOUT_S)


def _wait_until_ready(server: subprocess.Popen[bytes], rest_api_port: int) -> None:
    url = f"http://127.0.0.1:{rest_api_port}/v1/models/{_MODEL}"
    deadline = time.monotonic() + _START_TIMEOUT_S
    while not _is_available(url):
        if server.poll() is not None:
            raise Unavailable("the server has not come up; what it said above tells why")
        if time.monotonic() > deadline:
            raise DeadlineExceeded(
                f"the server is not ready after {_START_TIMEOUT_S:.0f} s; `aspired status` tells what it waits for"
            )
        time.sleep(_POLL_INTERVAL_S)


def _is_available(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            versions = json.load(reply)["model_version_status"]
    except (urllib.error.URLError, OSError):
        return False
    return any(version["state"] == "AVAILABLE" for version in versions)


def _ask(terminal: Terminal, port: int, rest_api_port: int) -> None:
    """Asks the same over both protocols; what is shown is what is run, and can be typed again."""
    terminal.print()
    _show(terminal, "REST", _rest_command(rest_api_port))
    _show(terminal, "gRPC", _grpc_command(port))


def _rest_command(rest_api_port: int) -> list[str]:
    url = f"http://localhost:{rest_api_port}/v1/models/{_MODEL}:predict"
    pairs = zip(_LENGTHS_MM, _PERSONS, strict=True)
    body = json.dumps({"instances": [{"length_mm": length_mm, "person": person} for length_mm, person in pairs]})
    if shutil.which("curl"):
        return ["curl", "--silent", "--show-error", "--fail-with-body", "-d", body, url]
    code = f"import urllib.request as r; print(r.urlopen({url!r}, {body.encode()!r}).read().decode())"
    return [_python(), "-c", code]


def _grpc_command(port: int) -> list[str]:
    inputs = json.dumps({"length_mm": _LENGTHS_MM, "person": _PERSONS})
    code = f'from cluster.client import Client; print(Client("grpc://localhost:{port}").predict("{_MODEL}", {inputs}))'
    return [_python(), "-c", code]


def _python() -> str:
    """This environment's Python as a person in this directory would write it."""
    return os.path.relpath(sys.executable)


def _aspired() -> str:
    return os.path.relpath(Path(sys.executable).with_name("aspired"))


def _show(terminal: Terminal, label: str, command: Sequence[str]) -> None:
    terminal.print(label, "bold green")
    terminal.write(f"$ {shlex.join(command)}\n")
    terminal.write(f"{_run(command).strip()}\n\n")


def _run(command: Sequence[str]) -> str:
    """What a command prints. Raises Unknown with what it complains of, when it fails."""
    finished = subprocess.run(command, capture_output=True, text=True)
    if finished.returncode:
        raise Unknown(
            f"{shlex.join(command)} has failed with status {finished.returncode}:\n{finished.stderr}{finished.stdout}"
        )
    return finished.stdout


def _say_what_next(terminal: Terminal, port: int, rest_api_port: int) -> None:
    export = f"{_python()} scripts/export_sample_models.py --out .aspired/models --models {_MODEL}"
    measure = f"{_python()} scripts/export_measurements.py --out .aspired/measurements --months 1,2"
    retrain = f"{_python()} scripts/retrain.py .aspired/measurements .aspired/models/{_MODEL}"
    terminal.print("What to do next, in another terminal", "bold")
    for what, command in (
        ("See what is loaded, and where", f"{_aspired()} status"),
        ("See the model's signatures", f"curl localhost:{rest_api_port}/v1/models/{_MODEL}/metadata"),
        ("Roll out version 2 while it serves", f"{export} --versions 2"),
        (
            "Retrain it on new data, and publish what is better",
            f"{measure}\n    {retrain} --server http://localhost:{rest_api_port}",
        ),
        (
            "Serve a model of your own",
            f"{_aspired()} serve --model_name=NAME --model_base_path=/path/to/NAME --rest_api_port=8501",
        ),
        ("Read about all flags", f"{_aspired()} serve --help"),
    ):
        terminal.write(f"  {what}:\n    {command}\n")
    terminal.write(f"\nServing REST on {rest_api_port} and gRPC on {port} until Ctrl-C.\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
