"""TensorFlow's profiler service, which TensorBoard asks for a trace."""

from __future__ import annotations

from cluster.protos.schema import File

_PACKAGE = "tensorflow"

FILES = (
    # Read by nobody here: a trace is passed on as it is, as unknown fields.
    File("tsl/profiler/protobuf/xplane.proto", package="tensorflow.profiler", messages={"XSpace": {}}),
    File(
        "tsl/profiler/protobuf/profiler_options.proto",
        package=_PACKAGE,
        messages={
            "ProfileOptions": {
                5: "uint32 version",
                6: "DeviceType device_type",
                1: "bool include_dataset_ops",
                2: "uint32 host_tracer_level",
                3: "uint32 device_tracer_level",
                4: "uint32 python_tracer_level",
                7: "bool enable_hlo_proto",
                8: "uint64 start_timestamp_ns",
                9: "uint64 duration_ms",
                10: "string repository_path",
                11: "TraceOptions trace_options",
                12: "map<string, AdvancedConfigValue> advanced_configuration",
                13: "bool raise_error_on_start_failure",
                14: "string session_id",
                15: "string override_hostname",
            },
            "ProfileOptions.TraceOptions": {1: "uint64 host_traceme_filter_mask"},
            "ProfileOptions.AdvancedConfigValue": {
                1: "oneof value: string string_value",
                2: "oneof value: bool bool_value",
                3: "oneof value: int64 int64_value",
            },
        },
        enums={
            "ProfileOptions.DeviceType": {"UNSPECIFIED": 0, "CPU": 1, "GPU": 2, "TPU": 3, "PLUGGABLE_DEVICE": 4},
        },
    ),
    File(
        "tsl/profiler/protobuf/profiler_service_monitor_result.proto",
        package=_PACKAGE,
        messages={
            "ProfilerServiceMonitorResult": {
                1: "ResponseType response_type",
                2: "double device_idle_time_percent",
                3: "double matrix_unit_utilization_percent",
                4: "double step_time_ms_avg",
                5: "double step_time_ms_min",
                6: "double step_time_ms_max",
                7: "double infeed_percent_avg",
                8: "double infeed_percent_min",
                9: "double infeed_percent_max",
            },
        },
        enums={
            "ProfilerServiceMonitorResult.ResponseType": {
                "EMPTY_RESULT": 0,
                "UTIL_ONLY": 1,
                "UTIL_IDLE": 2,
                "UTIL_IDLE_STEP": 3,
            },
        },
    ),
    File(
        "tsl/profiler/protobuf/profiler_service.proto",
        package=_PACKAGE,
        messages={
            "ToolRequestOptions": {2: "string output_formats", 3: "bool save_to_repo"},
            "ProfileRequest": {
                1: "uint64 duration_ms",
                2: "uint64 max_events",
                3: "repeated string tools",
                8: "map<string, ToolRequestOptions> tool_options",
                4: "ProfileOptions opts",
                5: "string repository_root",
                6: "string session_id",
                7: "string host_name",
                9: "bool emit_xspace",
            },
            "ProfileToolData": {1: "string name", 2: "bytes data"},
            "ProfileResponse": {
                6: "repeated ProfileToolData tool_data",
                7: "bool empty_trace",
                8: "tensorflow.profiler.XSpace xspace",
            },
            "TerminateRequest": {1: "string session_id"},
            "TerminateResponse": {},
            "MonitorRequest": {1: "uint64 duration_ms", 2: "int32 monitoring_level", 3: "bool timestamp"},
            "MonitorResponse": {1: "string data", 10: "ProfilerServiceMonitorResult monitor_result"},
        },
        services={
            "ProfilerService": {
                "Profile": "ProfileRequest -> ProfileResponse",
                "Terminate": "TerminateRequest -> TerminateResponse",
                "Monitor": "MonitorRequest -> MonitorResponse",
            }
        },
    ),
)
