"""A client for TensorFlow Serving's API over REST and gRPC: numpy in, numpy out, without TensorFlow or Ray.

What a call does is decided in `conversations`, plain generators that do no IO; `rest_codec` and `grpc_codec` write the
requests and read the replies; `http_transport` and `grpc_transport` send bytes. `Client` and `AsyncClient` only bring
these together, one waiting, one awaiting. `publish`, `versions`, `pull` and `unpublish` bring versions to where servers find
them.
"""

from cluster.client.async_client import AsyncClient
from cluster.client.client import Client
from cluster.client.connection_options import TLSConfig
from cluster.client.examples import Example, FeatureValue
from cluster.client.model_metadata import ModelMetadata
from cluster.client.model_status import VersionStatus
from cluster.client.publishing import publish, pull, unpublish, versions
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
from cluster.publishing.published_version import PublishedVersion, VersionState
from cluster.publishing.publisher import Publication, PublishProgress, Step
from cluster.publishing.puller import PulledVersion
from cluster.publishing.retention import Removal
from cluster.publishing.transfer import TransferProgress
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
    "Publication",
    "PublishProgress",
    "PublishedVersion",
    "PulledVersion",
    "Regressions",
    "Removal",
    "ResourceExhausted",
    "RetryPolicy",
    "Signature",
    "Step",
    "TLSConfig",
    "TensorInfo",
    "TransferProgress",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "Unknown",
    "VersionState",
    "VersionStatus",
    "publish",
    "pull",
    "unpublish",
    "versions",
]
