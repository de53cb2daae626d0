"""TF Serving's API and configuration messages, and those of TensorFlow that they hold (field numbers of TensorFlow 2.21).

`ExampleList.examples` and its like are declared as bytes, not as messages: on the wire that is the same, and a tf.Example passes from the
request to the graph without being parsed. Left out: fields that only the graph's internals use.
"""

from __future__ import annotations

from cluster.protos.schema import Schema

schema = Schema()

error = schema.package("tensorflow.error")
error.enum(
    "Code",
    OK=0,
    CANCELLED=1,
    UNKNOWN=2,
    INVALID_ARGUMENT=3,
    DEADLINE_EXCEEDED=4,
    NOT_FOUND=5,
    ALREADY_EXISTS=6,
    PERMISSION_DENIED=7,
    UNAUTHENTICATED=16,
    RESOURCE_EXHAUSTED=8,
    FAILED_PRECONDITION=9,
    ABORTED=10,
    OUT_OF_RANGE=11,
    UNIMPLEMENTED=12,
    INTERNAL=13,
    UNAVAILABLE=14,
    DATA_LOSS=15,
)

_DATA_TYPES = (
    "INVALID FLOAT DOUBLE INT32 UINT8 INT16 INT8 STRING COMPLEX64 INT64 BOOL QINT8 QUINT8 QINT32 BFLOAT16 QINT16 QUINT16 "
    "UINT16 COMPLEX128 HALF RESOURCE VARIANT UINT32 UINT64 FLOAT8_E5M2 FLOAT8_E4M3FN FLOAT8_E4M3FNUZ FLOAT8_E4M3B11FNUZ "
    "FLOAT8_E5M2FNUZ INT4 UINT4 INT2 UINT2 FLOAT4_E2M1FN"
).split()

tf = schema.package("tensorflow")
tf.enum("DataType", **{f"DT_{name}": number for number, name in enumerate(_DATA_TYPES)})
tf.message("TensorShapeProto", "2 dim Dim*\n3 unknown_rank bool")
tf.message("TensorShapeProto.Dim", "1 size int64\n2 name string")
tf.message(
    "TensorProto",
    """
    1 dtype DataType
    2 tensor_shape TensorShapeProto
    3 version_number int32
    4 tensor_content bytes
    13 half_val int32*
    5 float_val float*
    6 double_val double*
    7 int_val int32*
    8 string_val bytes*
    9 scomplex_val float*
    10 int64_val int64*
    11 bool_val bool*
    12 dcomplex_val double*
    16 uint32_val uint32*
    17 uint64_val uint64*
    18 float8_val bytes
    """,
)
tf.message("BytesList", "1 value bytes*")
tf.message("FloatList", "1 value float*")
tf.message("Int64List", "1 value int64*")
tf.message("Feature", "1 bytes_list BytesList | kind\n2 float_list FloatList | kind\n3 int64_list Int64List | kind")
tf.message("Features", "1 feature map<string, Feature>")
tf.message("Example", "1 features Features")
tf.message(
    "TensorInfo",
    """
    1 name string | encoding
    4 coo_sparse CooSparse | encoding
    5 composite_tensor CompositeTensor | encoding
    2 dtype DataType
    3 tensor_shape TensorShapeProto
    """,
)
tf.message(
    "TensorInfo.CooSparse", "1 values_tensor_name string\n2 indices_tensor_name string\n3 dense_shape_tensor_name string"
)
tf.message("TensorInfo.CompositeTensor", "2 components TensorInfo*")
tf.message(
    "SignatureDef",
    """
    1 inputs map<string, TensorInfo>
    2 outputs map<string, TensorInfo>
    3 method_name string
    4 defaults map<string, TensorProto>
    """,
)

