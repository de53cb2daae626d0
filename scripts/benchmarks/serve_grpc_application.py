"""A plain Ray Serve gRPC deployment of a SavedModel: Serve's gRPC proxy before one deployment with TF Serving's servicer.

python -m scripts.benchmarks.serve_grpc_application SAVED_MODEL HTTP_PORT GRPC_PORT
"""

# Ray's decorator gives a class what mypy does not see.
# mypy: disable-error-code="attr-defined"

import sys
from typing import Any

import ray
from ray import serve

_SERVICER = "tensorflow_serving.apis.prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server"


@serve.deployment(ray_actor_options={"num_cpus": 0}, max_ongoing_requests=1000)
class Model:
    def __init__(self, path: str) -> None:
        import tensorflow as tf
        from tensorflow_serving.apis.predict_pb2 import PredictResponse

        self._loaded = tf.saved_model.load(path)
        self._signature = self._loaded.signatures["serving_default"]
        self._tf = tf
        self._response = PredictResponse

    def Predict(self, request: Any) -> Any:  # noqa: N802
        inputs = {alias: self._tf.constant(self._tf.make_ndarray(tensor)) for alias, tensor in request.inputs.items()}
        outputs = self._signature(**inputs)
        return self._response(outputs={alias: self._tf.make_tensor_proto(tensor.numpy()) for alias, tensor in outputs.items()})


def main() -> None:
    path, http_port, grpc_port = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    ray.init(address="local", include_dashboard=False, object_store_memory=200 << 20, log_to_driver=False)
    serve.start(
        http_options={"host": "127.0.0.1", "port": http_port},
        grpc_options={"port": grpc_port, "grpc_servicer_functions": [_SERVICER]},
    )
    serve.run(Model.bind(path), name="model", route_prefix="/")
    print("ready", flush=True)
    sys.stdin.read()
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main()
