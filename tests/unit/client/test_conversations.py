"""The client's decisions, with the test as the server: no socket, and time that moves only in pauses."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import pytest

from cluster.client.conversations import Conversations
from cluster.client.exchange import Conversation, Outcome, Send, Sleep, Step, run
from cluster.client.http_errors import http_error
from cluster.client.model_spec import ModelSpec
from cluster.client.rest_codec import RestCodec
from cluster.client.results import Prediction
from cluster.client.retry_policy import RetryPolicy
from cluster.core.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unavailable,
)
from tests.fakes.manual_clock import ManualClock

T = TypeVar("T")

MODEL = ModelSpec("m")
BUSY = Outcome(error=Unavailable("busy"))
REFUSED = Outcome(error=Unavailable("connection refused"), sent=False)


def reply(document: Any) -> Outcome:
    return Outcome(json.dumps(document).encode())


def metadata(version: int = 1, *, inputs: Mapping[str, str] | None = None, outputs: Mapping[str, str] | None = None) -> Outcome:
    def infos(dtypes: Mapping[str, str]) -> Any:
        return {name: {"name": f"{name}:0", "dtype": dtype, "tensor_shape": {"dim": []}} for name, dtype in dtypes.items()}

    signature = {"inputs": infos(inputs or {"x": "DT_FLOAT"}), "outputs": infos(outputs or {"y": "DT_FLOAT"})}
    return reply(
        {
            "model_spec": {"name": "m", "version": str(version)},
            "metadata": {"signature_def": {"signature_def": {"serving_default": signature}}},
        }
    )


def statuses(**states: str) -> Outcome:
    """`v1="AVAILABLE"`, or with an error `v1="END broken"`."""
    entries = []
    for version, text in states.items():
        state, _, error = text.partition(" ")
        status = {"error_code": "INTERNAL" if error else "OK", "error_message": error}
        entries.append({"version": version.removeprefix("v"), "state": state, "status": status})
    return reply({"model_version_status": entries})


@dataclass
class Server:
    """Answers each request from a script, in order, and remembers what it got."""

    script: list[Outcome | Callable[[], Outcome]]
    clock: ManualClock = field(default_factory=ManualClock)
    requests: list[Send] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)

    def converse(self, conversation: Conversation[T]) -> T:
        return run(conversation, self._perform)

    def play(self, conversation: Conversation[T]) -> T:
        """The same for the last conversation of the script."""
        result = run(conversation, self._perform)
        assert not self.script, "not everything that was expected was asked"
        return result

    def _perform(self, step: Step) -> Outcome:
        if isinstance(step, Sleep):
            self.pauses.append(step.delay_s)
            self.clock.advance(step.delay_s)
            return Outcome()
        self.requests.append(step)
        outcome = self.script.pop(0)
        return outcome if isinstance(outcome, Outcome) else outcome()

    @property
    def targets(self) -> list[int]:
        return [request.target for request in self.requests]

    @property
    def paths(self) -> list[str]:
        return [request.request.path.removeprefix("/v1/models/m") for request in self.requests]

    @property
    def sent_inputs(self) -> list[Any]:
        return [json.loads(request.request.body)["inputs"] for request in self.requests if request.request.body]


def conversations(
    server: Server,
    targets: int = 1,
    *,
    retry: RetryPolicy | None = None,
    timeout_s: float | None = None,
    metadata_ttl_s: float = 60.0,
) -> Conversations:
    return Conversations(
        RestCodec(),
        targets,
        retry=retry or RetryPolicy(),
        timeout_s=timeout_s,
        metadata_ttl_s=metadata_ttl_s,
        clock=server.clock,
        jitter=lambda: 1.0,
    )


def predict(
    client: Conversations, value: Any = 1.0, *, spec: ModelSpec = MODEL, timeout_s: float | None = None
) -> Conversation[Prediction]:
    return client.predict(spec, value, "", (), timeout_s)


# Retries


def test_pauses_longer_after_each_failed_attempt() -> None:
    server = Server([BUSY, BUSY, BUSY, statuses()])
    assert server.play(conversations(server).status(MODEL, None)) == []
    assert server.pauses == [0.1, 0.2, 0.4]


def test_raises_the_last_error_when_the_attempts_are_used_up() -> None:
    server = Server([BUSY, Outcome(error=Unavailable("still busy"))])
    client = conversations(server, retry=RetryPolicy(max_attempts=2))
    with pytest.raises(Unavailable, match="still busy"):
        server.play(client.status(MODEL, None))
    assert len(server.requests) == 2


@pytest.mark.parametrize("error", [InvalidArgument, NotFound, DeadlineExceeded, Internal, ResourceExhausted, PermissionDenied])
def test_tries_nothing_again_that_is_not_unavailable(error: type[Exception]) -> None:
    server = Server([Outcome(error=error("no"))])  # type: ignore[arg-type]
    with pytest.raises(error, match="no"):
        server.play(conversations(server, 2).status(MODEL, None))
    assert len(server.requests) == 1


def test_raises_rather_than_pause_beyond_the_deadline() -> None:
    server = Server([BUSY, BUSY])
    with pytest.raises(Unavailable, match="busy"):
        server.play(conversations(server).status(MODEL, 0.25))
    assert server.pauses == [0.1]


def test_each_request_gets_the_time_that_is_left() -> None:
    server = Server([BUSY, BUSY, statuses()])
    server.play(conversations(server, timeout_s=10.0).status(MODEL, None))
    assert [request.timeout_s for request in server.requests] == pytest.approx([10.0, 9.9, 9.7])


def test_a_call_has_its_own_timeout_or_else_the_clients() -> None:
    server = Server([statuses(), statuses()])
    client = conversations(server, timeout_s=10.0)
    server.converse(client.status(MODEL, None))
    server.converse(client.status(MODEL, 3.0))
    assert [request.timeout_s for request in server.requests] == [10.0, 3.0]


def test_waits_without_limit_when_no_timeout_is_set() -> None:
    server = Server([statuses()])
    server.play(conversations(server).status(MODEL, None))
    assert server.requests[0].timeout_s is None


def test_resends_only_what_was_never_sent_where_a_model_must_not_run_twice() -> None:
    server = Server([REFUSED, BUSY])
    with pytest.raises(Unavailable, match="busy"):
        server.play(conversations(server, retry=RetryPolicy(resend=False)).status(MODEL, None))
    assert len(server.requests) == 2


# Failover


def test_asks_the_next_target_at_once_when_one_is_unavailable() -> None:
    server = Server([REFUSED, BUSY, statuses()])
    server.play(conversations(server, 3).status(MODEL, None))
    assert server.targets == [0, 1, 2]
    assert server.pauses == []


def test_pauses_when_no_target_answers() -> None:
    server = Server([REFUSED, REFUSED, REFUSED, statuses()])
    server.play(conversations(server, 2).status(MODEL, None))
    assert server.pauses == [0.1]


def test_begins_with_the_target_that_answered_last() -> None:
    server = Server([REFUSED, statuses(), Outcome(error=NotFound("no such model")), statuses()])
    client = conversations(server, 2)
    server.converse(client.status(MODEL, None))
    with pytest.raises(NotFound):
        server.converse(client.status(MODEL, None))
    server.converse(client.status(MODEL, None))
    assert server.targets == [0, 1, 1, 1]


def test_begins_elsewhere_after_a_target_that_hung() -> None:
    server = Server([Outcome(error=DeadlineExceeded("no reply")), statuses()])
    client = conversations(server, 2)
    with pytest.raises(DeadlineExceeded):
        server.converse(client.status(MODEL, None))
    server.converse(client.status(MODEL, None))
    assert server.targets == [0, 1]


def test_a_target_that_used_up_the_time_is_the_error() -> None:
    server = Server([])

    def late() -> Outcome:
        server.clock.advance(5.0)
        return REFUSED

    server.script.append(late)
    with pytest.raises(Unavailable, match="connection refused"):
        server.play(conversations(server, 2, timeout_s=5.0).status(MODEL, None))


# Metadata


def test_asks_for_the_signature_once() -> None:
    server = Server([metadata(), reply({"outputs": 2.5}), reply({"outputs": 3.0})])
    client = conversations(server)
    assert server.converse(predict(client, 1))["y"] == np.float32(2.5)
    assert server.converse(predict(client, 2))["y"] == np.float32(3.0)
    assert server.paths == ["/metadata", ":predict", ":predict"]


def test_the_look_up_counts_into_the_timeout() -> None:
    server = Server([])

    def slow() -> Outcome:
        server.clock.advance(2.0)
        return metadata()

    server.script += [slow, reply({"outputs": 1.0})]
    server.play(predict(conversations(server), timeout_s=5.0))
    assert [request.timeout_s for request in server.requests] == [5.0, 3.0]


def test_forgets_the_signature_of_the_latest_version_after_a_while_but_not_that_of_a_named_one() -> None:
    pinned = ModelSpec("m", version=1)
    server = Server([metadata(), reply({"outputs": 1.0}), metadata(), reply({"outputs": 1.0})])
    client = conversations(server, metadata_ttl_s=60.0)
    server.converse(predict(client))
    server.converse(predict(client, spec=pinned))
    server.clock.advance(60.0)
    server.script += [metadata(), reply({"outputs": 1.0}), reply({"outputs": 1.0})]
    server.converse(predict(client))
    server.converse(predict(client, spec=pinned))
    assert server.paths[4:] == ["/metadata", ":predict", "/versions/1:predict"]


def test_looks_again_and_sends_again_when_a_new_version_wants_another_dtype() -> None:
    server = Server([metadata(), reply({"outputs": 1.0})])
    client = conversations(server)
    server.play(predict(client, 1))
    wrong_dtype = Outcome(error=http_error(400, b'{"error": "JSON Value: 1.0 is not of expected type: int32"}'))
    server.script += [wrong_dtype, metadata(2, inputs={"x": "DT_INT32"}, outputs={"y": "DT_INT32"}), reply({"outputs": 7})]
    prediction = server.play(predict(client, 1))
    assert prediction["y"].dtype == np.int32
    assert server.sent_inputs == [{"x": 1.0}, {"x": 1.0}, {"x": 1}]


def test_looks_again_when_the_known_signature_refuses_the_inputs() -> None:
    server = Server([metadata(), reply({"outputs": 1.0})])
    client = conversations(server)
    server.play(predict(client))
    server.script += [metadata(2, inputs={"text": "DT_STRING"}), reply({"outputs": 1.0})]
    server.play(predict(client, {"text": "a"}))
    assert server.sent_inputs[-1] == {"text": {"b64": "YQ=="}}


def test_reads_a_reply_again_when_a_new_version_names_its_outputs_otherwise() -> None:
    server = Server([metadata(), reply({"outputs": 1.0})])
    client = conversations(server)
    server.play(predict(client))
    server.script += [reply({"outputs": {"a": 1.0, "b": 2.0}}), metadata(2, outputs={"a": "DT_FLOAT", "b": "DT_FLOAT"})]
    assert set(server.play(predict(client))) == {"a", "b"}
    assert server.paths.count(":predict") == 2


def test_raises_the_servers_error_when_the_signature_is_the_same() -> None:
    server = Server([metadata(), reply({"outputs": 1.0})])
    client = conversations(server)
    server.play(predict(client))
    server.script += [Outcome(error=InvalidArgument("the shape is wrong")), metadata()]
    with pytest.raises(InvalidArgument, match="the shape is wrong"):
        server.play(predict(client))


def test_does_not_look_again_right_after_looking() -> None:
    server = Server([metadata(), Outcome(error=InvalidArgument("the shape is wrong"))])
    with pytest.raises(InvalidArgument, match="the shape is wrong"):
        server.play(predict(conversations(server)))
    assert server.paths == ["/metadata", ":predict"]


# Waiting


def test_polls_with_growing_pauses_until_a_version_is_available() -> None:
    server = Server(
        [
            REFUSED,
            Outcome(error=NotFound("no versions")),
            statuses(v1="START"),
            statuses(v1="LOADING"),
            statuses(v1="AVAILABLE"),
        ]
    )
    client = conversations(server, retry=RetryPolicy(max_attempts=1))
    assert server.play(client.wait_until_available(MODEL, 60.0, False)).version == 1
    assert server.pauses == pytest.approx([0.05, 0.075, 0.1125, 0.16875])


def test_waits_for_the_version_that_was_named() -> None:
    server = Server([statuses(v2="LOADING", v1="AVAILABLE"), statuses(v2="AVAILABLE", v1="UNLOADING")])
    assert server.play(conversations(server).wait_until_available(ModelSpec("m", 2), 60.0, False)).version == 2


def test_gives_the_last_thing_seen_as_the_reason() -> None:
    server = Server([statuses(v2="END broken", v1="END"), REFUSED])
    with pytest.raises(DeadlineExceeded) as caught:
        server.play(conversations(server).wait_until_available(MODEL, 0.1, False))
    assert str(caught.value) == "Model m did not become available within 0.1 s: UNAVAILABLE: connection refused"
    server = Server([statuses(v2="END broken", v1="END")])
    with pytest.raises(DeadlineExceeded) as caught:
        server.play(conversations(server).wait_until_available(MODEL, 0.05, False))
    assert str(caught.value).endswith("within 0.05 s: version 2 is END with INTERNAL: broken; version 1 is END")


def test_fails_fast_only_when_no_version_is_left_to_hope_for() -> None:
    server = Server([statuses(v2="END broken", v1="LOADING"), statuses(v2="END broken", v1="END")])
    with pytest.raises(FailedPrecondition, match="Model m cannot become available: version 2 is END with INTERNAL: broken"):
        server.play(conversations(server).wait_until_available(MODEL, 60.0, True))


def test_keeps_waiting_for_a_version_that_ended_without_an_error() -> None:
    server = Server([statuses(v1="END"), statuses(v2="AVAILABLE", v1="END")])
    assert server.play(conversations(server).wait_until_available(MODEL, 60.0, True)).version == 2


def test_waiting_ends_at_once_with_an_error_that_will_not_pass() -> None:
    server = Server([Outcome(error=PermissionDenied("not yours"))])
    with pytest.raises(PermissionDenied, match="not yours"):
        server.play(conversations(server).wait_until_available(MODEL, 60.0, False))


def test_one_poll_does_not_use_up_the_time() -> None:
    server = Server([])

    def hangs() -> Outcome:
        server.clock.advance(server.requests[-1].timeout_s or 0.0)
        return Outcome(error=DeadlineExceeded("no reply"))

    server.script += [hangs, statuses(v1="AVAILABLE")]
    server.play(conversations(server, 2).wait_until_available(MODEL, 60.0, False))
    assert server.targets == [0, 1]