serving = schema.package("tensorflow.serving")
serving.message(
    "ModelSpec",
    "1 name string\n2 version google.protobuf.Int64Value | version_choice\n4 version_label string | version_choice\n3 signature_name string",
)
serving.message(
    "PredictStreamedOptions",
    "1 request_state RequestState\n2 split_dimensions map<string, int32>\n3 return_single_response bool",
)
serving.enum("PredictStreamedOptions.RequestState", NONE=0, SPLIT=1, END_SPLIT=2, CANCEL=3)
serving.message(
    "PredictRequest",
    """
    1 model_spec ModelSpec
    2 inputs map<string, TensorProto>
    3 output_filter string*
    5 predict_streamed_options PredictStreamedOptions
    6 client_id bytes | _client_id
    """,
)
serving.message("PredictResponse", "2 model_spec ModelSpec\n1 outputs map<string, TensorProto>")
serving.message("ExampleList", "1 examples bytes*")
serving.message("ExampleListWithContext", "1 examples bytes*\n2 context bytes")
serving.message("Input", "1 example_list ExampleList | kind\n2 example_list_with_context ExampleListWithContext | kind")
serving.message("Class", "1 label string\n2 score float")
serving.message("Classifications", "1 classes Class*")
serving.message("ClassificationResult", "1 classifications Classifications*")
serving.message("ClassificationRequest", "1 model_spec ModelSpec\n2 input Input")
serving.message("ClassificationResponse", "2 model_spec ModelSpec\n1 result ClassificationResult")
serving.message("Regression", "1 value float")
serving.message("RegressionResult", "1 regressions Regression*")
serving.message("RegressionRequest", "1 model_spec ModelSpec\n2 input Input")
serving.message("RegressionResponse", "2 model_spec ModelSpec\n1 result RegressionResult")
serving.message("InferenceTask", "1 model_spec ModelSpec\n2 method_name string")
serving.message(
    "InferenceResult",
    "1 model_spec ModelSpec\n2 classification_result ClassificationResult | result\n3 regression_result RegressionResult | result",
)
serving.message("MultiInferenceRequest", "1 tasks InferenceTask*\n2 input Input")
serving.message("MultiInferenceResponse", "1 results InferenceResult*")
serving.message("StatusProto", "1 error_code tensorflow.error.Code\n2 error_message string")
serving.message("GetModelStatusRequest", "1 model_spec ModelSpec")
serving.message("ModelVersionStatus", "1 version int64\n2 state State\n3 status StatusProto")
serving.enum("ModelVersionStatus.State", UNKNOWN=0, START=10, LOADING=20, AVAILABLE=30, UNLOADING=40, END=50)
serving.message("GetModelStatusResponse", "1 model_version_status ModelVersionStatus*")
serving.message("SignatureDefMap", "1 signature_def map<string, SignatureDef>")
serving.message("GetModelMetadataRequest", "1 model_spec ModelSpec\n2 metadata_field string*")
serving.message("GetModelMetadataResponse", "1 model_spec ModelSpec\n2 metadata map<string, google.protobuf.Any>")

serving.message(
    "FileSystemStoragePathSourceConfig",
    """
    5 servables ServableToMonitor*
    3 file_system_poll_wait_seconds int64
    4 fail_if_zero_versions_at_startup bool
    6 servable_versions_always_present bool
    """,
)
serving.message(
    "FileSystemStoragePathSourceConfig.ServableVersionPolicy",
    "100 latest Latest | policy_choice\n101 all All | policy_choice\n102 specific Specific | policy_choice",
)
serving.message("FileSystemStoragePathSourceConfig.ServableVersionPolicy.Latest", "1 num_versions uint32")
serving.message("FileSystemStoragePathSourceConfig.ServableVersionPolicy.All")
serving.message("FileSystemStoragePathSourceConfig.ServableVersionPolicy.Specific", "1 versions int64*")
serving.message(
    "FileSystemStoragePathSourceConfig.ServableToMonitor",
    "1 servable_name string\n2 base_path string\n4 servable_version_policy ServableVersionPolicy",
)
serving.message("LogCollectorConfig", "1 type string\n2 filename_prefix string")
serving.message("PerTaskSamplingConfig", "1 dc string\n2 task_index int32 | _task_index\n3 sampling_rate double")
serving.message(
    "SamplingConfig", "1 sampling_rate double\n3 per_task_sampling_configs PerTaskSamplingConfig*\n2 attributes int32"
)
serving.message(
    "LoggingConfig",
    "1 log_collector_config LogCollectorConfig\n2 sampling_config SamplingConfig\n3 custom_logging_config google.protobuf.Any",
)
serving.enum("ModelType", MODEL_TYPE_UNSPECIFIED=0, TENSORFLOW=1, OTHER=2)
serving.message(
    "ModelConfig",
    """
    1 name string
    2 base_path string
    3 model_type ModelType
    4 model_platform string
    7 model_version_policy FileSystemStoragePathSourceConfig.ServableVersionPolicy
    8 version_labels map<string, int64>
    6 logging_config LoggingConfig
    """,
)
serving.message("ModelConfigList", "1 config ModelConfig*")
serving.message(
    "ModelServerConfig", "1 model_config_list ModelConfigList | config\n2 custom_model_config google.protobuf.Any | config"
)
serving.message("PlatformConfig", "1 source_adapter_config google.protobuf.Any")
serving.message("PlatformConfigMap", "1 platform_configs map<string, PlatformConfig>")
serving.message("Metric", "1 name string\n2 int64_value_increase int64 | value_increase")
serving.message("ReloadConfigRequest", "1 config ModelServerConfig\n2 metric_names string*")
serving.message("ReloadConfigResponse", "1 status StatusProto\n2 metric Metric*")
# Not in the pip package tensorflow-serving-api: servables/tensorflow/session_bundle_config.proto.
serving.message(
    "BatchingParameters",
    """
    1 max_batch_size google.protobuf.Int64Value
    2 batch_timeout_micros google.protobuf.Int64Value
    3 max_enqueued_batches google.protobuf.Int64Value
    4 num_batch_threads google.protobuf.Int64Value
    5 thread_pool_name google.protobuf.StringValue
    6 allowed_batch_sizes int64*
    7 pad_variable_length_inputs bool
    8 enable_large_batch_splitting google.protobuf.BoolValue
    9 max_execution_batch_size google.protobuf.Int64Value
    """,
)

classes = schema.build()
