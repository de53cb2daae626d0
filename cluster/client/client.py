"""The blocking client."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self, TypeVar

from numpy.typing import ArrayLike

from cluster.client.connection_options import ConnectionOptions, TLSConfig
from cluster.client.conversations import Conversations
from cluster.client.examples import Example
from cluster.client.exchange import Conversation, Outcome, Send, Step, run
from cluster.client.model_metadata import ModelMetadata
from cluster.client.model_spec import ModelSpec
from cluster.client.model_status import VersionStatus
from cluster.client.results import Classifications, Prediction, Regressions
from cluster.client.retry_policy import RetryPolicy
from cluster.client.target import parse_targets
from cluster.client.transport import Transport, codec_for, open_transport
from cluster.core.errors import FailedPrecondition

T = TypeVar("T")


class Client:
    """Talks to TensorFlow Serving's API, at Aspired or any other server that speaks it, over REST or gRPC.

        with Client("grpc://localhost:8500") as client:
            client.wait_until_available("half_plus_two")
            prediction = client.predict("half_plus_two", [1.0, 2.0, 5.0])
            prediction["y"], prediction.model_version

    `target` is `http[s]://host:port`, `grpc[s]://host:port`, `unix:/path` or `host:port` (gRPC); of several targets, nodes
    of one cluster, the next is asked when one is unavailable. Nothing is connected before the first call. May be shared by
    threads; close it, or use it as a context manager. In every method `timeout_s` is the time for the whole call with its
    retries, None takes the client's (whose None waits for ever). Methods raise the errors of `cluster.core.errors`, with the
    server's message and the same one for the same cause on both protocols: InvalidArgument for a request that does not fit
    the model, NotFound for a model or version that is not served, Unavailable when no server could be reached in the
    attempts of `retry`, DeadlineExceeded, and so on.
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
        """`headers` (gRPC: metadata) go with every request, for tokens and the like.

        `connect_timeout_s` bounds one attempt to connect, so that a dead node does not use up the call's time.
        `metadata_ttl_s` is how long a model's signatures are believed where no version is named: a new version may come.
        """
        self._targets = parse_targets(target)
        self._options = ConnectionOptions(headers=headers or {}, tls=tls or TLSConfig(), connect_timeout_s=connect_timeout_s)
        self._conversations = Conversations(
            codec_for(self._targets[0].protocol),
            len(self._targets),
            retry=retry or RetryPolicy(),
            timeout_s=timeout_s,
            metadata_ttl_s=metadata_ttl_s,
        )
        self._transports: dict[int, Transport] = {}
        self._lock = threading.Lock()
        self._closed = False

    def predict(
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
        """Runs a signature on tensors. `inputs` maps input names to values, or is the value of the only input.

        Python numbers take the signature's dtype; numpy arrays are cast where every value survives, float64 also rounded to
        a narrower float. Strings are str or bytes, and come back as bytes. `outputs` names the ones wanted, all if empty.
        """
        spec = ModelSpec(model, version, label)
        return self._run(self._conversations.predict(spec, inputs, signature_name, outputs, timeout_s))

    def classify(
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
        """Classifies tf.Examples: dicts from feature to a value or a flat list, or (gRPC only) serialized bytes.

        Integers go to the int64_list of a feature, floats to its float_list, str and bytes to its bytes_list; a float
        feature wants 2.0, not 2. The features of `context` are added to every example.
        """
        spec = ModelSpec(model, version, label)
        return self._run(self._conversations.classify(spec, examples, signature_name, context, timeout_s))

    def regress(
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
        """Like `classify`, with one number for each example."""
        spec = ModelSpec(model, version, label)
        return self._run(self._conversations.regress(spec, examples, signature_name, context, timeout_s))

    def status(self, model: str, version: int | None = None, *, timeout_s: float | None = None) -> list[VersionStatus]:
        """The versions the server knows of, newest first, those included that were unloaded or failed to load."""
        return self._run(self._conversations.status(ModelSpec(model, version), timeout_s))

    def metadata(
        self, model: str, version: int | None = None, *, label: str | None = None, timeout_s: float | None = None
    ) -> ModelMetadata:
        """The signatures of a version, asked from the server."""
        return self._run(self._conversations.metadata(ModelSpec(model, version, label), timeout_s))

    def wait_until_available(
        self, model: str, version: int | None = None, *, timeout_s: float = 60.0, fail_fast: bool = False
    ) -> VersionStatus:
        """Returns the version once it answers requests; without `version` any one, the newest of those that do.

        An unreachable server, an unknown model and a failed load are all waited out, since each may heal; DeadlineExceeded
        tells what was seen last. With `fail_fast`, FailedPrecondition is raised as soon as no version is left that is not
        at its end and one of them failed to load.
        """
        return self._run(self._conversations.wait_until_available(ModelSpec(model, version), timeout_s, fail_fast))

    def close(self) -> None:
        """Closes the connections; calls that are under way may fail. The client cannot be used any more."""
        with self._lock:
            self._closed = True
            transports = list(self._transports.values())
            self._transports.clear()
        for transport in transports:
            transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, conversation: Conversation[T]) -> T:
        return run(conversation, self._perform)

    def _perform(self, step: Step) -> Outcome:
        if isinstance(step, Send):
            return self._transport(step.target).send(step.request, step.timeout_s)
        time.sleep(step.delay_s)
        return Outcome()

    def _transport(self, index: int) -> Transport:
        transport = self._transports.get(index)
        if transport is not None:
            return transport
        with self._lock:
            if self._closed:
                raise FailedPrecondition("The client is closed")
            if index not in self._transports:
                self._transports[index] = open_transport(self._targets[index], self._options)
            return self._transports[index]
