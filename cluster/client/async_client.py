"""The asyncio client."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self, TypeVar

from numpy.typing import ArrayLike

from cluster.client.connection_options import ConnectionOptions, TLSConfig
from cluster.client.conversations import Conversations
from cluster.client.examples import Example
from cluster.client.exchange import Conversation, Outcome, Send, Step, run_async
from cluster.client.model_metadata import ModelMetadata
from cluster.client.model_spec import ModelSpec
from cluster.client.model_status import VersionStatus
from cluster.client.results import Classifications, Prediction, Regressions
from cluster.client.retry_policy import RetryPolicy
from cluster.client.target import parse_targets
from cluster.client.transport import AsyncTransport, codec_for, open_async_transport
from cluster.core.errors import FailedPrecondition

T = TypeVar("T")


class AsyncClient:
    """`Client` with awaited methods: the same arguments, results and errors, which are explained there.

        async with AsyncClient("http://localhost:8501") as client:
            prediction = await client.predict("half_plus_two", [1.0, 2.0, 5.0])

    Belongs to the event loop in which it is first used. Cancelling a call cancels its request.
    """

    def __init__(
        self,
        target: str | Sequence[str],
        *,
        timeout_s: float | None = 60.0,
        retry: RetryPolicy | None = None,
        headers: Mapping[str, str] | None = None,
        tls: TLSConfig | None = None,
        connect_timeout_s: float = 5.0,
        metadata_ttl_s: float = 60.0,
    ) -> None:
        self._targets = parse_targets(target)
        self._options = ConnectionOptions(headers=headers or {}, tls=tls or TLSConfig(), connect_timeout_s=connect_timeout_s)
        self._conversations = Conversations(
            codec_for(self._targets[0].protocol),
            len(self._targets),
            retry=retry or RetryPolicy(),
            timeout_s=timeout_s,
            metadata_ttl_s=metadata_ttl_s,
        )
        self._transports: dict[int, AsyncTransport] = {}
        self._closed = False

    async def predict(
        self,
        model: str,
        inputs: ArrayLike | Mapping[str, ArrayLike],
        *,
        version: int | None = None,
        label: str | None = None,
        signature_name: str = "",
        outputs: Sequence[str] = (),
        timeout_s: float | None = None,
    ) -> Prediction:
        spec = ModelSpec(model, version, label)
        return await self._run(self._conversations.predict(spec, inputs, signature_name, outputs, timeout_s))

    async def classify(
        self,
        model: str,
        examples: Sequence[Example],
        *,
        context: Example | None = None,
        version: int | None = None,
        label: str | None = None,
        signature_name: str = "",
        timeout_s: float | None = None,
    ) -> Classifications:
        spec = ModelSpec(model, version, label)
        return await self._run(self._conversations.classify(spec, examples, signature_name, context, timeout_s))

    async def regress(
        self,
        model: str,
        examples: Sequence[Example],
        *,
        context: Example | None = None,
        version: int | None = None,
        label: str | None = None,
        signature_name: str = "",
        timeout_s: float | None = None,
    ) -> Regressions:
        spec = ModelSpec(model, version, label)
        return await self._run(self._conversations.regress(spec, examples, signature_name, context, timeout_s))

    async def status(self, model: str, version: int | None = None, *, timeout_s: float | None = None) -> list[VersionStatus]:
        return await self._run(self._conversations.status(ModelSpec(model, version), timeout_s))

    async def metadata(
        self, model: str, version: int | None = None, *, label: str | None = None, timeout_s: float | None = None
    ) -> ModelMetadata:
        return await self._run(self._conversations.metadata(ModelSpec(model, version, label), timeout_s))

    async def wait_until_available(
        self, model: str, version: int | None = None, *, timeout_s: float = 60.0, fail_fast: bool = False
    ) -> VersionStatus:
        return await self._run(self._conversations.wait_until_available(ModelSpec(model, version), timeout_s, fail_fast))

    async def close(self) -> None:
        """Closes the connections; calls that are under way may fail. The client cannot be used any more."""
        self._closed = True
        transports = list(self._transports.values())
        self._transports.clear()
        for transport in transports:
            await transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def _run(self, conversation: Conversation[T]) -> T:
        return await run_async(conversation, self._perform)

    async def _perform(self, step: Step) -> Outcome:
        if isinstance(step, Send):
            return await self._transport(step.target).send(step.request, step.timeout_s)
        await asyncio.sleep(step.delay_s)
        return Outcome()

    def _transport(self, index: int) -> AsyncTransport:
        if self._closed:
            raise FailedPrecondition("The client is closed")
        if index not in self._transports:
            self._transports[index] = open_async_transport(self._targets[index], self._options)
        return self._transports[index]
