"""A model on a server, as a publisher asks for it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

from cluster.client.client import Client
from cluster.client.model_status import VersionStatus
from cluster.core.errors import InvalidArgument, NotFound
from cluster.core.servable_state import PublicState


class ServedModel:
    """Asks one server, or the nodes of one cluster, for one model. `server` is its name for people."""

    def __init__(self, client: Client, server: str, model: str) -> None:
        self.server = server
        self._client = client
        self._model = model

    def statuses(self) -> list[VersionStatus]:
        """What the server knows of the model's versions; nothing where it has none of them yet."""
        try:
            return self._client.status(self._model)
        except NotFound:
            return []

    def served(self) -> Mapping[int, str]:
        """The versions that the server has or is about to have, each with its state. What a label stands for is among them."""
        return {status.version: status.state.name for status in self.statuses() if status.state is not PublicState.END}

    def wait_until_available(self, version: int, timeout_s: float) -> None:
        """Raises FailedPrecondition with the server's error when its load fails, DeadlineExceeded after `timeout_s`."""
        self._client.wait_until_available(self._model, version, timeout_s=timeout_s, fail_fast=True)


@contextlib.contextmanager
def served_model(server: str | Sequence[str] | None, model: str | None, base_path: str) -> Iterator[ServedModel | None]:
    """The model on a server, by default the one that is called as the base path ends; None when no server is named."""
    if server is None:
        if model is not None:
            raise InvalidArgument(f"model {model} is a name on a server: name the server too, or leave it out")
        yield None
        return
    with Client(server) as client:
        name = server if isinstance(server, str) else ", ".join(server)
        yield ServedModel(client, name, model or base_path.rstrip("/").rpartition("/")[2])
