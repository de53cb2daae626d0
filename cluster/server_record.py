"""What a server leaves for those who look for it: in the cluster's key-value store, and on the machine it was started on."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError


class ServerRecord(BaseModel):
    """One running server.

    `ray_address` is the GCS's HOST:PORT. `owns_ray`: Ray was started for this server and ends with it; `owns_serve`: so was
    Serve.
    `host_pid` is the process that hosts the server on the machine it was started on, `host_started` tells that process from a
    later one of the same number; both are 0 once the server has been left to the cluster.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    ray_address: str
    listen_address: str
    grpc_port: int
    rest_api_port: int
    owns_ray: bool
    owns_serve: bool
    host_pid: int = 0
    host_started: int = 0
    log_path: str = ""


def state_directory() -> Path:
    """Where this user's servers leave their records and logs."""
    home = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(home) / "aspired"


def process_started(pid: int) -> int:
    """When a process of this machine began, in the kernel's clock ticks since boot; 0 when there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    # The name in parentheses may hold anything; the 20th field after it is starttime.
    return int(stat.rpartition(")")[2].split()[19])


def processes_of_session(session: int) -> list[int]:
    """The processes of this machine that belong to a session and run (a zombie does not)."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            state, _, _, of = (directory / "stat").read_text().rpartition(")")[2].split()[:4]
        except OSError:  # it has ended meanwhile
            continue
        if int(of) == session and state != "Z":
            found.append(int(directory.name))
    return found


class ServerRecords:
    """The records of the servers that were started on this machine by this user, one file each."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory / "servers"

    def save(self, record: ServerRecord) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        path = self._path(record)
        temporary = path.with_suffix(".new")
        temporary.write_text(record.model_dump_json(indent=1))
        temporary.replace(path)

    def delete(self, record: ServerRecord) -> None:
        self._path(record).unlink(missing_ok=True)

    def load(self) -> list[ServerRecord]:
        """The records whose host still runs, or whose server was left to its cluster; forgets the others."""
        records = []
        for path in sorted(self._directory.glob("*.json")):
            try:
                record = ServerRecord.model_validate_json(path.read_text())
            except (OSError, ValidationError):
                continue
            if record.host_pid and process_started(record.host_pid) != record.host_started:
                path.unlink(missing_ok=True)
            else:
                records.append(record)
        return records

    def _path(self, record: ServerRecord) -> Path:
        return self._directory / f"{record.name}@{record.ray_address.replace(':', '_')}.json"
