"""What `aspired status` tells of a server: plain data that any shell can fill in and any reader can parse."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class _Status(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ResourceTotals(_Status):
    """An amount of everything that the ledger accounts for."""

    cpus: float = 0.0
    memory_bytes: int = 0
    gpus: int = 0
    gpu_memory_bytes: int = 0


class NodeStatus(_Status):
    """One node of the Ray cluster. `node_id` is Ray's hex id; `frontends` that answer and `gpus` that are ours are counted."""

    node_id: str
    address: str
    alive: bool
    frontends: int = 0
    gpus: int = 0


class FetchStatus(_Status):
    """How far the nodes are that fetch a version from where it is stored: see `FetchProgress`."""

    bytes_done: int
    bytes_total: int
    bytes_per_s: float = 0.0
    trouble: str = ""


class VersionStatus(_Status):
    """One model version. `state` is TF Serving's (START ... END), `code` and `message` are the status beside it.

    `nodes` are the ids of those that hold a replica; `attempts` counts the loads begun. `caller_thread_signatures` are those of
    which some requests were found to run quicker without handing them to TensorFlow's threads. `fetch` is set while nodes fetch
    its files.
    """

    version: int
    state: str
    code: str = "OK"
    message: str = ""
    replicas_ready: int = 0
    replicas_wanted: int = 0
    nodes: tuple[str, ...] = ()
    attempts: int = 0
    caller_thread_signatures: tuple[str, ...] = ()
    fetch: FetchStatus | None = None


class ModelStatus(_Status):
    """One model with its versions. `source_error` is why its base path could not be read at the last poll."""

    name: str
    base_path: str
    source_error: str = ""
    versions: tuple[VersionStatus, ...] = ()


class ServerStatus(_Status):
    """One server. `ready`: the ports are open. `rest_url` and `grpc_address` are empty where the protocol is off.

    `started_by_us`: the Ray cluster was started for this server and ends with it. `models_error`: what is wrong with the config
    file or the repository that tells the models.
    """

    server_name: str
    ray_address: str
    namespace: str
    started_by_us: bool
    ready: bool
    rest_url: str = ""
    grpc_address: str = ""
    nodes: tuple[NodeStatus, ...] = ()
    models: tuple[ModelStatus, ...] = ()
    models_error: str = ""
    capacity: ResourceTotals = ResourceTotals()
    reserved: ResourceTotals = ResourceTotals()
