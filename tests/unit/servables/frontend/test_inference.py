from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cluster.core.errors import (
    AspiredError,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    NotServing,
    Status,
)
from cluster.core.servable_id import ServableId
from cluster.core.servable_state import PublicState, ServableState
from cluster.core.serving_map import Endpoint, ServableEntry, ServingMap
from servables.frontend.inference import Inference, ModelSpec, Prediction, SignatureCall, Signatures, predict_call
from servables.frontend.servable_router import ServableRouter
from servables.servable import Array
from servables.signatures import Signature, TensorInfo, encode_signatures
from servables.tensors import DataType
from tests.unit.servables.frontend.gated_channel import GatedChannel


def info(name: str) -> TensorInfo:
    return TensorInfo(f"{name}:0", DataType.DT_FLOAT, (-1,))


def signature(*inputs: str, defaults: Mapping[str, Array] | None = None) -> Signature:
    return Signature("", {name: info(name) for name in inputs}, {"y": info("y"), "z": info("z")}, defaults or {})


def entry(version: int, signatures: Signatures | None = None) -> ServableEntry:
    encoded = encode_signatures(signatures or {"serving_default": signature("x")})
    return ServableEntry(ServableId("m", version), (Endpoint("app", "deployment", "node", 1),), encoded)


def serving(*entries: ServableEntry, **more: Any) -> ServingMap:
    return ServingMap(entries={each.id: each for each in entries}, **more)


class World:
    def __init__(self) -> None:
        self.channels: dict[int, GatedChannel] = {}
        self.router = ServableRouter(self._open)
        self.inference = Inference(self.router)
        self.decoded: list[tuple[str, ...]] = []

    def _open(self, opened: ServableEntry) -> GatedChannel:
        self.channels[opened.id.version] = GatedChannel(opened)
        return self.channels[opened.id.version]

    def predict(self, *, version: int | None = None, timeout_s: float | None = None) -> asyncio.Task[Prediction]:
        return asyncio.ensure_future(self.inference.predict(ModelSpec("m", version), self._decode, timeout_s))

    def _decode(self, signatures: Signatures) -> SignatureCall:
        self.decoded.append(tuple(signatures["serving_default"].inputs))
        return SignatureCall("serving_default", {"x": np.zeros(1, np.float32)}, ("y",))


async def test_answers_from_the_newest_version_and_says_which() -> None:
    world = World()
    world.router.apply(serving(entry(1), entry(2)))
    answer = world.predict()
    (await world.channels[2].frame(0)).reply()
    assert (await answer).id == ServableId("m", 2)
    assert (await answer).signature.inputs == {"x": info("x")}


async def test_a_refused_request_goes_to_the_version_that_the_next_map_names_and_is_decoded_for_it() -> None:
    world = World()
    world.router.apply(serving(entry(1), entry(2, {"serving_default": signature("renamed")})))
    answer = world.predict()
    frame = await world.channels[2].frame(0)
    world.router.apply(serving(entry(1)))
    frame.end(NotServing("quiescing"))
    (await world.channels[1].frame(0)).reply()
    assert (await answer).id == ServableId("m", 1)
    assert world.decoded == [("renamed",), ("x",)]


async def test_a_refused_request_waits_for_the_map_that_says_why() -> None:
    world = World()
    world.router.apply(serving(entry(1), entry(2)))
    answer = world.predict()
    (await world.channels[2].frame(0)).end(NotServing("quiescing"))
    await asyncio.sleep(0)
    world.router.apply(serving(entry(1)))
    (await world.channels[1].frame(0)).reply()
    assert (await answer).id == ServableId("m", 1)


async def test_a_refused_request_goes_to_the_newer_copy_of_its_version_and_is_decoded_for_it() -> None:
    world = World()
    world.router.apply(serving(entry(1)))
    older = world.channels[1]
    answer = world.predict()
    frame = await older.frame(0)
    world.router.apply(serving(replace(entry(1, {"serving_default": signature("renamed")}), copy=1)))
    frame.end(NotServing("quiescing"))
    (await world.channels[1].frame(0)).reply()
    assert (await answer).id == ServableId("m", 1)
    assert world.decoded == [("x",), ("renamed",)]


async def test_a_request_for_a_version_that_is_gone_is_not_found() -> None:
    world = World()
    world.router.apply(serving(entry(1), entry(2)))
    answer = world.predict(version=1)
    frame = await world.channels[1].frame(0)
    world.router.apply(serving(entry(2)))
    frame.end(NotServing("quiescing"))
    with pytest.raises(NotFound, match=r"Servable not found for request: Specific\(m, 1\)"):
        await answer


