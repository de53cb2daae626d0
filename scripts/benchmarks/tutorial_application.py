"""The Ray Serve application that tutorials teach: a FastAPI ingress before a model deployment with `@serve.batch`."""

# Annotations stay real objects here: FastAPI looks at them in the replica, where this module's names are not.

# Ray's decorators give classes what mypy does not see.
# mypy: disable-error-code="attr-defined, untyped-decorator"

import sys
from typing import Any

import ray
from fastapi import FastAPI, Request
from ray import serve

application = FastAPI()


@serve.deployment(ray_actor_options={"num_cpus": 0}, max_ongoing_requests=1000)
class Model:
    def __init__(self, path: str) -> None:
        import tensorflow as tf

        self._loaded = tf.saved_model.load(path)
        self._signature = self._loaded.signatures["serving_default"]
        self._constant = tf.constant

    @serve.batch(max_batch_size=128, batch_wait_timeout_s=0.001)
    async def predict(self, instances: list[list[float]]) -> list[list[float]]:
        lengths = [len(each) for each in instances]
        rows = [[value] for each in instances for value in each]
        outputs = self._signature(x=self._constant(rows))["y"].numpy().ravel().tolist()
        ends = [sum(lengths[: number + 1]) for number in range(len(lengths))]
        return [outputs[end - length : end] for length, end in zip(lengths, ends, strict=True)]


@serve.deployment(ray_actor_options={"num_cpus": 0}, max_ongoing_requests=1000)
@serve.ingress(application)
class Ingress:
    def __init__(self, model: Any) -> None:
        self._model = model

    @application.post("/v1/models/half_plus_two:predict")
    async def predict(self, request: Request) -> dict[str, list[float]]:
        body = await request.json()
        return {"predictions": await self._model.predict.remote(body["instances"])}


def main() -> None:
    path, port = sys.argv[1], int(sys.argv[2])
    ray.init(address="local", include_dashboard=False, object_store_memory=100 << 20, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(Ingress.bind(Model.bind(path)), name="tutorial")
    print("ready", flush=True)
    sys.stdin.read()
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main()
