"""Every flag of the server: the one place where its name, type, default, bounds and help are written down.

The parser, the help and docs/flags.md are made from this class. TF Serving's flags (`model_servers/main.cc`) keep their
names, defaults and meaning; those of the last group, and what is marked there, are ours.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from cluster.config.flag import Group, declared_flags, flag
from cluster.config.log_options import LogOptions
from cluster.config.model_cache_options import ModelCacheOptions
from cluster.config.names import SERVER_NAME
from cluster.core.errors import ConfigError
from cluster.core.object_uri import object_path_problem

_INT32_MAX = 2**31 - 1
_MEBIBYTE = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """The flags of one server. An instance is valid; making an invalid one raises ConfigError."""

    # Models
    model_name: str = flag(
        "default",
        Group.MODELS,
        "Name of the only model, with --model_base_path. Not used with --model_config_file.",
        metavar="NAME",
    )
    model_base_path: str = flag(
        "",
        Group.MODELS,
        "Directory that holds the model's versions: <path>/1, <path>/2, ... An absolute path or a URI (s3://bucket/prefix).",
        metavar="DIRECTORY",
    )
    model_config_file: str = flag(
        "",
        Group.MODELS,
        "Several models: a text file with a ModelServerConfig, or a native config (*.yaml), which says more of each; a path or "
        "a URI (s3://bucket/models.yaml). Wins over --model_name and --model_base_path.",
        metavar="FILE",
    )
    model_config_file_poll_wait_seconds: int = flag(
        0,
        Group.MODELS,
        "How often the model config file is read again; 0 reads it once.",
        metavar="SECONDS",
        minimum=0,
    )
    model_repository: str = flag(
        "",
        Group.MODELS,
        "Directory of models: every directory in it that holds versions is served under its name, as it comes and goes. In "
        "place of --model_base_path and --model_config_file; looked at as often as base paths are.",
        metavar="DIRECTORY",
    )
    file_system_poll_wait_seconds: int = flag(
        1,
        Group.MODELS,
        "How often the base paths are looked at for versions; 0 looks once, a negative number never looks.",
        metavar="SECONDS",
    )
    version_settle_seconds: float = flag(
        1.5,
        Group.MODELS,
        "How long the files of a version must have been still before it is loaded, unless its manifest says that it is whole. "
        "More where big files are copied slowly, one after the other. Per model in a native config.",
        metavar="SECONDS",
        minimum=0,
    )
    allow_version_labels_for_unavailable_models: bool = flag(
        False,
        Group.MODELS,
        "Let a reload give a label to a version that is not available yet, if the label is new.",
    )
    servable_versions_always_present: bool = flag(
        False,
        Group.MODELS,
        "Never unload the last versions of a model because its base path is empty, and open the ports only when every model "
        "has a version.",
    )

    # Listeners
    port: int = flag(
        8500,
        Group.LISTENERS,
        "TCP port of gRPC; 0 turns it off, then --grpc_socket_path is needed.",
        metavar="PORT",
        minimum=0,
        maximum=65535,
    )
    grpc_socket_path: str = flag("", Group.LISTENERS, "UNIX socket to serve gRPC on, beside the port.", metavar="PATH")
    rest_api_port: int = flag(
        0,
        Group.LISTENERS,
        "TCP port of REST; 0 turns it off. TF Serving's usual one is 8501.",
        metavar="PORT",
        minimum=0,
        maximum=65535,
    )
    host: str = flag("0.0.0.0", Group.LISTENERS, "Address that the ports are bound to, on every node.", metavar="ADDRESS")
    rest_api_timeout_in_ms: int = flag(
        30000, Group.LISTENERS, "How long a REST request may take; 0 or less sets no limit.", metavar="MILLISECONDS"
    )
    rest_api_enable_cors_support: bool = flag(
        False, Group.LISTENERS, "Add the Access-Control-Allow headers to every REST reply."
    )
    rest_api_num_threads: int = flag(
        4 * (os.cpu_count() or 1),
        Group.LISTENERS,
        "Frontends answer REST on event loops; see --frontends_per_node.",
        default_text="4 x CPUs",
        minimum=1,
        needless=True,
    )
    grpc_max_threads: int = flag(
        4 * (os.cpu_count() or 1),
        Group.LISTENERS,
        "Frontends answer gRPC on event loops; see --frontends_per_node.",
        default_text="4 x CPUs",
        minimum=1,
        needless=True,
    )
    grpc_listener: str = flag(
        "native",
        Group.LISTENERS,
        "What serves gRPC: native, Aspired's own HTTP/2, or grpcio, gRPC's library. The library serves in any case where "
        "--use_alts_credentials or --grpc_channel_arguments ask for what only it has.",
        choices=("native", "grpcio"),
    )
    grpc_channel_arguments: str = flag(
        "",
        Group.LISTENERS,
        "Channel arguments of gRPC's own server, which then serves in place of ours: key=value,key=value.",
        metavar="LIST",
    )
    ssl_config_file: str = flag(
        "",
        Group.LISTENERS,
        "Text file with an SSLConfig: keys and certificates for gRPC, on the port and the UNIX socket. REST has no TLS.",
        metavar="FILE",
    )
    use_alts_credentials: bool = flag(
        False,
        Group.LISTENERS,
        "Use Google's ALTS for gRPC. Works on Google Cloud only; excludes --ssl_config_file.",
    )
    enable_grpc_healthcheck_service: bool = flag(
        False,
        Group.LISTENERS,
        "Serve the standard gRPC health service; it knows ModelService, PredictionService and the whole server.",
    )
    enable_grpc_reflection: bool = flag(
        True, Group.LISTENERS, "Describe the gRPC services and their messages to tools such as grpcurl. Ours, not TF Serving's."
    )
    enable_serialization_as_tensor_content: bool = flag(
        False, Group.LISTENERS, "Write the tensors of gRPC Predict replies as raw tensor_content, not as typed value lists."
    )

    # Batching
    enable_batching: bool = flag(False, Group.BATCHING, "Put requests together in batches, in every replica.")
    batching_parameters_file: str = flag(
        "",
        Group.BATCHING,
        "Text file with BatchingParameters: max_batch_size, batch_timeout_micros and the like. Needs --enable_batching.",
        metavar="FILE",
    )
    enable_per_model_batching_parameters: bool = flag(
        False,
        Group.BATCHING,
        "With --enable_batching: batch only versions that bring batching_params.pbtxt, by what it says; "
        "num_batch_threads and thread_pool_name stay those of --batching_parameters_file.",
    )

    # Loading and unloading
    max_num_load_retries: int = flag(
        5, Group.LOADING, "How often a failed load is tried again.", metavar="COUNT", minimum=0, maximum=_INT32_MAX
    )
    load_retry_interval_micros: int = flag(
        60_000_000,
        Group.LOADING,
        "Wait between two attempts to load; a negative number waits not at all.",
        metavar="MICROSECONDS",
    )
    num_load_threads: int = flag(
        0,
        Group.LOADING,
        "How many versions may load at once; 0: as many as there are CPUs, two at least.",
        metavar="COUNT",
        minimum=0,
        maximum=_INT32_MAX,
    )
    num_unload_threads: int = flag(
        0, Group.LOADING, "Versions unload beside each other, by ending their processes.", minimum=0, needless=True
    )
    enable_model_warmup: bool = flag(
        True,
        Group.LOADING,
        "Run assets.extra/tf_serving_warmup_requests before a version is available.",
    )
    num_request_iterations_for_warmup: int = flag(
        0,
        Group.LOADING,
        "How often each warm-up request is run; 0 means once.",
        metavar="COUNT",
        minimum=0,
    )
    enable_all_batch_sizes_warmup: bool = flag(
        False,
        Group.LOADING,
        "Also run every signature with each of allowed_batch_sizes before a version is available.",
    )
    model_cache_dir: str = flag(
        "",
        Group.LOADING,
        "Directory on every node, of the server's user alone, where versions are kept that lie in an object store: what is "
        "there need not be fetched again when a replica or the server restarts. An absolute path on a local disk.",
        metavar="DIRECTORY",
        default_text="$XDG_CACHE_HOME/aspired/models, else ~/.cache/aspired/models",
    )
    model_cache_bytes: int = flag(
        0,
        Group.LOADING,
        "What that directory may hold on each node. Versions that no replica uses leave it to make room, the longest unused "
        "first; one that does not fit beside those in use cannot be loaded. 0: as much as the disk has room for, sparing 5%.",
        metavar="BYTES",
        minimum=0,
    )
    flush_filesystem_caches: bool = flag(True, Group.LOADING, "The kernel's page cache is left to the kernel.", needless=True)
    remove_unused_fields_from_bundle_metagraph: bool = flag(
        True, Group.LOADING, "Only signatures are kept of a version's MetaGraph.", needless=True
    )

    # TensorFlow
    saved_model_tags: str = flag(
        "serve", Group.TENSORFLOW, "Tags of the MetaGraph to load, all of them: tag,tag.", metavar="LIST"
    )
    tensorflow_session_parallelism: int = flag(
        0,
        Group.TENSORFLOW,
        "Threads of a session, both within an op and between ops; 0 lets TensorFlow choose.",
        metavar="COUNT",
        minimum=0,
    )
    tensorflow_intra_op_parallelism: int = flag(
        0, Group.TENSORFLOW, "Threads of a session within one op; 0 lets TensorFlow choose.", metavar="COUNT", minimum=0
    )
    tensorflow_inter_op_parallelism: int = flag(
        0, Group.TENSORFLOW, "Threads of a session between ops; 0 lets TensorFlow choose.", metavar="COUNT", minimum=0
    )
    enable_signature_method_name_check: bool = flag(
        False,
        Group.TENSORFLOW,
        "Let Classify and Regress use only signatures with their own method_name, which exports of TF2 do not have.",
    )
    tensorflow_session_config_file: str = flag(
        "",
        Group.TENSORFLOW,
        "Text file with a ConfigProto for the sessions. Flags that say the same win over it.",
        metavar="FILE",
    )
    platform_config_file: str = flag(
        "",
        Group.TENSORFLOW,
        "Text file with a PlatformConfigMap. It alone then says how to batch and warm up, which tags to load, how sessions run "
        "and whether TFLite is preferred: flags for these are ignored.",
        metavar="FILE",
    )
    per_process_gpu_memory_fraction: float = flag(
        0.0,
        Group.TENSORFLOW,
        "Part of each GPU's memory that the versions on it may take together; 0 is all of it.",
        metavar="FRACTION",
        minimum=0,
        maximum=1,
    )
    prefer_tflite_model: bool = flag(
        False, Group.TENSORFLOW, "Serve model.tflite where a version has one, else its saved_model.pb."
    )
    num_tflite_pools: int = flag(
        os.cpu_count() or 1,
        Group.TENSORFLOW,
        "Pools of TFLite interpreters in a replica; as many runs go side by side as there are interpreters.",
        metavar="COUNT",
        default_text="CPUs",
        minimum=1,
        maximum=1000,
    )
    num_tflite_interpreters_per_pool: int = flag(
        1, Group.TENSORFLOW, "TFLite interpreters in each pool.", metavar="COUNT", minimum=1, maximum=1000
    )
    xla_cpu_compilation_enabled: bool = flag(
        False, Group.TENSORFLOW, "XLA always compiles the functions that a model marks for it.", needless=True
    )
    xla_gpu_compilation_enabled: bool = flag(
        False, Group.TENSORFLOW, "XLA always compiles the functions that a model marks for it.", needless=True
    )
    mixed_precision: str = flag(
        "",
        Group.TENSORFLOW,
        "Compute in bfloat16 what loses little by it, on CPUs that have instructions for that: bfloat16.",
        metavar="TYPE",
        choices=("", "bfloat16"),
    )
    thread_pool_factory_config_file: str = flag(
        "",
        Group.TENSORFLOW,
        "There is no thread pool factory that a file could name: sessions use TensorFlow's own pools.",
        metavar="FILE",
        needless=True,
    )
    skip_initialize_tpu: bool = flag(False, Group.TENSORFLOW, "There are no TPUs to initialize.", needless=True)

    # Ray cluster (all ours)
    ray_address: str = flag(
        "local",
        Group.CLUSTER,
        "The Ray cluster to serve on: local starts one for this server alone, auto joins this machine's, or HOST:PORT.",
        metavar="ADDRESS",
    )
    server_name: str = flag(
        "default",
        Group.CLUSTER,
        "Tells this server from others on the same Ray cluster: small letters, digits and '-', 40 at most.",
        metavar="NAME",
    )
    detach: bool = flag(
        False,
        Group.CLUSTER,
        "Return once the server is ready, and leave it running; `aspired shutdown` stops it.",
    )
    replicas_per_version: int | None = flag(
        None,
        Group.CLUSTER,
        "Replicas of every model version.",
        metavar="COUNT",
        default_text="one for each GPU; one where there is none",
        minimum=1,
        maximum=10_000,
    )
    frontends_per_node: int = flag(
        1, Group.CLUSTER, "Frontend processes on each node; they share its ports.", metavar="COUNT", minimum=1, maximum=1000
    )
    object_store_memory_bytes: int = flag(
        512 * _MEBIBYTE,
        Group.CLUSTER,
        "Shared memory for large tensors on a Ray cluster that this server starts.",
        metavar="BYTES",
        # Ray refuses to start with less.
        minimum=75 * _MEBIBYTE,
    )

    fork_replicas: bool = flag(
        True,
        Group.CLUSTER,
        "Start replicas without a GPU by forking a process that has TensorFlow imported, on a Ray of this server's own; false "
        "imports it in each of them.",
    )

    # Operations
    direct_lanes: bool = flag(
        True,
        Group.CLUSTER,
        "Send requests to replicas over sockets of Aspired's own; false sends all of them through Ray Serve's handles.",
    )
    max_queue_delay_s: float = flag(
        10.0,
        Group.OPERATIONS,
        "How long a request may have to wait for its version. One that would wait longer is refused at once (UNAVAILABLE, "
        "503), if more than a hundred wait; 0 sets no limit but the request's own deadline.",
        metavar="SECONDS",
        minimum=0,
    )
    max_held_request_bytes: int = flag(
        1 << 30,
        Group.OPERATIONS,
        "What requests without an answer may take in each frontend, by protocol; more is refused (UNAVAILABLE, 503).",
        metavar="BYTES",
        minimum=1,
    )
    drain_timeout_s: float = flag(
        50.0,
        Group.OPERATIONS,
        "How long requests under way may take to finish when the server stops.",
        metavar="SECONDS",
        minimum=0,
    )
    log_level: str = flag(
        "info",
        Group.OPERATIONS,
        "Least important message that is logged: debug, info, warning or error.",
        metavar="LEVEL",
        choices=("debug", "info", "warning", "error"),
    )
    log_format: str = flag(
        "text",
        Group.OPERATIONS,
        "How Aspired's own logs are written: text, or json for one object a line.",
        metavar="FORMAT",
        choices=("text", "json"),
    )
    access_log: bool = flag(False, Group.OPERATIONS, "Log a line for each request, in the frontends' logs.")
    request_log_max_file_bytes: int = flag(
        64 * _MEBIBYTE,
        Group.OPERATIONS,
        "Size at which a file of logged requests (logging_config of a model) is complete and another is begun.",
        metavar="BYTES",
        minimum=1,
    )
    request_log_max_file_age_seconds: int = flag(
        600, Group.OPERATIONS, "Age at which such a file is complete whatever its size.", metavar="SECONDS", minimum=1
    )
    request_log_max_total_bytes: int = flag(
        10 << 30,
        Group.OPERATIONS,
        "What the files of one filename_prefix may take on a node; beyond it the oldest are deleted.",
        metavar="BYTES",
        minimum=1,
    )
    monitoring_config_file: str = flag(
        "",
        Group.OPERATIONS,
        "Text file with a MonitoringConfig: Prometheus metrics of the whole server on every REST port.",
        metavar="FILE",
    )
    enable_profiler: bool = flag(
        True,
        Group.OPERATIONS,
        "Serve TensorFlow's profiler on the gRPC port, for TensorBoard to capture what a replica of each version does.",
    )

    def __post_init__(self) -> None:
        for name, declared in SERVER_FLAGS.items():
            value = getattr(self, name)
            if not declared.allows(value):
                raise ConfigError(f"--{name}={value}: expected {declared.expected}")
        self._check_models()
        self._check_listeners()
        self._check_loading()
        self._check_tensorflow()
        self._check_cluster()

    def _check_models(self) -> None:
        if self.model_repository:
            self._check_repository()
        elif not self.model_base_path and not self.model_config_file:
            raise ConfigError(
                "Both server_options.model_base_path and server_options.model_config_file are empty! "
                "Give --model_base_path=DIRECTORY (and --model_name=NAME), or --model_config_file=FILE."
            )
        if not self.model_name and not self.model_config_file:
            raise ConfigError("--model_name is empty: give the model a name, as in --model_name=my_model")
        if self.batching_parameters_file and not self.enable_batching and not self.platform_config_file:
            raise ConfigError(
                "server_options.batching_parameters_file is set without setting server_options.enable_batching to true. "
                "Add --enable_batching, or leave --batching_parameters_file out."
            )

    def _check_repository(self) -> None:
        for name in ("model_base_path", "model_config_file"):
            if getattr(self, name):
                raise ConfigError(f"--model_repository and --{name} exclude each other: leave one of them out")
        if not self.model_repository.startswith("/") and "://" not in self.model_repository:
            raise ConfigError(
                f"--model_repository={self.model_repository}: expected an absolute path or a URI; "
                f"did you mean --model_repository={os.path.abspath(self.model_repository)}?"
            )
        if problem := object_path_problem(self.model_repository):
            raise ConfigError(f"--model_repository: {problem}")

    def _check_listeners(self) -> None:
        if self.port == 0 and not self.grpc_socket_path:
            raise ConfigError(
                "At least one of server_options.grpc_port or server_options.grpc_socket_path must be set. "
                "Give --port=8500 or --grpc_socket_path=PATH."
            )
        if self.port and self.port == self.rest_api_port:
            raise ConfigError(f"--port and --rest_api_port are both {self.port}: gRPC and REST need a port each")
        if not self.host:
            raise ConfigError("--host is empty: give an address of the nodes, or 0.0.0.0 for all of them")
        if self.ssl_config_file and self.use_alts_credentials:
            raise ConfigError("--ssl_config_file and --use_alts_credentials exclude each other: leave the second out")
        _parsed_channel_arguments(self.grpc_channel_arguments)
        # A frontend with --grpc_socket_path binds that one file, which two processes cannot share.
        if self.grpc_socket_path and self.frontends_per_node > 1:
            raise ConfigError("--grpc_socket_path takes one frontend: leave --frontends_per_node at 1")

    def _check_loading(self) -> None:
        if self.model_cache_dir and not os.path.isabs(self.model_cache_dir):
            raise ConfigError(
                f"--model_cache_dir={self.model_cache_dir}: expected an absolute path, as it is meant on every node; "
                f"did you mean --model_cache_dir={os.path.abspath(self.model_cache_dir)}?"
            )

    def _check_tensorflow(self) -> None:
        if not self.tags:
            raise ConfigError("--saved_model_tags is empty: name the MetaGraph's tags, as in --saved_model_tags=serve")
        if (
            not self.platform_config_file
            and self.tensorflow_session_parallelism
            and self.tensorflow_intra_op_parallelism
            and self.tensorflow_inter_op_parallelism
        ):
            raise ConfigError(
                "--tensorflow_session_parallelism, --tensorflow_intra_op_parallelism and --tensorflow_inter_op_parallelism "
                "are all set: give the first, or the other two"
            )

    def _check_cluster(self) -> None:
        if not SERVER_NAME.fullmatch(self.server_name):
            raise ConfigError(f"--server_name={self.server_name}: expected 1 to 40 of the characters a-z, 0-9 and '-'")
        if not self.ray_address:
            raise ConfigError("--ray_address is empty: give local, auto or HOST:PORT")

    @property
    def log_options(self) -> LogOptions:
        """How every process of the server logs."""
        return LogOptions(level=self.log_level.upper(), json=self.log_format == "json")

    @property
    def model_cache_options(self) -> ModelCacheOptions:
        """Where nodes keep what they fetch."""
        return ModelCacheOptions(self.model_cache_dir, self.model_cache_bytes)

    @property
    def tags(self) -> tuple[str, ...]:
        """`saved_model_tags`, one by one."""
        return tuple(tag for tag in re.split(r"\s*,\s*", self.saved_model_tags.strip()) if tag)

    @property
    def channel_arguments(self) -> dict[str, int | str]:
        """`grpc_channel_arguments`, by key. As in TF Serving, what reads as a 32-bit number is one."""
        return _parsed_channel_arguments(self.grpc_channel_arguments)

    @property
    def intra_op_parallelism_threads(self) -> int:
        """Threads within an op; 0 lets TensorFlow choose. TF Serving: either of the two specific flags puts both in force."""
        return self.tensorflow_intra_op_parallelism if self._specific_parallelism else self.tensorflow_session_parallelism

    @property
    def inter_op_parallelism_threads(self) -> int:
        """Threads between ops, by the same rule."""
        return self.tensorflow_inter_op_parallelism if self._specific_parallelism else self.tensorflow_session_parallelism

    @property
    def _specific_parallelism(self) -> bool:
        return self.tensorflow_intra_op_parallelism > 0 or self.tensorflow_inter_op_parallelism > 0


def _parsed_channel_arguments(text: str) -> dict[str, int | str]:
    arguments: dict[str, int | str] = {}
    for argument in text.split(",") if text else ():
        key, equals, value = (part.strip() for part in argument.partition("="))
        if not key or not equals:
            raise ConfigError(
                f"--grpc_channel_arguments={text}: {argument!r} is not key=value; "
                "expected a list like grpc.max_connection_age_ms=60000,grpc.lb_policy_name=round_robin"
            )
        number = int(value) if re.fullmatch(r"[+-]?[0-9]{1,10}", value) else None
        arguments[key] = value if number is None or not -_INT32_MAX - 1 <= number <= _INT32_MAX else number
    if not arguments.get("grpc.so_reuseport", 1):
        raise ConfigError("--grpc_channel_arguments: grpc.so_reuseport=0 cannot be, since frontends share the port")
    return arguments


SERVER_FLAGS = declared_flags(ServerOptions)
"""Every flag by name, in the order of the help."""
