from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cluster.config.model_config import parse_model_server_config
from cluster.config.native_config import parse_native_config
from cluster.config.server_config import ServerConfig
from cluster.core.errors import FailedPrecondition, Unavailable
from cluster.main import main
from cluster.server_status import ModelStatus, NodeStatus, ResourceTotals, ServerStatus, VersionStatus
from cluster.terminal import Terminal

NODE = NodeStatus(node_id="a1b2c3d4e5f6", address="10.0.0.1", alive=True, frontends=1, gpus=2)
SERVER = ServerStatus(
    server_name="default",
    ray_address="10.0.0.1:6379",
    namespace="aspired",
    started_by_us=True,
    ready=True,
    rest_url="http://10.0.0.1:8501",
    grpc_address="10.0.0.1:8500",
    nodes=(NODE, NodeStatus(node_id="ffffffffffff", address="10.0.0.2", alive=False)),
    models=(
        ModelStatus(
            name="half_plus_two",
            base_path="/models/half_plus_two",
            versions=(
                VersionStatus(
                    version=123,
                    state="AVAILABLE",
                    replicas_ready=2,
                    replicas_wanted=2,
                    nodes=(NODE.node_id,),
                    attempts=1,
                ),
                VersionStatus(
                    version=124, state="END", code="INVALID_ARGUMENT", message="not a\nSavedModel [/m/124]", attempts=6
                ),
            ),
        ),
        ModelStatus(name="lost", base_path="/models/lost", source_error="Could not find base path /models/lost"),
        ModelStatus(name="new", base_path="/models/new"),
    ),
    capacity=ResourceTotals(cpus=8, memory_bytes=32 << 30, gpus=2, gpu_memory_bytes=48 << 30),
    reserved=ResourceTotals(cpus=1.5, memory_bytes=3 << 30, gpus=1, gpu_memory_bytes=6 << 30),
)


@dataclass
class FakeLauncher:
    """Servers that exist only here. `failure` is raised by every command."""

    servers: list[ServerStatus] = field(default_factory=list)
    failure: BaseException | None = None
    served: list[ServerConfig] = field(default_factory=list)
    asked_for: list[tuple[str | None, str | None]] = field(default_factory=list)

    def serve(self, config: ServerConfig) -> int:
        self._fail()
        self.served.append(config)
        return 0

    def status(self, ray_address: str | None, server_name: str | None) -> list[ServerStatus]:
        self._fail()
        self.asked_for.append((ray_address, server_name))
        return [server for server in self.servers if server_name in (None, server.server_name)]

    def shutdown(self, ray_address: str | None, server_name: str | None) -> list[str]:
        return [server.server_name for server in self.status(ray_address, server_name)]

    def _fail(self) -> None:
        if self.failure is not None:
            raise self.failure


@dataclass
class Outcome:
    status: int
    out: str
    err: str


