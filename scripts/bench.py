"""The part of scripts/bench that runs in the environment: starts the servers, drives wrk and h2load, prints the table."""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cluster import protos
from cluster.terminal import Terminal
from scripts.sample_models import export_half_plus_two, export_mlp

_START_TIMEOUT_S = 180.0
_WARM_UP_S = 2
_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3}

_IN_PROCESS = """
import json, sys, time
import numpy as np
import tensorflow as tf
from servables.saved_model.saved_model_servable import load_saved_model
from servables.servable import PlatformOptions

def rate(call, seconds):
    call()
    calls, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < seconds:
        call()
        calls += 1
    return calls / (time.perf_counter() - begun)

out = {}
for name, path, shape in json.loads(sys.argv[1]):
    array = np.ones(shape, np.float32)
    signature = tf.saved_model.load(path).signatures["serving_default"]
    alias = list(signature.structured_input_signature[1])[0]
    tensor = tf.constant(array)
    servable = load_saved_model(path, PlatformOptions())
    outputs = list(servable.signatures["serving_default"].outputs)
    seconds = float(sys.argv[2])
    out[name] = [
        rate(lambda: signature(**{alias: tensor}), seconds),
        rate(lambda: servable.run("serving_default", {alias: array}, outputs, None), seconds),
    ]
print(json.dumps(out))
"""


@dataclass(frozen=True, slots=True)
class Cell:
    """One measurement; latencies in milliseconds, None where one thread calls without a network."""

    server: str
    protocol: str
    model: str
    connections: int
    requests_per_s: float
    p50_ms: float | None
    p99_ms: float | None
    errors: int = 0


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--seconds", type=int, default=5, help="of each measurement (default 5)")
    parser.add_argument("--connections", default="1,32,128", help="how many, for each measurement (default 1,32,128)")
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    terminal = Terminal()
    connections = [int(each) for each in options.connections.split(",")]
    cells: list[Cell] = []
    try:
        with tempfile.TemporaryDirectory(prefix="aspired-bench-") as directory:
            work = Path(directory)
            half_plus_two = export_half_plus_two(work / "half_plus_two", 1)
            mlp = export_mlp(work / "mlp", 1)
            with terminal.step("in-process TensorFlow"):
                cells += _in_process(half_plus_two, mlp, options.seconds)
            with terminal.step("the tutorial's Ray Serve application"), _tutorial(half_plus_two) as port:
                for count in connections:
                    cells.append(_wrk("tutorial", port, "half_plus_two", _half_plus_two_json(), count, options.seconds, work))
            with terminal.step("Aspired"), _aspired(work) as (rest_port, grpc_port):
                for model, text, framed in (
                    ("half_plus_two", _half_plus_two_json(), _framed("half_plus_two", "x", [1.0, 2.0, 5.0], (3, 1))),
                    ("mlp", _mlp_json(), _framed("mlp", "image", [0.5] * 784, (1, 784))),
                ):
                    for count in connections:
                        cells.append(_wrk("aspired", rest_port, model, text, count, options.seconds, work))
                        cells.append(_h2load(grpc_port, model, framed, count, options.seconds, work))
    except KeyboardInterrupt:
        return 130
    _show(terminal, cells)
    if options.json:
        Path(options.json).write_text(json.dumps([asdict(cell) for cell in cells], indent=1) + "\n")
    return 1 if any(cell.errors for cell in cells) else 0


def _half_plus_two_json() -> str:
    return '{"instances": [1.0, 2.0, 5.0]}'


def _mlp_json() -> str:
    return json.dumps({"instances": [[0.5] * 784]})


def _framed(model: str, alias: str, values: Sequence[float], shape: tuple[int, ...]) -> bytes:
    """A PredictRequest as gRPC puts it on the wire."""
    request = protos.PredictRequest()
    request.model_spec.name = model
    tensor = request.inputs[alias]
    tensor.dtype = 1
    for size in shape:
        tensor.tensor_shape.dim.add(size=size)
    tensor.float_val.extend(values)
    body = request.SerializeToString()
    return struct.pack(">BI", 0, len(body)) + bytes(body)


def _in_process(half_plus_two: Path, mlp: Path, seconds: int) -> list[Cell]:
    models = [("half_plus_two", str(half_plus_two), (3, 1)), ("mlp", str(mlp), (1, 784))]
    ended = subprocess.run(
        [sys.executable, "-c", _IN_PROCESS, json.dumps(models), str(min(seconds, 3))],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": "."},
    )
    rates = json.loads(ended.stdout.splitlines()[-1])
    return [
        Cell(f"in process, {path}", "-", model, 1, rate, None, None)
        for model, pair in rates.items()
        for path, rate in zip(("signature function", "session callable"), pair, strict=True)
    ]


