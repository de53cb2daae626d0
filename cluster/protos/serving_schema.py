"""TF Serving's API messages (tensorflow-serving-api 2.21)."""

from __future__ import annotations

from cluster.protos.schema import File

_PACKAGE = "tensorflow.serving"

FILES = (
    File(
        "tensorflow_serving/apis/model.proto",
        package=_PACKAGE,
        messages={
            "ModelSpec": {
                1: "string name",
                2: "oneof version_choice: google.protobuf.Int64Value version",
                4: "oneof version_choice: string version_label",
                3: "string signature_name",
            },
        },
    ),
    File(
        "tensorflow_serving/apis/predict.proto",
        package=_PACKAGE,
        messages={
            "PredictRequest": {
                1: "ModelSpec model_spec",
                2: "map<string, TensorProto> inputs",
                3: "repeated string output_filter",
                5: "PredictStreamedOptions predict_streamed_options",
                6: "optional bytes client_id",
                7: "optional RequestOptions request_options",
            },
            "PredictRequest.RequestOptions": {
                1: "optional bytes client_id",
                2: "optional DeterministicMode deterministic_mode",
                3: "optional bool return_additional_arrays_from_prefill",
                4: "repeated int64 return_stoptokens",
                9: "optional bool return_all_stoptokens",
                6: "optional int64 max_cache_length",
                13: "optional Handshake handshake",
            },
            "PredictRequest.RequestOptions.Handshake": {1: "int64 estimated_payload_bytes"},
            "PredictStreamedOptions": {
                1: "RequestState request_state",
                2: "map<string, int32> split_dimensions",
                3: "bool return_single_response",
            },
            "PredictResponse": {2: "ModelSpec model_spec", 1: "map<string, TensorProto> outputs"},
        },
        enums={
            "PredictRequest.RequestOptions.DeterministicMode": {
                "DETERMINISTIC_MODE_UNSPECIFIED": 0,
                "FIXED_DECODER_SLOT": 1,
            },
            "PredictStreamedOptions.RequestState": {"NONE": 0, "SPLIT": 1, "END_SPLIT": 2, "CANCEL": 3},
        },
    ),
    File(
        "tensorflow_serving/apis/input.proto",
        package=_PACKAGE,
        messages={
            "ExampleList": {1: "repeated Example examples"},
            "ExampleListWithContext": {1: "repeated Example examples", 2: "Example context"},
            "Input": {
                1: "oneof kind: ExampleList example_list",
                2: "oneof kind: ExampleListWithContext example_list_with_context",
            },
        },
    ),
    # TF Serving's own second reading of Input, in which examples stay serialized.
    File(
        "tensorflow_serving/apis/internal/serialized_input.proto",
        package="tensorflow.serving.internal",
        messages={
            "SerializedExampleList": {1: "repeated bytes examples"},
            "SerializedExampleListWithContext": {1: "repeated bytes examples", 2: "bytes context"},
            "SerializedInput": {
                1: "oneof kind: SerializedExampleList example_list",
                2: "oneof kind: SerializedExampleListWithContext example_list_with_context",
            },
        },
    ),
    File(
        "tensorflow_serving/apis/classification.proto",
        package=_PACKAGE,
        messages={
            "Class": {1: "string label", 2: "float score"},
            "Classifications": {1: "repeated Class classes"},
            "ClassificationResult": {1: "repeated Classifications classifications"},
            "ClassificationRequest": {1: "ModelSpec model_spec", 2: "Input input"},
            "ClassificationResponse": {2: "ModelSpec model_spec", 1: "ClassificationResult result"},
        },
    ),
    File(
        "tensorflow_serving/apis/regression.proto",
        package=_PACKAGE,
        messages={
            "Regression": {1: "float value"},
            "RegressionResult": {1: "repeated Regression regressions"},
            "RegressionRequest": {1: "ModelSpec model_spec", 2: "Input input"},
            "RegressionResponse": {2: "ModelSpec model_spec", 1: "RegressionResult result"},
        },
    ),
    File(
        "tensorflow_serving/apis/inference.proto",
        package=_PACKAGE,
        messages={
            "InferenceTask": {1: "ModelSpec model_spec", 2: "string method_name"},
            "InferenceResult": {
                1: "ModelSpec model_spec",
                2: "oneof result: ClassificationResult classification_result",
                3: "oneof result: RegressionResult regression_result",
            },
            "MultiInferenceRequest": {1: "repeated InferenceTask tasks", 2: "Input input"},
            "MultiInferenceResponse": {1: "repeated InferenceResult results"},
        },
    ),
    File(
        "tensorflow_serving/apis/get_model_metadata.proto",
        package=_PACKAGE,
        messages={
            "SignatureDefMap": {1: "map<string, SignatureDef> signature_def"},
            "GetModelMetadataRequest": {1: "ModelSpec model_spec", 2: "repeated string metadata_field"},
            "GetModelMetadataResponse": {1: "ModelSpec model_spec", 2: "map<string, google.protobuf.Any> metadata"},
        },
    ),
    File(
        "tensorflow_serving/apis/status.proto",
        package=_PACKAGE,
        messages={"StatusProto": {1: "error.Code error_code", 2: "string error_message"}},
    ),
    File(
        "tensorflow_serving/apis/get_model_status.proto",
        package=_PACKAGE,
        messages={
            "GetModelStatusRequest": {1: "ModelSpec model_spec"},
            "ModelVersionStatus": {1: "int64 version", 2: "State state", 3: "StatusProto status"},
            "GetModelStatusResponse": {1: "repeated ModelVersionStatus model_version_status"},
        },
        enums={
            "ModelVersionStatus.State": {
                "UNKNOWN": 0,
                "START": 10,
                "LOADING": 20,
                "AVAILABLE": 30,
                "UNLOADING": 40,
                "END": 50,
            },
        },
    ),
    File(
        "tensorflow_serving/apis/model_management.proto",
        package=_PACKAGE,
        messages={
            "ReloadConfigRequest": {1: "ModelServerConfig config", 2: "repeated string metric_names"},
            "ReloadConfigResponse": {1: "StatusProto status", 2: "repeated Metric metric"},
            "Metric": {1: "string name", 2: "oneof value_increase: int64 int64_value_increase"},
        },
    ),
    File(
        "tensorflow_serving/apis/logging.proto",
        package=_PACKAGE,
        messages={
            "LogMetadata": {
                1: "ModelSpec model_spec",
                2: "SamplingConfig sampling_config",
                3: "repeated string saved_model_tags",
                4: "int64 timestamp_secs",
                5: "string dc",
                6: "string request_origin",
                7: "string request_criticality",
                8: "int64 safe_aggregation_privacy_key",
            },
        },
    ),
    File(
        "tensorflow_serving/apis/prediction_log.proto",
        package=_PACKAGE,
        messages={
            "ClassifyLog": {1: "ClassificationRequest request", 2: "ClassificationResponse response"},
            "RegressLog": {1: "RegressionRequest request", 2: "RegressionResponse response"},
            "PredictLog": {1: "PredictRequest request", 2: "PredictResponse response"},
            "PredictStreamedLog": {1: "repeated PredictRequest request", 2: "repeated PredictResponse response"},
            "MultiInferenceLog": {1: "MultiInferenceRequest request", 2: "MultiInferenceResponse response"},
            # Its request and response bring RunOptions and RunMetadata. Without them, they are kept as unknown fields.
            "SessionRunLog": {},
            "PredictionLog": {
                1: "LogMetadata log_metadata",
                2: "oneof log_type: ClassifyLog classify_log",
                3: "oneof log_type: RegressLog regress_log",
                6: "oneof log_type: PredictLog predict_log",
                7: "oneof log_type: PredictStreamedLog predict_streamed_log",
                4: "oneof log_type: MultiInferenceLog multi_inference_log",
                5: "oneof log_type: SessionRunLog session_run_log",
            },
        },
    ),
    File(
        "tensorflow_serving/apis/prediction_service.proto",
        package=_PACKAGE,
        services={
            "PredictionService": {
                "Classify": "ClassificationRequest -> ClassificationResponse",
                "Regress": "RegressionRequest -> RegressionResponse",
                "Predict": "PredictRequest -> PredictResponse",
                "MultiInference": "MultiInferenceRequest -> MultiInferenceResponse",
                "GetModelMetadata": "GetModelMetadataRequest -> GetModelMetadataResponse",
            }
        },
    ),
    File(
        "tensorflow_serving/apis/model_service.proto",
        package=_PACKAGE,
        services={
            "ModelService": {
                "GetModelStatus": "GetModelStatusRequest -> GetModelStatusResponse",
                "HandleReloadConfigRequest": "ReloadConfigRequest -> ReloadConfigResponse",
            }
        },
    ),
)
