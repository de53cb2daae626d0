"""The container: its entry point run with a stand-in for `aspired`, its Dockerfile and manifest read."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.config.flags import parse_flags
from cluster.config.server_options import ServerOptions

ROOT = Path(__file__).parents[2]
ENTRY_POINT = ROOT / "scripts" / "docker_entrypoint"
PORTS = {8500, 8501}
STAND_IN = f"""#!{sys.executable}
import json, os, signal, sys
signal.signal(signal.SIGTERM, lambda *_: (os.write(1, b"terminated\\n"), os._exit(7)))
print(json.dumps([os.getpid(), *sys.argv[1:]]), flush=True)
signal.pause()
"""


class Started:
    """The entry point, running."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.pid, *self.arguments = json.loads(self.line())

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    stand_in = tmp_path / "aspired"
    stand_in.write_text(STAND_IN)
    stand_in.chmod(0o755)
    processes: list[subprocess.Popen[str]] = []

    def start(*arguments: str, **environment: str) -> Started:
        environment["PATH"] = f"{tmp_path}:{os.environ['PATH']}"
        processes.append(subprocess.Popen([ENTRY_POINT, *arguments], env=environment, stdout=subprocess.PIPE, text=True))
        return Started(processes[-1])

    yield start
    for process in processes:
        process.kill()
        process.communicate()


class TestEntryPoint:
    def test_serves_the_model_of_the_image_where_nothing_is_said(self, start: Any) -> None:
        assert start().arguments == [
            "serve",
            "--port=8500",
            "--rest_api_port=8501",
            "--model_name=model",
            "--model_base_path=/models/model",
        ]

    def test_takes_the_model_from_the_environment_and_adds_its_arguments_as_they_are(self, start: Any) -> None:
        started = start("--host=::", "two words", MODEL_NAME="my model", MODEL_BASE_PATH="s3://bucket")
        assert started.arguments[3:] == [
            "--model_name=my model",
            "--model_base_path=s3://bucket/my model",
            "--host=::",
            "two words",
        ]

    def test_an_argument_wins_over_the_entry_points_own(self, start: Any) -> None:
        _, *flags = start("--rest_api_port=9000").arguments
        parsed = parse_flags(flags)
        assert isinstance(parsed, ServerOptions)
        assert parsed.rest_api_port == 9000

    def test_becomes_aspired_so_that_signals_arrive(self, start: Any) -> None:
        started = start()
        assert started.pid == started.process.pid
        started.process.send_signal(signal.SIGTERM)
        assert started.line() == "terminated\n"
        assert started.process.wait(30) == 7


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions with what follows them."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]
    return [(name, rest) for name, rest in lines]


def of(name: str) -> list[str]:
    return [rest for instruction, rest in instructions() if instruction == name]


class TestDockerfile:
    def test_the_base_image_is_named_plainly_with_a_version(self) -> None:
        assert [re.fullmatch(r"python:3\.\d+-slim", image) is not None for image in of("FROM")] == [True]

    def test_what_it_copies_exists_and_reaches_the_build(self) -> None:
        admitted = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
        copied = {source for copy in of("COPY") for source in shlex.split(copy)[:-1]}
        assert copied == admitted
        assert all((ROOT / source).exists() for source in copied)

    def test_packages_are_those_that_were_tested(self) -> None:
        installs = [run for run in of("RUN") if "pip install" in run]
        assert installs
        assert all("-c constraints.txt" in install for install in installs)

    def test_it_does_not_run_as_root(self) -> None:
        (user,) = of("USER")
        assert user not in ("root", "0")
        assert f"useradd --create-home --uid 1000 {user}" in " ".join(of("RUN"))

    def test_the_entry_point_is_there_executable_and_no_shell_stands_before_it(self) -> None:
        (entry_point,) = map(json.loads, of("ENTRYPOINT"))
        assert f"scripts/{ENTRY_POINT.name} /usr/local/bin/{entry_point[0]}" in of("COPY")
        assert os.access(ENTRY_POINT, os.X_OK)

    def test_it_tells_its_ports_and_how_it_is(self) -> None:
        (exposed,) = of("EXPOSE")
        assert set(map(int, exposed.split())) == PORTS
        (check,) = of("HEALTHCHECK")
        code = json.loads(check[check.index("[") :])[2]
        compile(code, "HEALTHCHECK", "exec")
        assert "http://127.0.0.1:8501/v1/health/live" in code


class TestKubernetesManifest:
    @pytest.fixture
    def pod(self) -> Any:
        documents = list(yaml.safe_load_all((ROOT / "configs" / "kubernetes.yaml").read_text()))
        (deployment,) = [document for document in documents if document["kind"] == "Deployment"]
        return deployment["spec"]["template"]["spec"]

    def test_its_flags_are_flags_without_a_warning(self, pod: Any) -> None:
        parsed = parse_flags(pod["containers"][0]["args"])
        assert isinstance(parsed, ServerOptions)

    def test_a_pod_has_time_to_drain(self, pod: Any) -> None:
        parsed = parse_flags(pod["containers"][0]["args"])
        assert isinstance(parsed, ServerOptions)
        pause_s = int(pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])
        assert pod["terminationGracePeriodSeconds"] > pause_s + parsed.drain_timeout_s

    def test_probes_ask_on_the_rest_port(self, pod: Any) -> None:
        container = pod["containers"][0]
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        assert set(ports.values()) == PORTS
        probes = {name: container[name]["httpGet"] for name in ("startupProbe", "readinessProbe", "livenessProbe")}
        assert {ports[probe["port"]] for probe in probes.values()} == {8501}
        assert [probe["path"] for probe in probes.values()] == ["/v1/health/live", "/v1/health/ready", "/v1/health/live"]

    def test_the_object_store_fits_into_shared_memory(self, pod: Any) -> None:
        parsed = parse_flags(pod["containers"][0]["args"])
        assert isinstance(parsed, ServerOptions)
        (shm,) = [volume["emptyDir"] for volume in pod["volumes"] if volume["name"] == "shm"]
        assert int(shm["sizeLimit"].removesuffix("Gi")) << 30 > parsed.object_store_memory_bytes
