"""SavedModels behind pytriton, in the way that is fastest there: a session callable under Triton's dynamic batcher.

    python -m scripts.benchmarks.pytriton_application HTTP_PORT GRPC_PORT NAME=SAVED_MODEL...

Runs in the environment that `scripts/bench --peers` makes. Says "ready" when all models are up; ends with its standard input.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

from scripts.benchmarks.session_callable import SessionCallable, session_callable

MAX_BATCH_SIZE = 128


def bind(triton: Triton, name: str, model: SessionCallable) -> None:
    triton.bind(
        model_name=name,
        infer_func=_inference(model),
        inputs=[Tensor(name=model.input_alias, dtype=np.float32, shape=model.input_shape)],
        outputs=[Tensor(name=model.output_alias, dtype=np.float32, shape=model.output_shape)],
        config=ModelConfig(max_batch_size=MAX_BATCH_SIZE, batcher=DynamicBatcher()),
    )


def _inference(model: SessionCallable) -> Callable[..., dict[str, Any]]:
    @batch  # type: ignore[untyped-decorator]
    def infer(**inputs: Any) -> dict[str, Any]:
        return {model.output_alias: model.run(inputs[model.input_alias])}

    return infer  # type: ignore[no-any-return]


def main() -> None:
    config = TritonConfig(
        http_address="127.0.0.1",
        http_port=int(sys.argv[1]),
        grpc_address="127.0.0.1",
        grpc_port=int(sys.argv[2]),
        allow_metrics=False,
    )
    with Triton(config=config) as triton:
        for model in sys.argv[3:]:
            name, _, path = model.partition("=")
            bind(triton, name, session_callable(path, in_callers_thread=True))
        triton.run()
        print("ready", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
