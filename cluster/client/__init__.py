"""A client for TensorFlow Serving's API over REST and gRPC: numpy in, numpy out, without TensorFlow or Ray.

What a call does is decided in `conversations`, plain generators that do no IO; `rest_codec` and `grpc_codec` write the
requests and read the replies; `http_transport` and `grpc_transport` send bytes. `Client` and `AsyncClient` only bring
these together, one waiting, one awaiting.
"""

from cluster.client.async_client import AsyncClient
from cluster.client.client import Client
from cluster.client.connection_options import TLSConfig
from cluster.client.examples import Example, FeatureValue
from cluster.client.model_metadata import ModelMetadata
from cluster.client.model_status import VersionStatus
from cluster.client.results import Class, Classifications, Prediction, Regressions
from cluster.client.retry_policy import RetryPolicy
from cluster.core.errors import (
    Aborted,
    AlreadyExists,
    AspiredError,
    Cancelled,
    Code,
    DataLoss,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    OutOfRange,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
    Unimplemented,
    Unknown,
)
from cluster.core.servable_state import PublicState
from servables.signatures import Signature, TensorInfo
from servables.tensors import DataType

__all__ = [
    "Aborted",
    "AlreadyExists",
    "AspiredError",
    "AsyncClient",
    "Cancelled",
    "Class",
    "Classifications",
    "Client",
    "Code",
    "DataLoss",
    "DataType",
    "DeadlineExceeded",
    "Example",
    "FailedPrecondition",
    "FeatureValue",
    "Internal",
    "InvalidArgument",
    "ModelMetadata",
    "NotFound",
    "OutOfRange",
    "PermissionDenied",
    "Prediction",
    "PublicState",
    "Regressions",
    "ResourceExhausted",
    "RetryPolicy",
    "Signature",
    "TLSConfig",
    "TensorInfo",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "Unknown",
    "VersionStatus",
]
