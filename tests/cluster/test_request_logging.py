"""Logged requests of a real server: turned on by a reload, complete when it has stopped, and what warms a version up."""

from __future__ import annotations

import io
import json
import os
import secrets
from pathlib import Path

import pytest

from cluster.protos import PredictionLog
from scripts.sample_models import export_half_plus_two
from servables.tf_record import read_records
from tests.cluster.aspired_server import AspiredServer, pid_of, wait_until

pytestmark = pytest.mark.timeout(300)


class World:
    def __init__(self, directory: Path) -> None:
        self.models = directory / "models" / "m"
        self.logs = directory / "logs"
        self.file = directory / "models.config"
        # Its processes are to be told from those of other tests on the machine.
        self.name = f"log-{secrets.token_hex(4)}"

    def configure(self, logging_config: str) -> None:
        """Replaces the file in one step, as an editor does."""
        fresh = self.file.with_suffix(".new")
        fresh.write_text(
            f"model_config_list {{ config {{ name: 'm' base_path: '{self.models}' model_platform: 'tensorflow' "
            f"{logging_config} }} }}"
        )
        fresh.replace(self.file)

    def serve(self, state: Path) -> AspiredServer:
        return AspiredServer(
            state,
            f"--model_config_file={self.file}",
            "--model_config_file_poll_wait_seconds=1",
            f"--server_name={self.name}",
            "--access_log",
            "--log_format=json",
        )

    def started_files(self) -> list[Path]:
        return sorted(self.logs.iterdir()) if self.logs.exists() else []

    def logged(self) -> list[PredictionLog]:
        records = [record for path in self.started_files() for record in read_records(io.BytesIO(path.read_bytes()))]
        return [PredictionLog.FromString(record) for record in records]


def test_requests_are_logged_from_a_reload_on_and_nothing_is_lost_when_the_server_stops(tmp_path: Path) -> None:
    world = World(tmp_path)
    export_half_plus_two(world.models, 1)
    world.configure("")
    server = world.serve(tmp_path / "state")
    try:
        server.wait_ready()
        assert server.predict("m", [1.0])[0] == 200
        world.configure(
            f"logging_config {{ log_collector_config {{ filename_prefix: '{world.logs}/m' }} "
            "sampling_config { sampling_rate: 1 } }"
        )
        asked = 1

        def logged() -> bool:
            nonlocal asked
            assert server.predict("m", [1.0, 2.0])[0] == 200
            asked += 1
            return bool(world.started_files())

        wait_until(logged, what="a file of logged requests")
        for _ in range(50):
            assert server.predict("m", [3.0])[0] == 200
        access_log = Path(os.readlink(f"/proc/{pid_of(f'ServeReplica:{world.name}.frontend')}/fd/2"))
    finally:
        server.stop()
    assert all(path.suffix == ".tfrecord" for path in world.started_files())
    logs = world.logged()
    assert len(logs) > 50
    assert {log.log_metadata.model_spec.version.value for log in logs} == {1}
    lines = [json.loads(line) for line in access_log.read_text().splitlines() if '"request"' in line]
    assert len([line for line in lines if line["path"] == "/v1/models/m:predict"]) == asked + 50
    assert {(line["status"], line["model"], line["version"]) for line in lines} == {(200, "m", 1)}
