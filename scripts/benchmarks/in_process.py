"""TensorFlow without a server: threads that call a model, in a process of its own that stays for the next question."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cluster.core.errors import Internal
from scripts.sample_models import export_cnn, export_half_plus_two, export_mlp

SIGNATURE = "signature function"
CALLABLE = "session callable"
CALLABLE_IN_THREAD = "session callable in the caller's thread"

EXPORTS: Mapping[str, Callable[[Path], Path]] = {
    "half_plus_two": partial(export_half_plus_two, version=1),
    "mlp": export_mlp,
    "cnn": partial(export_cnn, side=32),
    "image": partial(export_cnn, side=224),
}


class CallTimes(NamedTuple):
    """`processor_s` is what one call took of all processors together."""

    calls_per_s: float
    p50_ms: float
    processor_s: float


class InProcess:
    """The asking end. Not thread-safe."""

    def __init__(self, process: subprocess.Popen[str], directory: tempfile.TemporaryDirectory[str]) -> None:
        self._process = process
        self._directory = directory

    @classmethod
    def start(cls) -> InProcess:
        process = subprocess.Popen(
            [sys.executable, "-m", "scripts.benchmarks.in_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": ".", "TF_CPP_MIN_LOG_LEVEL": "3"},
        )
        return cls(process, tempfile.TemporaryDirectory(prefix="aspired-bench-"))

    def export(self, name: str, base_path: Path) -> Path:
        """Writes version 1 of one of EXPORTS, and returns the base path."""
        self._ask({"do": "export", "name": name, "base_path": str(base_path)})
        return base_path

    def answer(self, saved_model: Path, values: NDArray[Any]) -> NDArray[Any]:
        """What the model makes of the values."""
        self._ask({"do": "answer", "model": str(saved_model), "way": SIGNATURE, "values": self._saved(values)})
        return np.asarray(np.load(Path(self._directory.name, "answer.npy")))

    def call(self, saved_model: Path, values: NDArray[Any], way: str, seconds: float, threads: int = 1) -> CallTimes:
        """How often and how fast the model is called in one of the ways above, by so many threads at once."""
        question = {"do": "call", "model": str(saved_model), "way": way, "values": self._saved(values)}
        return CallTimes(*self._ask({**question, "seconds": seconds, "threads": threads}))

    def stop(self) -> None:
        self._process.communicate()
        self._directory.cleanup()

    def _saved(self, values: NDArray[Any]) -> str:
        path = Path(self._directory.name, "values.npy")
        np.save(path, values)
        return str(path)

    def _ask(self, question: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise Internal(f"TensorFlow in process has ended: {question}")
        return json.loads(line)


def main() -> None:
    """The answering end: a question a line."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    runs: dict[tuple[str, str], Callable[[Any], Any]] = {}
    for line in sys.stdin:
        question = json.loads(line)
        found: Any = None
        if question["do"] == "export":
            EXPORTS[question["name"]](Path(question["base_path"]))
        else:
            key = question["model"], question["way"]
            if key not in runs:
                runs[key] = _load(*key)
            values = np.load(question["values"])
            if question["do"] == "call":
                found = _time(runs[key], values, question["seconds"], question["threads"])
            else:
                np.save(Path(question["values"]).with_name("answer.npy"), runs[key](values))
        answers.write(json.dumps(found) + "\n")
        answers.flush()


def _load(saved_model: str, way: str) -> Callable[[Any], Any]:
    if way != SIGNATURE:
        from scripts.benchmarks.session_callable import session_callable

        return session_callable(saved_model, in_callers_thread=way == CALLABLE_IN_THREAD).run
    import tensorflow as tf

    loaded = tf.saved_model.load(saved_model)
    signature = loaded.signatures["serving_default"]
    [input_alias] = signature.structured_input_signature[1]
    [output_alias] = signature.structured_outputs
    # The model must live as long as its signature is called.
    return lambda values, _loaded=loaded: signature(**{input_alias: tf.constant(values)})[output_alias].numpy()  # type: ignore[misc]


def _time(run: Callable[[Any], Any], values: NDArray[Any], seconds: float, threads: int) -> CallTimes:
    for _ in range(3):
        run(values)

    def call(_: int) -> list[float]:
        took = []
        begun = now = time.perf_counter()
        while now - begun < seconds:
            run(values)
            before, now = now, time.perf_counter()
            took.append(now - before)
        return took

    processor_s = time.process_time()
    with ThreadPoolExecutor(threads) as executor:
        by_thread = list(executor.map(call, range(threads)))
    processor_s = time.process_time() - processor_s
    calls_per_s = sum(len(took) / sum(took) for took in by_thread)
    every = np.concatenate(by_thread)
    return CallTimes(calls_per_s, float(np.median(every)) * 1e3, processor_s / len(every))


if __name__ == "__main__":
    main()
