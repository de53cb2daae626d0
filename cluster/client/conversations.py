"""The client's behaviour: what each call sends, to whom, how often, and what it makes of the replies. No IO."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence

from numpy.typing import ArrayLike

from cluster.client.codec import Codec
from cluster.client.examples import Example
from cluster.client.exchange import Conversation, Outcome, Send, Sleep, WireRequest
from cluster.client.model_metadata import MetadataCache, ModelMetadata, same_tensors
from cluster.client.model_spec import ModelSpec
from cluster.client.model_status import VersionStatus, available, describe, hopeless
from cluster.client.results import Classifications, Prediction, Regressions
from cluster.client.retry_policy import RetryPolicy
from cluster.client.signature_binding import bind_inputs, check_outputs
from cluster.core.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    Unavailable,
)

FIRST_POLL_INTERVAL_S = 0.05
MAX_POLL_INTERVAL_S = 1.0
POLL_TIMEOUT_S = 5.0


class Conversations:
    """Starts a conversation for each call of the API; every method returns one that has not begun.

    Shared by all threads of a client: what it keeps (the metadata cache, the target to ask first) is only a hint.
    `timeout_s` of a call is the time for everything it does; None takes the client's own, whose None waits for ever.
    """

    def __init__(
        self,
        codec: Codec,
        target_count: int,
        *,
        retry: RetryPolicy,
        timeout_s: float | None,
        metadata_ttl_s: float,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._codec = codec
        self._target_count = target_count
        self._retry = retry
        self._timeout_s = timeout_s
        self._metadata_cache = MetadataCache(metadata_ttl_s)
        self._clock = clock
        self._jitter = jitter
        self._first_target = 0

    def predict(
        self,
        spec: ModelSpec,
        inputs: ArrayLike | Mapping[str, ArrayLike],
        signature_name: str,
        outputs: Sequence[str],
        timeout_s: float | None,
    ) -> Conversation[Prediction]:
        deadline = self._deadline(timeout_s)
        cached = self._metadata_cache.get(spec, self._clock())
        metadata = cached or (yield from self._fetch_metadata(spec, deadline))
        try:
            body = yield from self._predict(spec, metadata, inputs, signature_name, outputs, deadline)
        except (InvalidArgument, FailedPrecondition):
            if cached is None:
                raise
            # A version with another signature may have taken over since the metadata was read.
            metadata = yield from self._fetch_metadata(spec, deadline)
            if same_tensors(cached, metadata, signature_name):
                raise
            cached = None
            body = yield from self._predict(spec, metadata, inputs, signature_name, outputs, deadline)
        try:
            prediction = self._codec.decode_prediction(body, metadata.signature(signature_name), outputs)
        except Internal:
            if cached is None:
                raise
            metadata = yield from self._fetch_metadata(spec, deadline)
            prediction = self._codec.decode_prediction(body, metadata.signature(signature_name), outputs)
        self._metadata_cache.answered_by(spec, prediction.model_version)
        return prediction

    def _predict(
        self,
        spec: ModelSpec,
        metadata: ModelMetadata,
        inputs: ArrayLike | Mapping[str, ArrayLike],
        signature_name: str,
        outputs: Sequence[str],
        deadline: float | None,
    ) -> Conversation[bytes]:
        signature = metadata.signature(signature_name)
        check_outputs(outputs, signature)
        arrays = bind_inputs(inputs, signature)
        return (yield from self._call(self._codec.encode_predict(spec, signature_name, signature, arrays, outputs), deadline))

    def classify(
        self,
        spec: ModelSpec,
        examples: Sequence[Example],
        signature_name: str,
        context: Example | None,
        timeout_s: float | None,
    ) -> Conversation[Classifications]:
        request = self._codec.encode_classify(spec, signature_name, examples, context)
        return self._codec.decode_classifications((yield from self._call(request, self._deadline(timeout_s))))

    def regress(
        self,
        spec: ModelSpec,
        examples: Sequence[Example],
        signature_name: str,
        context: Example | None,
        timeout_s: float | None,
    ) -> Conversation[Regressions]:
        request = self._codec.encode_regress(spec, signature_name, examples, context)
        return self._codec.decode_regressions((yield from self._call(request, self._deadline(timeout_s))))

    def status(self, spec: ModelSpec, timeout_s: float | None) -> Conversation[list[VersionStatus]]:
        request = self._codec.encode_status(spec)
        return self._codec.decode_statuses((yield from self._call(request, self._deadline(timeout_s))))

    def metadata(self, spec: ModelSpec, timeout_s: float | None) -> Conversation[ModelMetadata]:
        return (yield from self._fetch_metadata(spec, self._deadline(timeout_s)))

    def wait_until_available(self, spec: ModelSpec, timeout_s: float, fail_fast: bool) -> Conversation[VersionStatus]:
        deadline = self._clock() + timeout_s
        request = self._codec.encode_status(spec)
        interval_s = FIRST_POLL_INTERVAL_S
        seen = "no server was asked yet"
        while (left_s := deadline - self._clock()) > 0:
            # One poll must not use up the time: a server that hangs may be replaced by one that does not.
            outcome = yield from self._ask_targets(request, self._clock() + min(left_s, POLL_TIMEOUT_S))
            if outcome.error is None:
                statuses = self._codec.decode_statuses(outcome.body)
                ready = available(statuses, spec.version)
                if ready is not None:
                    return ready
                seen = describe(statuses, spec.version)
                if fail_fast and hopeless(statuses, spec.version):
                    raise FailedPrecondition(f"Model {spec} cannot become available: {seen}")
            elif isinstance(outcome.error, Unavailable | NotFound | DeadlineExceeded):
                seen = f"{outcome.error.code.name}: {outcome.error.message}"
            else:
                raise outcome.error
            yield Sleep(max(0.0, min(interval_s, deadline - self._clock())))
            interval_s = min(interval_s * 1.5, MAX_POLL_INTERVAL_S)
        raise DeadlineExceeded(f"Model {spec} did not become available within {timeout_s:g} s: {seen}")

    def _fetch_metadata(self, spec: ModelSpec, deadline: float | None) -> Conversation[ModelMetadata]:
        body = yield from self._call(self._codec.encode_metadata(spec), deadline)
        metadata = self._codec.decode_metadata(body)
        self._metadata_cache.put(spec, metadata, self._clock())
        return metadata

    def _call(self, request: WireRequest, deadline: float | None) -> Conversation[bytes]:
        attempt = 1
        while True:
            outcome = yield from self._ask_targets(request, deadline)
            if outcome.error is None:
                return outcome.body
            if attempt == self._retry.max_attempts or not self._retry.may_send_again(outcome):
                raise outcome.error
            backoff_s = self._retry.backoff_s(attempt, self._jitter())
            if deadline is not None and self._clock() + backoff_s >= deadline:
                raise outcome.error
            yield Sleep(backoff_s)
            attempt += 1

    def _ask_targets(self, request: WireRequest, deadline: float | None) -> Conversation[Outcome]:
        """One attempt: each target in turn, the one that answered last first, until one is not unavailable."""
        first = self._first_target
        outcome = None
        for offset in range(self._target_count):
            left_s = None if deadline is None else deadline - self._clock()
            if left_s is not None and left_s <= 0:
                break
            target = (first + offset) % self._target_count
            outcome = yield Send(target, request, left_s)
            # A target that hangs has used up this call's time; the next call had better begin elsewhere.
            silent = isinstance(outcome.error, Unavailable | DeadlineExceeded)
            self._first_target = (target + 1) % self._target_count if silent else target
            if outcome.error is None or not self._retry.may_send_again(outcome):
                break
        if outcome is None:
            return Outcome(error=DeadlineExceeded("The time was up before the request was sent"), sent=False)
        return outcome

    def _deadline(self, timeout_s: float | None) -> float | None:
        timeout_s = self._timeout_s if timeout_s is None else timeout_s
        return None if timeout_s is None else self._clock() + timeout_s
