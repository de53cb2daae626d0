"""What the client must do with every server, whatever the protocol; for a subclass that says where the servers are."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import pytest

from cluster.client import (
    AspiredError,
    AsyncClient,
    Class,
    Client,
    Code,
    DataType,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PublicState,
    RetryPolicy,
    VersionStatus,
)
from cluster.protos import Example as ExampleProto
from tests.fakes.client_models import ECHO_TYPES, LOAD_ERROR

# By REST several codes share a status; what the client makes of it.
_CODES_BY_REST = {
    Code.UNKNOWN: Code.INTERNAL,
    Code.ALREADY_EXISTS: Code.ABORTED,
    Code.FAILED_PRECONDITION: Code.INVALID_ARGUMENT,
    Code.OUT_OF_RANGE: Code.INVALID_ARGUMENT,
    Code.DATA_LOSS: Code.INTERNAL,
}


class Blocking:
    """An AsyncClient that can be called like a Client."""

    def __init__(self, target: str | list[str], **options: Any) -> None:
        self._runner = asyncio.Runner()
        self._client = AsyncClient(target, **options)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        async def call(*args: Any, **options: Any) -> Any:
            return await method(*args, **options)

        return lambda *args, **options: self._runner.run(call(*args, **options))

    def stop(self) -> None:
        self._runner.run(self._client.close())
        self._runner.close()


@contextmanager
def blocking(kind: str, target: str | list[str], **options: Any) -> Iterator[Client]:
    """A client of that kind, closed at the end."""
    if kind == "Client":
        with Client(target, **options) as client:
            yield client
    else:
        stand_in = Blocking(target, **options)
        try:
            yield cast(Client, stand_in)
        finally:
            stand_in.stop()


class ClientConformance:
    """A subclass has a fixture `address`: a target that serves `tests.fakes.client_models`."""

    @pytest.fixture(params=["Client", "AsyncClient"])
    def client(self, request: pytest.FixtureRequest, address: str) -> Iterator[Client]:
        with blocking(request.param, address, timeout_s=20.0, retry=RetryPolicy(max_attempts=1)) as client:
            yield client

    @pytest.fixture
    def rest(self, address: str) -> bool:
        return address.startswith("http")

    # predict

    def test_takes_the_value_of_the_only_input(self, client: Client) -> None:
        assert client.predict("half_plus_two", [1.0, 2.0, 5.0]).array.tolist() == [2.5, 3.0, 4.5]

    def test_takes_named_inputs(self, client: Client) -> None:
        prediction = client.predict("half_plus_two", {"x": [1.0, 2.0, 5.0]})
        assert prediction["y"].dtype == np.float32
        assert prediction["y"].tolist() == [2.5, 3.0, 4.5]

    @pytest.mark.parametrize(
        "values", [[1, 2, 5], np.arange(3), np.float64(1.0), 7.0, [[1.0], [2.0]], np.ones((2, 3), np.float32).T]
    )
    def test_gives_values_the_dtype_of_the_signature_and_keeps_their_shape(self, client: Client, values: Any) -> None:
        prediction = np.asarray(client.predict("half_plus_two", values))
        assert prediction.dtype == np.float32
        assert np.array_equal(prediction, np.asarray(values) / 2 + 2)

    def test_tells_the_version_that_answered_where_the_protocol_does(self, client: Client, rest: bool) -> None:
        assert client.predict("offset", [0.0], version=2).model_version == (None if rest else 2)

    def test_asks_the_version_the_label_or_else_the_latest(self, client: Client) -> None:
        assert client.predict("offset", [0.0]).array.tolist() == [3.0]
        assert client.predict("offset", [0.0], version=2).array.tolist() == [2.0]
        assert client.predict("offset", [0.0], label="stable").array.tolist() == [2.0]
        assert client.predict("offset", [0.0], label="canary").array.tolist() == [3.0]

    def test_gives_several_outputs_by_name(self, client: Client) -> None:
        prediction = client.predict("sum", {"a": [5.0, 1.0], "b": [2.0, 1.0]})
        assert {name: array.tolist() for name, array in prediction.items()} == {"sum": [7.0, 2.0], "difference": [3.0, 0.0]}

    def test_gives_only_the_outputs_asked_for(self, client: Client) -> None:
        prediction = client.predict("sum", {"a": [5.0], "b": [2.0]}, outputs=["difference"])
        assert list(prediction) == ["difference"]
        assert prediction.array.tolist() == [3.0]

    @pytest.mark.parametrize("name", ECHO_TYPES)
    def test_sends_and_gets_every_dtype(self, client: Client, name: str) -> None:
        dtype = {"float": "float32", "double": "float64"}.get(name, name)
        info = np.iinfo(dtype) if np.dtype(dtype).kind in "iu" else np.finfo(dtype) if np.dtype(dtype).kind == "f" else None
        values = np.array([False, True] if info is None else [info.min, 0, 1, info.max], dtype)
        array = client.predict("echo", values, signature_name=name).array
        assert array.dtype == values.dtype
        assert array.tolist() == values.tolist()

    def test_sends_and_gets_numbers_that_are_not_finite(self, client: Client) -> None:
        values = [1.5, float("nan"), float("inf"), float("-inf")]
        assert np.array_equal(
            client.predict("echo", values, signature_name="float").array, np.array(values, np.float32), equal_nan=True
        )

    @pytest.mark.parametrize("shape", [(0,), (2, 0), (1, 2, 3), ()])
    def test_keeps_shapes(self, client: Client, shape: tuple[int, ...]) -> None:
        assert client.predict("echo", np.ones(shape, np.int32), signature_name="int32").array.shape == shape

    @pytest.mark.parametrize(
        "value", ["grüße", ["a", "", "ä\n\"'"], [["a"], ["b"]], np.array(["text", "ä"]), np.array([b"a", b"b"])]
    )
    def test_sends_text_as_utf8_and_gets_bytes(self, client: Client, value: Any) -> None:
        prediction = client.predict("echo", value, signature_name="string")
        expected = np.char.encode(np.asarray(value), "utf-8") if np.asarray(value).dtype.kind == "U" else np.asarray(value)
        for array in prediction.values():
            assert array.dtype == object
            assert array.tolist() == expected.tolist()

    def test_sends_and_gets_arbitrary_bytes(self, client: Client) -> None:
        values = [b"\x00\xff\x80", b"", bytes(range(256)), b"ends in zeros\x00\x00"]
        assert client.predict("echo", values, signature_name="bytes").array.tolist() == values

    def test_sends_a_large_tensor_whole(self, client: Client) -> None:
        values = np.arange(500_000, dtype=np.float32)
        assert np.array_equal(client.predict("half_plus_two", values).array, values / 2 + 2)

    # classify, regress

    def test_classifies_examples(self, client: Client, rest: bool) -> None:
        results = client.classify("half_plus_two", [{"x": 1.0}, {"x": [3.0]}], signature_name="classify_x_to_y")
        assert list(results) == [(Class("", 2.5),), (Class("", 3.5),)]
        assert results.model_version == (None if rest else 1)

    def test_regresses_examples(self, client: Client, rest: bool) -> None:
        results = client.regress("half_plus_two", [{"x": 1.0}, {"x": np.float32(0.2)}], signature_name="regress_x_to_y")
        assert results.array.tolist() == np.array([2.5, 2.1], np.float32).tolist()
        assert results[1] == float(np.float32(2.1))
        assert results.model_version == (None if rest else 1)

    def test_sends_a_float_without_a_fraction_as_a_float_and_an_integer_as_an_integer(self, client: Client) -> None:
        assert list(client.regress("half_plus_two", [{"x": 2.0}], signature_name="regress_x_to_y")) == [3.0]
        with pytest.raises(InvalidArgument, match="Data types don't match"):
            client.regress("half_plus_two", [{"x": 2}], signature_name="regress_x_to_y")

    def test_adds_the_context_to_every_example(self, client: Client) -> None:
        results = client.regress(
            "half_plus_two", [{"n": 1}, {"s": ["a", b"\xff"]}], context={"x": 4.0}, signature_name="regress_x_to_y"
        )
        assert list(results) == [4.0, 4.0]

    def test_sends_serialized_examples_where_the_protocol_can(self, client: Client, rest: bool) -> None:
        example = ExampleProto()
        example.features.feature["x"].float_list.value.append(6.0)
        if rest:
            with pytest.raises(InvalidArgument, match="gRPC"):
                client.regress("half_plus_two", [example.SerializeToString()], signature_name="regress_x_to_y")
        else:
            results = client.regress("half_plus_two", [example.SerializeToString()], signature_name="regress_x_to_y")
            assert list(results) == [5.0]

    # status, metadata

    def test_lists_versions_newest_first(self, client: Client) -> None:
        available = PublicState.AVAILABLE
        assert client.status("offset") == [VersionStatus(3, available), VersionStatus(2, available)]
        assert client.status("offset", 2) == [VersionStatus(2, available)]

    def test_tells_why_a_version_failed_to_load(self, client: Client) -> None:
        assert client.status("broken") == [VersionStatus(1, PublicState.END, LOAD_ERROR.code, LOAD_ERROR.message)]

    def test_tells_the_signatures(self, client: Client) -> None:
        metadata = client.metadata("half_plus_two")
        assert metadata.version == 1
        assert set(metadata.signatures) == {"serving_default", "classify_x_to_y", "regress_x_to_y"}
        signature = metadata.signatures["serving_default"]
        assert signature.method_name == "tensorflow/serving/predict"
        assert signature.inputs["x"].dtype is DataType.DT_FLOAT
        assert signature.inputs["x"].shape == (-1,)
        assert signature.outputs.keys() == {"y"}

    def test_tells_unknown_rank_from_a_scalar(self, client: Client) -> None:
        assert client.metadata("echo").signatures["int32"].inputs["x"].shape is None

    def test_tells_the_signatures_of_a_label(self, client: Client) -> None:
        assert client.metadata("offset", label="stable").version == 2
        assert client.metadata("offset", 3).version == 3

    # waiting

    def test_returns_the_newest_available_version(self, client: Client) -> None:
        assert client.wait_until_available("offset", timeout_s=10.0).version == 3
        assert client.wait_until_available("offset", 2, timeout_s=10.0) == VersionStatus(2, PublicState.AVAILABLE)

    def test_tells_what_kept_a_version_from_being_available(self, client: Client) -> None:
        with pytest.raises(DeadlineExceeded, match="version 1 is END with NOT_FOUND: Could not find SavedModel"):
            client.wait_until_available("broken", timeout_s=0.1)
        with pytest.raises(DeadlineExceeded, match="NOT_FOUND: Could not find any versions of model nobody"):
            client.wait_until_available("nobody", timeout_s=0.1)

    def test_gives_up_on_a_failed_load_only_when_asked_to(self, client: Client) -> None:
        with pytest.raises(FailedPrecondition, match="version 1 is END with NOT_FOUND: Could not find SavedModel"):
            client.wait_until_available("broken", timeout_s=60.0, fail_fast=True)

    # errors

    def test_unknown_models_and_versions_are_not_found(self, client: Client) -> None:
        with pytest.raises(NotFound, match=r"^Servable not found for request: Latest\(nobody\)$"):
            client.predict("nobody", [1.0])
        with pytest.raises(NotFound, match=r"^Servable not found for request: Specific\(offset, 9\)$"):
            client.predict("offset", [1.0], version=9)
        with pytest.raises(NotFound, match=r"^Could not find any versions of model nobody$"):
            client.status("nobody")
        with pytest.raises(InvalidArgument, match=r"^Unrecognized servable version label: nobody$"):
            client.predict("offset", [1.0], label="nobody")

    def test_a_model_name_is_escaped(self, client: Client) -> None:
        with pytest.raises(NotFound, match=r"^Servable not found for request: Latest\(a/b c%2F\?x\)$"):
            client.metadata("a/b c%2F?x")

    def test_refuses_what_does_not_fit_the_signature(self, client: Client) -> None:
        with pytest.raises(InvalidArgument, match="no input z; its inputs are a, b"):
            client.predict("sum", {"a": [1.0], "b": [1.0], "z": [1.0]})
        with pytest.raises(InvalidArgument, match="has 2 inputs"):
            client.predict("sum", [1.0])
        with pytest.raises(InvalidArgument, match="must be float32"):
            client.predict("half_plus_two", ["one"])
        with pytest.raises(InvalidArgument, match='"nobody" not found in signature def'):
            client.predict("half_plus_two", [1.0], signature_name="nobody")
        with pytest.raises(InvalidArgument, match="output tensor alias not found in signature: z"):
            client.predict("half_plus_two", [1.0], outputs=["z"])
        with pytest.raises(InvalidArgument):
            client.predict("sum", {"a": [1.0]})

    @pytest.mark.parametrize("code", [code for code in Code if code not in (Code.OK, Code.DEADLINE_EXCEEDED)])
    def test_an_error_of_the_server_comes_back_with_its_text(self, client: Client, rest: bool, code: Code) -> None:
        with pytest.raises(AspiredError, match=f"^It failed with {code.name}$") as caught:
            client.predict("failing", [float(code)])
        assert caught.value.code is (_CODES_BY_REST.get(code, code) if rest else code)

    def test_gives_up_at_the_deadline(self, client: Client) -> None:
        with pytest.raises(DeadlineExceeded):
            client.predict("hanging", [1.0], timeout_s=0.3)
        assert client.predict("half_plus_two", [1.0]).array.tolist() == [2.5]
