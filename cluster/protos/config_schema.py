"""TF Serving's configuration files.

The second half is absent from the pip package tensorflow-serving-api.
"""

from __future__ import annotations

from cluster.protos.schema import File

_PACKAGE = "tensorflow.serving"

FILES = (
    File(
        "tensorflow_serving/config/log_collector_config.proto",
        package=_PACKAGE,
        messages={"LogCollectorConfig": {1: "string type", 2: "string filename_prefix"}},
    ),
    File(
        "tensorflow_serving/config/logging_config.proto",
        package=_PACKAGE,
        messages={
            "PerTaskSamplingConfig": {1: "string dc", 2: "optional int32 task_index", 3: "double sampling_rate"},
            "SamplingConfig": {
                1: "double sampling_rate",
                3: "repeated PerTaskSamplingConfig per_task_sampling_configs",
                2: "int32 attributes",
            },
            "LoggingConfig": {
                1: "LogCollectorConfig log_collector_config",
                2: "SamplingConfig sampling_config",
                3: "google.protobuf.Any custom_logging_config",
            },
        },
        enums={
            "SamplingConfig.Attributes": {"ATTR_DEFAULT": 0, "ATTR_REQUEST_ORIGIN": 1, "ATTR_REQUEST_CRITICALITY": 2},
        },
    ),
    File(
        "tensorflow_serving/config/file_system_storage_path_source.proto",
        package=_PACKAGE,
        messages={
            "FileSystemStoragePathSourceConfig": {
                5: "repeated ServableToMonitor servables",
                3: "int64 file_system_poll_wait_seconds",
                4: "bool fail_if_zero_versions_at_startup",
                6: "bool servable_versions_always_present",
            },
            "FileSystemStoragePathSourceConfig.ServableVersionPolicy": {
                100: "oneof policy_choice: Latest latest",
                101: "oneof policy_choice: All all",
                102: "oneof policy_choice: Specific specific",
            },
            "FileSystemStoragePathSourceConfig.ServableVersionPolicy.Latest": {1: "uint32 num_versions"},
            "FileSystemStoragePathSourceConfig.ServableVersionPolicy.All": {},
            "FileSystemStoragePathSourceConfig.ServableVersionPolicy.Specific": {1: "repeated int64 versions"},
            "FileSystemStoragePathSourceConfig.ServableToMonitor": {
                1: "string servable_name",
                2: "string base_path",
                4: "ServableVersionPolicy servable_version_policy",
            },
        },
    ),
    File(
        "tensorflow_serving/config/model_server_config.proto",
        package=_PACKAGE,
        messages={
            "ModelConfig": {
                1: "string name",
                2: "string base_path",
                3: "ModelType model_type",
                4: "string model_platform",
                7: "FileSystemStoragePathSourceConfig.ServableVersionPolicy model_version_policy",
                8: "map<string, int64> version_labels",
                6: "LoggingConfig logging_config",
            },
            "ModelConfigList": {1: "repeated ModelConfig config"},
            "ModelServerConfig": {
                1: "oneof config: ModelConfigList model_config_list",
                2: "oneof config: google.protobuf.Any custom_model_config",
            },
        },
        enums={"ModelType": {"MODEL_TYPE_UNSPECIFIED": 0, "TENSORFLOW": 1, "OTHER": 2}},
    ),
    File(
        "tensorflow_serving/config/platform_config.proto",
        package=_PACKAGE,
        messages={
            "PlatformConfig": {1: "google.protobuf.Any source_adapter_config"},
            "PlatformConfigMap": {1: "map<string, PlatformConfig> platform_configs"},
        },
    ),
    File(
        "tensorflow_serving/config/monitoring_config.proto",
        package=_PACKAGE,
        messages={
            "PrometheusConfig": {1: "bool enable", 2: "string path"},
            "MonitoringConfig": {1: "PrometheusConfig prometheus_config"},
        },
    ),
    File(
        "tensorflow_serving/config/ssl_config.proto",
        package=_PACKAGE,
        messages={
            "SSLConfig": {1: "string server_key", 2: "string server_cert", 3: "string custom_ca", 4: "bool client_verify"},
        },
    ),
    # Only ever read as text, where names count and numbers do not.
    File(
        "tensorflow_serving/servables/tensorflow/session_bundle_config.proto",
        package=_PACKAGE,
        messages={
            "BatchingParameters": {
                1: "google.protobuf.Int64Value max_batch_size",
                2: "google.protobuf.Int64Value batch_timeout_micros",
                3: "google.protobuf.Int64Value max_enqueued_batches",
                4: "google.protobuf.Int64Value num_batch_threads",
                5: "google.protobuf.StringValue thread_pool_name",
                6: "repeated int64 allowed_batch_sizes",
                7: "bool pad_variable_length_inputs",
                8: "google.protobuf.BoolValue enable_large_batch_splitting",
                9: "google.protobuf.Int64Value max_execution_batch_size",
            },
            "ModelWarmupOptions": {1: "google.protobuf.Int32Value num_request_iterations"},
            "SessionBundleConfig": {
                1: "string session_target",
                2: "tensorflow.ConfigProto session_config",
                3: "BatchingParameters batching_parameters",
                4: "google.protobuf.Int32Value session_run_load_threadpool_index",
                5: "uint64 experimental_transient_ram_bytes_during_load",
                6: "repeated string saved_model_tags",
                779: "bool enable_model_warmup",
                780: "ModelWarmupOptions model_warmup_options",
                781: "bool enable_session_metadata",
                782: "bool remove_unused_fields_from_bundle_metagraph",
                783: "bool prefer_tflite_model",
                784: "bool resource_estimation_uses_validation_result",
                786: "int32 num_tflite_interpreters_per_pool",
                787: "int32 num_tflite_pools",
                788: "bool enable_per_model_batching_params",
            },
        },
    ),
    File(
        "tensorflow_serving/servables/tensorflow/saved_model_bundle_source_adapter.proto",
        package=_PACKAGE,
        messages={"SavedModelBundleSourceAdapterConfig": {1000: "SessionBundleConfig legacy_config"}},
    ),
    File(
        "tensorflow_serving/servables/tensorflow/thread_pool_factory_config.proto",
        package=_PACKAGE,
        messages={"ThreadPoolFactoryConfig": {1: "google.protobuf.Any thread_pool_factory_config"}},
    ),
)
