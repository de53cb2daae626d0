"""What goes wrong before a server is up is one clear line, a non-zero exit, and nothing left behind."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.cluster.aspired_server import AspiredServer, command, free_port

pytestmark = pytest.mark.timeout(180)


def error_of(state: Path, *flags: str) -> str:
    ended = command("serve", *flags, state=state)
    assert ended.returncode in (1, 2)
    assert "Traceback" not in ended.stderr + ended.stdout
    errors = [line for line in ended.stderr.splitlines() if "error" in line]
    assert len(errors) == 1, ended.stderr
    return errors[0]


def test_an_unknown_flag_names_the_nearest_known_one(state: Path) -> None:
    assert "--model_base_path" in error_of(state, "--model_bse_path=/tmp/x")


def test_an_unparsable_config_shows_protobufs_own_message(state: Path, tmp_path: Path) -> None:
    config = tmp_path / "models.config"
    config.write_text("model_config_list { config { nme: 'a' } }")
    message = error_of(state, f"--model_config_file={config}")
    assert "Error parsing text-format tensorflow.serving.ModelServerConfig: 1:" in message
    assert "nme" in message


def test_a_taken_port_is_named_with_its_flag(state: Path, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        message = error_of(
            state, f"--model_base_path={tmp_path}", f"--rest_api_port={port}", f"--port={free_port()}", "--host=127.0.0.1"
        )
    assert f"port {port}" in message
    assert "--rest_api_port" in message


def test_no_ray_at_the_address_says_how_to_start_one(state: Path, tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    message = error_of(state, f"--model_base_path={tmp_path}", f"--ray_address={address}", f"--port={free_port()}")
    assert address in message
    assert "ray start" in message


def test_a_missing_model_directory_is_waited_for_and_then_served(exports: Path, models: Path, state: Path) -> None:
    server = AspiredServer(state, "--model_name=half_plus_two", f"--model_base_path={models / 'late'}")
    try:
        server.wait_ready()
        assert "waiting for versions in" in server.output
        assert str(models / "late") in server.output
        assert server.predict("half_plus_two", [2.0])[0] == 404
        (models / "late").mkdir()
        (exports / "1").rename(models / "late" / "1")
        server.wait_state("half_plus_two", 1, "AVAILABLE")
        assert server.predict("half_plus_two", [2.0]) == (200, {"predictions": [2.0]})
        took_s = server.stop()
    finally:
        server.stop()
    assert server.process.returncode == 0
    assert took_s < 60