async def test_a_version_that_refuses_for_ever_costs_a_request_its_deadline() -> None:
    world = World()
    world.router.apply(serving(entry(1)))
    channel = world.channels[1]
    answer = world.predict(timeout_s=0.02)
    (await channel.frame(0)).end(NotServing("quiescing"))
    with pytest.raises(DeadlineExceeded):
        await answer


async def test_a_model_without_a_name_is_refused() -> None:
    world = World()
    with pytest.raises(InvalidArgument, match=r"^ModelSpec has no name specified\.$"):
        world.inference.resolve(ModelSpec(""))


async def test_status_lists_every_version_newest_first_and_ignores_labels() -> None:
    world = World()
    states = tuple(
        ServableState(ServableId(name, version), PublicState.AVAILABLE, Status())
        for name, version in (("m", 9), ("m", 10), ("n", 1))
    )
    world.router.apply(ServingMap(states=states))
    status = world.inference.model_status
    assert [state.id.version for state in status(ModelSpec("m"))] == [10, 9]
    assert [state.id.version for state in status(ModelSpec("m", label="none"))] == [10, 9]
    assert [state.id.version for state in status(ModelSpec("m", version=9))] == [9]
    with pytest.raises(NotFound, match=r"^Could not find version 3 of model m$"):
        status(ModelSpec("m", version=3))
    with pytest.raises(NotFound, match=r"^Could not find any versions of model o$"):
        status(ModelSpec("o"))


ONE = np.ones(1, np.float32)
DEFAULTS = {"bias": ONE}


@pytest.mark.parametrize(
    ("inputs", "defaults", "output_filter", "error"),
    [
        (
            {},
            {},
            (),
            "input size does not match signature: 0!=2 len({}) != len({bias,x}). Sent extra: {}. "
            "Missing but required: {bias,x}.",
        ),
        (
            {"x": 1, "bias": 1, "c": 1},
            DEFAULTS,
            (),
            "input size does not match signature: 3!=2 len({bias,c,x}) != len({bias,x}). Sent extra: {c}. "
            "Missing but required: {}.",
        ),
        (
            {"y": 1, "z": 1},
            {},
            (),
            "Signature input alias: x(feed name: x:0) not found in request and no default value provided. "
            "Inputs expected to be in the request {y,z}, or default input alias set: ",
        ),
        (
            {"bias": 1},
            DEFAULTS,
            (),
            "Signature input alias: x(feed name: x:0) not found in request and no default value provided. "
            "Inputs expected to be in the request {bias}, or default input alias set: bias",
        ),
        (
            {"x": 1, "c": 1},
            DEFAULTS,
            (),
            "Inputs contains invalid name. Used request inputs: x, request input: c,x",
        ),
        ({"x": None, "bias": 1}, {}, (), "tensor parsing error: x"),
        (
            {"x": 1, "bias": 1},
            {},
            ("y", "nope"),
            "output tensor alias not found in signature: nope Outputs expected to be in the set {y,z}.",
        ),
        ({"x": 1, "bias": 1}, {}, ("y", "y"), "duplicate output tensor alias: y"),
        # The order of checks: count, then inputs, then outputs.
        ({"x": None, "bias": 1}, {}, ("nope",), "tensor parsing error: x"),
    ],
)
def test_a_predict_request_is_checked_as_tf_serving_checks_it(
    inputs: dict[str, Any], defaults: Mapping[str, Array], output_filter: tuple[str, ...], error: str
) -> None:
    signatures = {"serving_default": signature("x", "bias", defaults=defaults)}
    with pytest.raises(InvalidArgument) as raised:
        predict_call(signatures, "", inputs, output_filter, to_array)
    assert raised.value.message == error


def test_a_signature_that_is_missing_comes_before_anything_about_inputs() -> None:
    with pytest.raises(FailedPrecondition, match=r'^Serving signature key "other" not found\.$'):
        predict_call({"serving_default": signature("x")}, "other", {}, (), to_array)


def test_inputs_left_out_take_their_defaults_and_no_filter_means_all_outputs() -> None:
    signatures = {"serving_default": signature("x", "bias", defaults=DEFAULTS)}
    call = predict_call(signatures, "", {"x": 7}, (), to_array)
    assert call.signature_name == "serving_default"
    assert {alias: array.tolist() for alias, array in call.inputs.items()} == {"x": [7], "bias": [1]}
    assert call.outputs == ("y", "z")


def test_the_output_filter_gives_the_order() -> None:
    call = predict_call({"serving_default": signature("x")}, "serving_default", {"x": 7}, ("z", "y"), to_array)
    assert call.outputs == ("z", "y")


def to_array(value: Any) -> Array:
    if value is None:
        raise AspiredError("not a tensor")
    return np.array([value], np.float32)