@contextmanager
def _started(command: Sequence[str], ready: str, environment: dict[str, str]) -> Iterator[None]:
    """A process that has said `ready`, in a session of its own; stopped by SIGTERM."""
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env={**os.environ, **environment},
        )
        try:
            deadline = time.monotonic() + _START_TIMEOUT_S
            while ready not in _read(output):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"{' '.join(command)} has not come up:\n{_read(output)}")
                time.sleep(0.2)
            yield
        finally:
            if process.stdin is not None:
                process.stdin.close()
            process.send_signal(signal.SIGTERM)
            process.wait(90)


def _read(output: Any) -> str:
    output.seek(0)
    return str(output.read())


@contextmanager
def _tutorial(half_plus_two: Path) -> Iterator[int]:
    port = _free_port()
    command = [sys.executable, "scripts/tutorial_application.py", str(half_plus_two), str(port)]
    with _started(command, "ready", {}):
        yield port


@contextmanager
def _aspired(work: Path) -> Iterator[tuple[int, int]]:
    rest_port, grpc_port = _free_port(), _free_port()
    config = work / "models.config"
    models = "".join(
        f'config {{ name: "{name}" base_path: "{work / name}" model_platform: "tensorflow" }} '
        for name in ("half_plus_two", "mlp")
    )
    config.write_text(f"model_config_list {{ {models} }}")
    command = [sys.executable, "-m", "cluster.main", "serve", "--host=127.0.0.1", f"--model_config_file={config}"]
    command += [f"--rest_api_port={rest_port}", f"--port={grpc_port}"]
    with _started(command, " is ready: ", {"XDG_STATE_HOME": str(work / "state")}):
        yield rest_port, grpc_port


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wrk(server: str, port: int, model: str, body: str, connections: int, seconds: int, work: Path) -> Cell:
    script = work / "request.lua"
    script.write_text(f"wrk.method = 'POST'\nwrk.body = '{body}'\nwrk.headers['Content-Type'] = 'application/json'\n")
    url = f"http://127.0.0.1:{port}/v1/models/{model}:predict"
    for duration in (_WARM_UP_S, seconds):
        command = ["wrk", "-t1", f"-c{connections}", f"-d{duration}s", "--latency", "-s", str(script), url]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    errors = re.search(r"Non-2xx or 3xx responses: (\d+)", told)
    return Cell(
        server,
        "REST",
        model,
        connections,
        float(_found(r"Requests/sec:\s+([\d.]+)", told)),
        _milliseconds(_found(r"50%\s+([\d.]+\w+)", told)),
        _milliseconds(_found(r"99%\s+([\d.]+\w+)", told)),
        int(errors.group(1)) if errors else 0,
    )


def _h2load(port: int, model: str, framed: bytes, connections: int, seconds: int, work: Path) -> Cell:
    """h2load with one request in flight on each connection; its log has each request's microseconds."""
    body, log = work / "request.bin", work / "h2load.log"
    body.write_bytes(framed)
    for duration in (_WARM_UP_S, seconds):
        log.unlink(missing_ok=True)
        command = ["h2load", f"-c{connections}", "-m1", f"-D{duration}", "-d", str(body), f"--log-file={log}"]
        command += ["-H", "content-type: application/grpc", "-H", "te: trailers"]
        command.append(f"http://127.0.0.1:{port}/tensorflow.serving.PredictionService/Predict")
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = [line.split("\t") for line in log.read_text().splitlines()]
    micros = sorted(int(row[2]) for row in rows)
    failed = int(_found(r"requests: .* (\d+) failed", told)) + sum(row[1] != "200" for row in rows)
    return Cell(
        "aspired",
        "gRPC",
        model,
        connections,
        float(_found(r"finished in .*, ([\d.]+) req/s", told)),
        micros[len(micros) // 2] / 1e3,
        micros[len(micros) * 99 // 100] / 1e3,
        failed,
    )


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    if match is None:
        raise SystemExit(f"cannot read what the load generator said:\n{text}")
    return match.group(1)


def _milliseconds(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s)", text).groups()  # type: ignore[union-attr]
    return float(number) * _UNITS[unit]


def _show(terminal: Terminal, cells: Sequence[Cell]) -> None:
    baseline = {cell.connections: cell.requests_per_s for cell in cells if cell.server == "tutorial"}
    rows = []
    for cell in cells:
        comparable = cell.server == "aspired" and (cell.protocol, cell.model) == ("REST", "half_plus_two")
        ratio = cell.requests_per_s / baseline[cell.connections] if comparable and cell.connections in baseline else None
        rows.append(
            (
                cell.server,
                cell.protocol,
                cell.model,
                str(cell.connections),
                f"{cell.requests_per_s:,.0f}",
                "-" if cell.p50_ms is None else f"{cell.p50_ms:.2f}",
                "-" if cell.p99_ms is None else f"{cell.p99_ms:.2f}",
                "-" if ratio is None else f"{ratio:.1f}x",
                str(cell.errors or "-"),
            )
        )
    terminal.table(
        ("SERVER", "PROTOCOL", "MODEL", "CONNECTIONS", "REQUESTS/S", "P50 MS", "P99 MS", "TO TUTORIAL", "ERRORS"), rows
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
