"""Every metric there is: TF Serving's under their own names, then ours."""

from __future__ import annotations

from cluster.core.metrics import Kind, Metric, exponential

# TensorFlow's own choice of buckets, in microseconds, in microseconds, and in rows.
_LATENCY = exponential(10, 1.8, 33)
_STAGE_MICROS = exponential(1, 1.5, 42)
_QUEUING = exponential(100, 1.2, 52)
_SIZES = exponential(1, 2, 14)
_SECONDS = exponential(0.01, 2, 16)
_BYTES = exponential(64, 4, 14)

_SERVING = ":tensorflow:serving:"
_BATCHING = ":tensorflow:serving:batching_session:"


def _counter(name: str, *labels: str, help: str) -> Metric:
    return Metric(name, Kind.COUNTER, labels, help=help)


def _gauge(name: str, *labels: str, help: str) -> Metric:
    return Metric(name, Kind.GAUGE, labels, help=help)


def _histogram(name: str, bounds: tuple[float, ...], *labels: str, help: str) -> Metric:
    return Metric(name, Kind.HISTOGRAM, labels, bounds, help)


REQUEST_COUNT = _counter(
    _SERVING + "request_count", "model_name", "status", help="REST requests; gRPC Predict, Classify and Regress."
)
REQUEST_LATENCY = _histogram(
    _SERVING + "request_latency", _LATENCY, "model_name", "API", "entrypoint", help="Microseconds of requests that succeeded."
)
RUNTIME_LATENCY = _histogram(
    _SERVING + "runtime_latency",
    _LATENCY,
    "model_name",
    "API",
    "runtime",
    help="Microseconds from handing a request to a replica until its answer is there.",
)
REQUEST_EXAMPLE_COUNTS = _histogram(
    _SERVING + "request_example_counts", _SIZES, "model", help="Examples of a MultiInference request."
)
REQUEST_EXAMPLE_COUNT_TOTAL = _counter(
    _SERVING + "request_example_count_total", "model", help="Examples of all MultiInference requests."
)
REQUEST_LOG_COUNT = _counter(
    _SERVING + "request_log_count", "model_name", "status_code", help="Requests that were to be logged, by what became of it."
)
MODEL_WARMUP_LATENCY = _histogram(
    _SERVING + "model_warmup_latency", _LATENCY, "model_path", "status", help="Microseconds of a replica's warm-up."
)
MODEL_WARMUP_RECORDS_READ = _counter(
    _SERVING + "model_warmup_records_read", "model_path", "status", help="Warm-up records that were replayed."
)
QUEUING_LATENCY = _histogram(
    _BATCHING + "queuing_latency", _QUEUING, "thread_pool_name", help="Microseconds that a request waits for its batch to run."
)
WRAPPED_RUN_COUNT = _counter(_BATCHING + "wrapped_run_count", help="Batches that were run.")
PADDING_SIZE = _histogram(
    _BATCHING + "padding_size", _SIZES, "execution_batch_size", help="Rows that were added to a batch to fill it."
)
INPUT_BATCH_SIZE = _histogram(_BATCHING + "input_batch_size", _SIZES, help="Rows of a request.")
PROCESSED_BATCH_SIZE = _histogram(_BATCHING + "processed_batch_size", _SIZES, help="Rows of a batch that was run.")
MLMD_MAP = _gauge(_SERVING + "mlmd_map", "model_name", "version", help="Not used: TF Serving's tie to ML Metadata.")
LOAD_ATTEMPT_COUNT = _counter(
    ":tensorflow:cc:saved_model:load_attempt_count", "model_path", "status", help="Loads of SavedModels, in each replica."
)
LOAD_LATENCY = _counter(
    ":tensorflow:cc:saved_model:load_latency", "model_path", help="Microseconds of the loads that succeeded, in each replica."
)
GRAPH_RUNS = _counter(":tensorflow:core:graph_runs", help="Runs of a model.")
GRAPH_RUN_TIME_USECS = _counter(":tensorflow:core:graph_run_time_usecs", help="Microseconds of all runs of a model.")
DIRECT_SESSION_RUNS = _counter(":tensorflow:core:direct_session_runs", help="Runs of a model by a session.")

REQUESTS_IN_FLIGHT = _gauge("aspired_requests_in_flight", help="Requests that the frontends hold.")
FRONTENDS = _gauge("aspired_frontends", help="Frontends that live.")
FRAME_BYTES = _histogram(
    "aspired_frame_bytes", _BYTES, "direction", help="Bytes of the frames between frontends and replicas, by request or reply."
)
FRAME_CALLS = _histogram(
    "aspired_frame_calls", _SIZES, "channel", help="Requests that went to a replica in one frame, by lane or Serve handle."
)
STAGES = ("decode", "gather", "replica", "replica_queue", "replica_run", "encode")
"""On the way of a request, what is within a stage after it (`servables.stage_metrics`)."""
STAGE_LATENCY = _histogram(
    "aspired_stage_latency",
    _STAGE_MICROS,
    "model_name",
    "stage",
    help="Microseconds of the stages of one request in sixteen: decode, gather (waiting for a frame), replica, encode; within "
    "replica: replica_queue, replica_run.",
)
CALLS_WAITING = _gauge("aspired_calls_waiting", "model_name", "version", help="Requests in replicas that do not run yet.")
CALLS_RUNNING = _gauge("aspired_calls_running", "model_name", "version", help="Requests in replicas that run.")
REPLICAS = _gauge("aspired_replicas", "model_name", "version", "phase", help="Replicas, by what they do.")
LOADS = _counter("aspired_loads_total", "model_name", "outcome", help="Loads of versions that ended, by how.")
LOAD_SECONDS = _histogram(
    "aspired_load_duration_seconds", _SECONDS, "model_name", help="From a version's load until every frontend routes to it."
)
TRANSITIONS = _counter("aspired_transitions_total", "model_name", "state", help="Versions that came into a public state.")
VERSIONS = _gauge("aspired_versions", "model_name", "state", help="Versions, by public state.")
FETCHED_BYTES = _counter("aspired_fetched_bytes_total", "model_name", help="Bytes of versions that nodes have fetched.")
FETCH_SECONDS = _histogram(
    "aspired_fetch_duration_seconds",
    _SECONDS,
    "model_name",
    help="From asking a node's cache for a version until it is fetched.",
)
MODEL_CACHE_LOOKUPS = _counter(
    "aspired_model_cache_lookups_total",
    "model_name",
    "outcome",
    help="Replicas that asked their node's cache for their version: hit, fetch or error.",
)
MODEL_CACHE_EVICTED_BYTES = _counter(
    "aspired_model_cache_evicted_bytes_total", help="Bytes that left nodes' caches so that other versions fit."
)
RESOURCE_CAPACITY = _gauge("aspired_resource_capacity", "resource", help="What the nodes have; bytes for memory.")
RESOURCE_RESERVED = _gauge("aspired_resource_reserved", "resource", help="What loaded versions hold of it.")

METRICS: tuple[Metric, ...] = tuple(metric for metric in list(globals().values()) if isinstance(metric, Metric))
