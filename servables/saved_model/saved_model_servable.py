"""A SavedModel that is loaded and can be run."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from tensorflow.core.protobuf import config_pb2
from tensorflow.python.framework import op_def_registry

from cluster.core.errors import DeadlineExceeded, FailedPrecondition, InvalidArgument
from servables.profile import ProfileOptions
from servables.saved_model.bundle import SavedModelBundle, load_bundle, session_config
from servables.saved_model.profiler import record_profile
from servables.saved_model.quantized_types import QUANTIZED, plain, quantizing
from servables.saved_model.run_threads import RunThreads, ThreadChoice
from servables.saved_model.session_callables import CallableKey, SessionCallable, SessionCallables, timeout_bucket_ms
from servables.saved_model.signature_defs import serving_signature_defs, to_signatures
from servables.saved_model.stateful_ops import keeps_state
from servables.saved_model.tensorflow_error import to_aspired_error
from servables.servable import Array, PlatformOptions, Servable
from servables.signatures import Signature

# Each callable has its own optimized copy of the graph: enough for some signatures, filters and timeouts, not for any number.
_MAX_CALLABLES = 32
_MAX_CHOICES = 1024


def load_saved_model(path: str, options: PlatformOptions) -> SavedModelServable:
    """Loads the SavedModel at `path`. Raises AspiredError, whatever TensorFlow raised."""
    try:
        return SavedModelServable(load_bundle(path, options), session_config(options).inter_op_parallelism_threads)
    except Exception as error:
        raise to_aspired_error(error) from error


class SavedModelServable(Servable):
    """Runs signatures through session callables, which feed any shape and run only what is fetched, as TF Serving does."""

    def __init__(self, bundle: SavedModelBundle, inter_op_parallelism_threads: int = 0) -> None:
        """Takes over the bundle: `close` closes it. Its session has so many threads between ops; 0: whatever is quickest."""
        definitions = serving_signature_defs(bundle.meta_graph)
        self._session = bundle.session
        self._signatures = to_signatures(definitions)
        self._deterministic = not keeps_state(bundle.meta_graph.graph_def, definitions.values(), op_def_registry.get)
        self._callables = SessionCallables(self._make_callable, _MAX_CALLABLES)
        self._choices: dict[tuple[str, frozenset[str], frozenset[str]], ThreadChoice] = {}
        # What a graph with state may wait for in another thread cannot be known, so its runs stay in the pool.
        self._fixed_threads = None if self._deterministic else RunThreads.POOL
        if inter_op_parallelism_threads:
            self._fixed_threads = RunThreads.CALLER if inter_op_parallelism_threads < 0 else RunThreads.POOL

    @property
    def signatures(self) -> Mapping[str, Signature]:
        return self._signatures

    @property
    def deterministic(self) -> bool:
        return self._deterministic

    def run(
        self, signature_name: str, inputs: Mapping[str, Array], outputs: Sequence[str], timeout_s: float | None
    ) -> dict[str, Array]:
        if timeout_s is not None and timeout_s <= 0:
            raise DeadlineExceeded("Timed out before the run began")
        size_bytes = sum([array.nbytes for array in inputs.values()])
        fed, fetched = frozenset(inputs), frozenset(outputs)
        choice = self._choices.get((signature_name, fed, fetched)) or self._choice(signature_name, fed, fetched)
        threads = choice.threads(size_bytes)
        timeout_ms = timeout_bucket_ms(timeout_s) if threads is RunThreads.POOL else 0
        try:
            session_callable = self._callables.get(CallableKey(signature_name, fed, fetched, timeout_ms, threads))
            if session_callable.twins:
                _check_twins(session_callable, inputs)
            feeds = [inputs[alias] for alias in session_callable.feeds]
            began = time.perf_counter()
            values = session_callable.function(*feeds)
            choice.ran(threads, size_bytes, time.perf_counter() - began)
        except Exception as error:
            raise to_aspired_error(error) from error
        return {alias: _to_array(values[session_callable.fetches[alias]]) for alias in outputs}

    @property
    def caller_thread_signatures(self) -> frozenset[str]:
        return frozenset(signature for (signature, _, _), choice in list(self._choices.items()) if choice.in_caller)

    def profile(self, options: ProfileOptions) -> bytes:
        return record_profile(options)

    def close(self) -> None:
        self._callables.clear()
        self._session.close()

    def _choice(self, signature_name: str, fed: frozenset[str], fetched: frozenset[str]) -> ThreadChoice:
        if len(self._choices) < _MAX_CHOICES:
            return self._choices.setdefault((signature_name, fed, fetched), ThreadChoice(self._fixed_threads))
        return ThreadChoice(self._fixed_threads or RunThreads.POOL)

    def _make_callable(self, key: CallableKey) -> SessionCallable:
        signature = self._signatures.get(key.signature_name)
        if signature is None:
            raise FailedPrecondition(f'Serving signature key "{key.signature_name}" not found.')
        unknown = sorted(key.inputs - signature.inputs.keys() | key.outputs - signature.outputs.keys())
        if unknown:
            raise InvalidArgument(f'Aliases not found in signature "{key.signature_name}": {", ".join(unknown)}')
        feeds: dict[str, str] = {}  # tensor -> the alias that feeds it
        twins: list[tuple[str, str]] = []
        for alias in sorted(key.inputs):
            first = feeds.setdefault(signature.inputs[alias].name, alias)
            if first != alias:
                twins.append((first, alias))
        fetches = list(dict.fromkeys(signature.outputs[alias].name for alias in sorted(key.outputs)))
        options = config_pb2.CallableOptions(feed=list(feeds), fetch=fetches)
        options.run_options.timeout_in_ms = key.timeout_ms
        options.run_options.inter_op_thread_pool = key.threads
        function = self._session._make_callable_from_options(options)
        dtypes = [signature.inputs[alias].dtype for alias in feeds.values()]
        return SessionCallable(
            function=function if QUANTIZED.keys().isdisjoint(dtypes) else quantizing(function, dtypes),
            feeds=tuple(feeds.values()),
            twins=tuple(twins),
            fetches={alias: fetches.index(signature.outputs[alias].name) for alias in key.outputs},
        )


def _check_twins(session_callable: SessionCallable, inputs: Mapping[str, Array]) -> None:
    for first, second in session_callable.twins:
        if not np.array_equal(inputs[first], inputs[second]):
            raise InvalidArgument(f"Inputs {first} and {second} feed the same tensor and must be equal")


def _to_array(value: Any) -> Array:
    """The runtime gives scalars as numpy scalars, and a scalar string as bytes, in which numpy would drop trailing zeros."""
    return np.array(value, dtype=np.object_) if isinstance(value, bytes) else plain(np.asarray(value))
