"""A model on a server, as a publisher asks for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from cluster.client.client import Client
from cluster.client.model_status import VersionStatus
from cluster.core.errors import NotFound
from cluster.core.servable_state import PublicState


class ServedModel:
    """Asks one server, or the nodes of one cluster, for one model. A context manager, which closes its connections."""

    def __init__(self, server: str | Sequence[str], model: str) -> None:
        self.server = server if isinstance(server, str) else ", ".join(server)
        self.model = model
        self._client = Client(server)

    def statuses(self) -> list[VersionStatus]:
        """What the server knows of the model's versions; nothing where it has none of them yet."""
        try:
            return self._client.status(self.model)
        except NotFound:
            return []

    def served(self) -> Mapping[int, str]:
        """The versions that the server has or is about to have, each with its state. What a label stands for is among them."""
        return {status.version: status.state.name for status in self.statuses() if status.state is not PublicState.END}

    def wait_until_available(self, version: int, timeout_s: float) -> None:
        """Raises FailedPrecondition with the server's error when its load fails, DeadlineExceeded after `timeout_s`."""
        self._client.wait_until_available(self.model, version, timeout_s=timeout_s, fail_fast=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._client.close()
