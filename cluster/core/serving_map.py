"""Who answers for what: the one value that frontends route by.

The manager publishes a `ServingMap`, every frontend holds the last one it got, and resolving a request
is a dictionary look-up without any RPC. A map is replaced whole; nobody changes one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cluster.core.errors import InvalidArgument, NotFound
from cluster.core.request_logging import RequestLogging
from cluster.core.servable_id import ServableId
from cluster.core.servable_state import ServableState


@dataclass(frozen=True, slots=True, order=True)
class Epoch:
    """Which map this is. `incarnation` changes when the publisher restarts, so compare for difference, never order."""

    incarnation: str = ""
    number: int = 0


@dataclass(frozen=True, slots=True)
class Lane:
    """Where one replica takes frames directly: a UNIX socket on its node, and TCP for the others (`port` 0: it does not).

    `path` names the socket, a file or, where it begins with a zero byte, none.

    `secret` admits to it: it must get nowhere but into frontends. `encrypted`: TCP speaks TLS.
    """

    replica_id: str
    node_id: str
    path: str
    host: str
    port: int
    secret: bytes = field(repr=False)
    encrypted: bool = False


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where frames for a version go: one group of replicas, all on one node, that share a queue in Serve.

    `application` and `deployment` name a Serve deployment; `node_id` is Ray's hex id of its node;
    `replicas` is how many of them answered when the map was made; Serve replaces one that dies under the same name.
    `lanes` are the ways past Serve to those that have one.
    """

    application: str
    deployment: str
    node_id: str
    replicas: int
    lanes: tuple[Lane, ...] = ()


@dataclass(frozen=True, slots=True)
class ServableEntry:
    """One routable version, by the newest of its copies that is ready (`CopyId`).

    `signatures` is opaque here (see `servables.signatures.encode`): this package knows no tensors.
    `deterministic` says that no op of the graph keeps state, so a request that never got an answer may be sent again.
    """

    id: ServableId
    endpoints: tuple[Endpoint, ...]
    signatures: bytes = b""
    deterministic: bool = False
    copy: int = 0


@dataclass(frozen=True, slots=True)
class ServingMap:
    """The routable versions, the public state of all versions, and whether the ports should be open.

    `labels`: model -> label -> version, of every configured model, those without versions too. `request_logging`: of those
    whose requests are logged.
    """

    epoch: Epoch = Epoch()
    entries: Mapping[ServableId, ServableEntry] = field(default_factory=dict)
    states: tuple[ServableState, ...] = ()
    labels: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    request_logging: Mapping[str, RequestLogging] = field(default_factory=dict)
    accepting: bool = False

    def resolve(self, name: str, version: int | None = None, label: str | None = None) -> ServableEntry:
        """The entry for a request: the given version, the labelled one, else the largest that is routable.

        Raises NotFound, or InvalidArgument for an unknown label, with TF Serving's texts
        (`model_servers/server_core.cc`).
        """
        if label is not None:
            labelled = self.labels.get(name, {}).get(label)
            if labelled is None:
                raise InvalidArgument(f"Unrecognized servable version label: {label}")
            version = labelled
        if version is None:
            latest = self.latest().get(name)
            if latest is None:
                raise NotFound(f"Servable not found for request: Latest({name})")
            return latest
        entry = self.entries.get(ServableId(name, version))
        if entry is None:
            raise NotFound(f"Servable not found for request: Specific({name}, {version})")
        return entry

    def latest(self) -> Mapping[str, ServableEntry]:
        """Stream name -> entry of its largest routable version. A frontend keeps the result beside its map."""
        latest: dict[str, ServableEntry] = {}
        for servable, entry in self.entries.items():
            held = latest.get(servable.name)
            if held is None or held.id.version < servable.version:
                latest[servable.name] = entry
        return latest
