"""Large requests: an image as JSON against what parsing and the model take, and large tensors against plain Ray Serve."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import orjson

from cluster.core.errors import Internal
from scripts.benchmarks.figure import Figure, Target
from scripts.benchmarks.in_process import CALLABLE, CALLABLE_IN_THREAD
from scripts.benchmarks.payload import half_plus_two_tensor, images
from scripts.benchmarks.processor_profile import ProcessorProfile
from scripts.benchmarks.scenario import Scenario
from scripts.benchmarks.workbench import ASPIRED, ASPIRED_IMAGES, IN_PROCESS, SERVE_GRPC, Workbench
from servables.json_codec.predict_body import PredictBody
from servables.signatures import TensorInfo
from servables.tensors import DataType

_DECODES_A_ROUND = 20
_TENSOR_CONNECTIONS = 4


def scenarios() -> list[Scenario]:
    return [
        *(_tensor(megabytes) for megabytes in (0.6, 6.0)),
        Scenario("image-decode", "JSON of a 224x224x3 image to a tensor, against orjson and numpy", (), _image_decode),
        Scenario(
            "image-request",
            "REST predict of a 224x224x3 image, 1 connection, against twice the model's own time plus 5 ms",
            (ASPIRED_IMAGES, IN_PROCESS),
            _image_request,
        ),
    ]


def _tensor(megabytes: float) -> Scenario:
    name = f"grpc-tensor-{megabytes:g}mb"

    def measure(bench: Workbench) -> list[Figure]:
        payload = half_plus_two_tensor(megabytes)
        drive = bench.grpc(payload, _TENSOR_CONNECTIONS)
        ours, theirs = bench.alternate((ASPIRED, SERVE_GRPC), payload, drive, "gRPC")
        processor = ProcessorProfile(name, "request")
        server = bench.server(ASPIRED)
        for _ in range(bench.rounds):
            processor.round(
                server, lambda: drive(server, bench.seconds).checked(name), lambda load: load.requests_per_s * bench.seconds
            )
        return [
            Figure(
                scenario=name,
                quantity="throughput",
                unit="requests/s",
                aspired=tuple(measured.load.requests_per_s for measured in ours),
                peer=tuple(measured.load.requests_per_s for measured in theirs),
                peer_name=SERVE_GRPC,
                target=Target(at_least=3.0),
            ),
            Figure(
                scenario=name,
                quantity="p99",
                unit="ms",
                aspired=tuple(measured.load.p99_ms for measured in ours),
                peer=tuple(measured.load.p99_ms for measured in theirs),
                peer_name=SERVE_GRPC,
            ),
            *processor.figures(),
        ]

    return Scenario(
        name,
        f"gRPC predict of {megabytes:g} MB that answers as much, {_TENSOR_CONNECTIONS} in flight, against a plain Ray Serve "
        "gRPC deployment",
        (ASPIRED, SERVE_GRPC, IN_PROCESS),
        measure,
    )


def _image_decode(bench: Workbench) -> list[Figure]:
    body = b'{"instances": %s}' % images("image", 1, 224).json
    inputs = {"image": TensorInfo("image:0", DataType.DT_FLOAT, (-1, 224, 224, 3))}

    def ours() -> Any:
        return PredictBody.parse(body).decode(inputs, "")["image"]

    def theirs() -> Any:
        return np.asarray(orjson.loads(body)["instances"], np.float32)

    if not np.array_equal(ours(), theirs()):
        raise Internal("the decoders disagree")
    rounds = [(_median_ms(ours), _median_ms(theirs)) for _ in range(bench.rounds)]
    return [
        Figure(
            scenario="image-decode",
            quantity=f"{len(body) / 1e6:.1f} MB",
            unit="ms",
            aspired=tuple(own for own, _ in rounds),
            peer=tuple(other for _, other in rounds),
            peer_name="orjson and numpy",
            target=Target(at_most=0.25),
        )
    ]


def _median_ms(call: Callable[[], Any]) -> float:
    took = []
    for _ in range(_DECODES_A_ROUND):
        begun = time.process_time()
        call()
        took.append((time.process_time() - begun) * 1e3)
    return median(took)


def _image_request(bench: Workbench) -> list[Figure]:
    payload = images("image", 1, 224)
    server = bench.server(ASPIRED_IMAGES)
    model = bench.saved_model("image")
    drive = bench.rest(payload, 1)
    bench.check(server, payload, "REST")
    own_ms, request_ms = [], []
    for _ in range(bench.rounds):
        times = [bench.in_process.call(model, payload.values, way, 1.0) for way in (CALLABLE, CALLABLE_IN_THREAD)]
        own_ms.append(min(each.p50_ms for each in times))
        request_ms.append(bench.measure(server, drive, "REST image").load.p50_ms)
    bench.check(server, payload, "REST")
    return [
        Figure(scenario="image-request", quantity="the model alone, in process", unit="ms", aspired=tuple(own_ms)),
        Figure(
            scenario="image-request",
            quantity="p50",
            unit="ms",
            aspired=tuple(request_ms),
            peer=tuple(2 * own + 5 for own in own_ms),
            peer_name="2x model + 5 ms",
            target=Target(at_most=1.0),
        ),
    ]