class TerminalFile(io.StringIO):
    """A file that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def run(arguments: Sequence[str], launcher: FakeLauncher | None = None, files: type[io.StringIO] = io.StringIO) -> Outcome:
    out, err = files(), files()
    status = main(arguments, lambda: launcher or FakeLauncher(), Terminal(out, err))
    return Outcome(status, out.getvalue(), err.getvalue())


class TestServe:
    def test_hands_the_launcher_what_the_flags_say(self) -> None:
        launcher = FakeLauncher()
        outcome = run(["serve", "--model_name=m", "--model_base_path", "/models/m", "--rest_api_port=8501"], launcher)
        assert (outcome.status, outcome.out, outcome.err) == (0, "", "")
        (config,) = launcher.served
        assert config.options.rest_api_port == 8501
        assert [model.base_path for model in config.models.models] == ["/models/m"]

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--modle_name=m"], "unknown flag --modle_name; did you mean --model_name?"),
            (["--model_base_path=/m", "--port=x"], "--port=x: expected a whole number from 0 to 65535"),
            (["--model_config_file=/missing"], "--model_config_file=/missing: cannot be read: No such file or directory"),
        ],
    )
    def test_a_wrong_command_line_is_one_line_and_status_2(self, arguments: list[str], message: str) -> None:
        outcome = run(["serve", *arguments])
        assert (outcome.status, outcome.out, outcome.err) == (2, "", f"aspired: error: {message}\n")

    def test_help_teaches_by_example_and_shows_every_group(self) -> None:
        outcome = run(["serve", "--help"])
        assert outcome.status == 0
        assert "aspired serve --model_name=half_plus_two --model_base_path=/models/half_plus_two" in outcome.out
        assert (
            "  --port=PORT\n      TCP port of gRPC; 0 turns it off, then --grpc_socket_path is needed. Default: 8500.\n"
            in outcome.out
        )
        assert "\x1b" not in outcome.out

    def test_help_is_coloured_and_fits_on_a_terminal(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in (("TERM", "xterm-256color"), ("COLUMNS", "80")):
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("NO_COLOR", raising=False)
        outcome = run(["serve", "-h"], files=TerminalFile)
        assert "\x1b[36m--port=PORT\x1b[0m" in outcome.out

    def test_version_names_tensorflow_without_importing_it(self) -> None:
        outcome = run(["serve", "--version"])
        assert outcome.status == 0
        assert [line.split()[0] for line in outcome.out.splitlines()] == ["Aspired", "TensorFlow", "Ray"]
        assert run(["version"]).out == outcome.out


class TestStatus:
    def test_shows_plain_aligned_columns_in_a_pipe(self) -> None:
        outcome = run(["status"], FakeLauncher([SERVER]))
        assert (outcome.status, outcome.err) == (0, "")
        assert outcome.out == (
            "Server default: ready\n"
            "  REST  http://10.0.0.1:8501\n"
            "  gRPC  10.0.0.1:8500\n"
            "  Ray   10.0.0.1:6379 (started by this server), namespace aspired\n"
            "\n"
            "MODEL          VERSION  STATE      REPLICAS  NODES     LOADS  STATUS\n"
            "half_plus_two  124      END        0/0       -         6      INVALID_ARGUMENT: not a SavedModel [/m/124]\n"
            "half_plus_two  123      AVAILABLE  2/2       a1b2c3d4  1      OK\n"
            "lost           -        -          -         -         -      Could not find base path /models/lost\n"
            "new            -        -          -         -         -      no versions in /models/new\n"
            "\n"
            "NODE      ADDRESS   ALIVE  FRONTENDS  GPUS\n"
            "a1b2c3d4  10.0.0.1  yes    1          2\n"
            "ffffffff  10.0.0.2  no     0          0\n"
            "\n"
            "Reserved: 1.5 of 8 CPUs, 3.0 of 32.0 GiB of memory, 1 of 2 GPUs, 6.0 of 48.0 GiB of GPU memory\n"
        )

    def test_shows_a_coloured_table_on_a_terminal(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in (("TERM", "xterm-256color"), ("COLUMNS", "120")):
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("NO_COLOR", raising=False)
        outcome = run(["status"], FakeLauncher([SERVER]), TerminalFile)
        assert "\x1b[32m" in outcome.out
        assert "AVAILABLE" in outcome.out
        assert "SavedModel [/m/124]" in outcome.out, "brackets are no markup"

    def test_json_is_a_list_that_reads_back(self) -> None:
        outcome = run(["status", "--json"], FakeLauncher([SERVER]), TerminalFile)
        assert [ServerStatus.model_validate(server) for server in json.loads(outcome.out)] == [SERVER]

    def test_json_without_a_server_is_an_empty_list(self) -> None:
        assert json.loads(run(["status", "--json"]).out) == []

    def test_asks_for_one_server_of_one_cluster(self) -> None:
        launcher = FakeLauncher([SERVER, SERVER.model_copy(update={"server_name": "other"})])
        outcome = run(["status", "--server_name=other", "--ray_address=h:1"], launcher)
        assert launcher.asked_for == [("h:1", "other")]
        assert outcome.out.startswith("Server other: ready\n")
        assert "Server default" not in outcome.out

    def test_no_server_is_an_error_that_says_where(self) -> None:
        outcome = run(["status", "--ray_address=h:1", "--server_name=x"])
        assert outcome.status == 1
        assert outcome.err == "aspired: error: No server named x runs on h:1; `aspired serve --help` shows how to start one\n"


class TestShutdown:
    def test_names_what_has_stopped(self) -> None:
        assert run(["shutdown"], FakeLauncher([SERVER])).out == "Server default has stopped.\n"

    def test_nothing_to_stop_is_an_error(self) -> None:
        outcome = run(["shutdown"])
        assert outcome.status == 1
        assert outcome.err.startswith("aspired: error: No server runs on the Ray cluster of this machine;")


MODELS_CONFIG = "model_config_list { config { name: 'm' base_path: '/missing/m' model_platform: 'tensorflow' } }"


class TestConfigCheck:
    def test_shows_the_models_of_a_text_file_and_warns_of_base_paths_that_are_not_there(self, tmp_path: Path) -> None:
        file = tmp_path / "models.config"
        file.write_text(MODELS_CONFIG)
        outcome = run(["config", "check", str(file)])
        assert outcome.status == 0
        assert outcome.out == (
            "MODEL  PLATFORM    VERSIONS  LABELS  SETTINGS  BASE PATH\n"
            "m      tensorflow  latest 1  -       -         /missing/m\n"
        )
        assert outcome.err == (
            f"aspired: warning: {file}: model m: there is no directory /missing/m; the server waits for it\n"
        )

    def test_shows_the_models_of_a_native_config(self, tmp_path: Path) -> None:
        file = tmp_path / "models.yaml"
        file.write_text(
            f"models:\n- {{name: a, base_path: {tmp_path}, version_policy: all, replicas: 2, batching: {{}}}}\n"
            f"- {{name: b, base_path: 'file://{tmp_path}', version_policy: {{specific: [3, 1]}}, version_labels: {{old: 1}}}}\n"
            "- {name: c, base_path: 's3://bucket/c', platform: hashmap}"
        )
        outcome = run(["config", "check", str(file)])
        assert (outcome.status, outcome.err) == (0, "")
        assert [line.split("  ")[0] for line in outcome.out.splitlines()] == ["MODEL", "a", "b", "c"]
        assert "replicas, batching" in outcome.out
        assert "1, 3" in outcome.out
        assert "old=1" in outcome.out

    def test_every_error_is_one_line_and_status_2(self, tmp_path: Path) -> None:
        file = tmp_path / "models.yml"
        file.write_text("models:\n- {name: m, base_path: m}\n- {name: n, base_path: /n, replicas: 0}")
        outcome = run(["config", "check", str(file)])
        assert (outcome.status, outcome.out) == (2, "")
        assert outcome.err.splitlines() == [
            f"aspired: error: {file}:2: models[0].base_path: expected an absolute path or a URI, as in /models/my_model",
            f"aspired: error: {file}:3: models[1].replicas: expected 1 or more",
        ]

    @pytest.mark.parametrize(
        ("name", "text", "words"),
        [
            ("models.config", "models: []", "models: this is a native config; its name must end in .yaml or .yml"),
            ("models.config", "nonsense", "Error parsing text-format tensorflow.serving.ModelServerConfig: 1:1 :"),
            ("models.yaml", MODELS_CONFIG, "model_config_list: this is TensorFlow Serving's text form;"),
        ],
    )
    def test_a_file_of_the_wrong_form_is_told_so(self, tmp_path: Path, name: str, text: str, words: str) -> None:
        (tmp_path / name).write_text(text)
        outcome = run(["config", "check", str(tmp_path / name)])
        assert outcome.status == 2
        assert words in outcome.err
        assert len(outcome.err.splitlines()) == 1

    def test_a_file_that_cannot_be_read_is_an_error(self) -> None:
        outcome = run(["config", "check", "/missing.yaml"])
        assert (outcome.status, outcome.err) == (
            2,
            "aspired: error: /missing.yaml: cannot be read: No such file or directory\n",
        )

    def test_a_file_without_models_is_told(self, tmp_path: Path) -> None:
        (tmp_path / "none.yaml").write_text("models: []")
        assert run(["config", "check", f"{tmp_path}/none.yaml"]).out == f"{tmp_path}/none.yaml lists no models\n"

    def test_json_holds_models_errors_and_warnings(self, tmp_path: Path) -> None:
        file = tmp_path / "models.yaml"
        file.write_text("models: [{name: m, base_path: /missing/m, batching: {max_batch_size: 4}}]")
        outcome = run(["config", "check", "--json", str(file)])
        assert (outcome.status, outcome.err) == (0, "")
        assert json.loads(outcome.out) == {
            "file": str(file),
            "models": [
                {
                    "name": "m",
                    "base_path": "/missing/m",
                    "platform": "tensorflow",
                    "version_policy": "latest",
                    "batching": {"max_batch_size": 4},
                }
            ],
            "errors": [],
            "warnings": [f"{file}: model m: there is no directory /missing/m; the server waits for it"],
        }
        file.write_text("models: 3")
        outcome = run(["config", "check", "--json", str(file)])
        assert (outcome.status, outcome.err) == (2, "")
        assert json.loads(outcome.out)["errors"] == [f"{file}:1: models: expected a list"]


class TestConfigConvert:
    def test_prints_a_native_config_of_the_same_models(self, tmp_path: Path) -> None:
        file = tmp_path / "models.config"
        file.write_text(MODELS_CONFIG)
        outcome = run(["config", "convert", str(file)])
        assert (outcome.status, outcome.err) == (0, "")
        assert parse_native_config(outcome.out, "models.yaml") == parse_model_server_config(MODELS_CONFIG, "models.config")

    @pytest.mark.parametrize(
        ("name", "text", "message"),
        [
            ("models.yaml", "models: []", "{file} is a native config already"),
            ("models.config", "models: []", "{file}: models: this is a native config; its name must end in .yaml or .yml"),
            ("models.config", "custom_model_config {}", "ModelServerConfig::custom_model_config is not supported: "),
        ],
    )
    def test_what_cannot_be_converted_is_one_line_and_status_2(
        self, tmp_path: Path, name: str, text: str, message: str
    ) -> None:
        file = tmp_path / name
        file.write_text(text)
        outcome = run(["config", "convert", str(file)])
        assert (outcome.status, outcome.out) == (2, "")
        assert outcome.err.startswith("aspired: error: " + message.format(file=file))
        assert len(outcome.err.splitlines()) == 1


class TestFailures:
    @pytest.mark.parametrize("group", [[], ["config"]])
    def test_no_command_shows_those_that_there_are(self, group: list[str]) -> None:
        outcome = run(group)
        assert (outcome.status, outcome.out) == (2, "")
        assert outcome.err.startswith(" ".join(["Usage: aspired", *group]))
        assert "\nCommands:\n" in outcome.err

    def test_a_deliberate_error_is_one_line_and_status_1(self) -> None:
        outcome = run(["status"], FakeLauncher(failure=Unavailable("the cluster\ndoes not answer")))
        assert (outcome.status, outcome.err) == (1, "aspired: error: the cluster does not answer\n")

    def test_the_launchers_refusal_keeps_its_text(self) -> None:
        outcome = run(["serve", "--model_base_path=/m"], FakeLauncher(failure=FailedPrecondition("port 8500 is taken [by 1]")))
        assert (outcome.status, outcome.err) == (1, "aspired: error: port 8500 is taken [by 1]\n")

    def test_ctrl_c_is_status_130_without_a_word(self) -> None:
        outcome = run(["status"], FakeLauncher(failure=KeyboardInterrupt()))
        assert outcome.status == 130
        assert outcome.err.strip() == ""

    def test_a_bug_is_one_line_and_its_traceback_is_kept(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        outcome = run(["status"], FakeLauncher(failure=ZeroDivisionError("division by zero")))
        assert outcome.status == 1
        (kept,) = tmp_path.glob("aspired-error-*.log")
        assert outcome.err == (
            f"aspired: error: ZeroDivisionError: division by zero (this is a bug in Aspired; the traceback is in {kept})\n"
        )
        assert "Traceback" in kept.read_text()

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["--model_name=m"], "The server's flags follow the word serve: aspired serve --model_name=..."),
            (["frobnicate"], "No such command 'frobnicate'"),
            (["status", "--jsno"], "--jsno"),
        ],
    )
    def test_a_wrong_command_is_one_line_and_status_2(self, arguments: list[str], words: str) -> None:
        outcome = run(arguments)
        assert outcome.status == 2
        assert words.lower() in outcome.err.lower()
        assert len(outcome.err.splitlines()) == 1


def test_the_module_runs_as_a_script_and_needs_neither_ray_nor_tensorflow() -> None:
    code = (
        "import sys; sys.argv = ['aspired', '--help']; from cluster.main import main; status = main(); "
        "print(sorted({'ray', 'tensorflow', 'grpc'} & sys.modules.keys()), status)"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    assert finished.stdout.splitlines()[-1] == "[] 0"
    assert "aspired serve --model_name=half_plus_two" in finished.stdout
    for command in ("serve", "status", "shutdown", "version"):
        assert command in finished.stdout
