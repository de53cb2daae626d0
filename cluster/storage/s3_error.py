"""What the S3 SDK raises, as errors that an operator can act on.

    | what the store or the SDK says        | becomes             |
    |---------------------------------------|---------------------|
    | no such key                           | NotFound            |
    | the object has changed (If-Match)     | Aborted             |
    | access denied                         | PermissionDenied    |
    | no, wrong or expired credentials      | Unauthenticated     |
    | slow down, throttling                 | ResourceExhausted   |
    | no such bucket, wrong region, clock   | FailedPrecondition  |
    | cannot be reached, times out, 5xx     | Unavailable         |

A bucket that is not there is no NotFound: it is not known to be empty, so nothing of it may count as deleted. Messages are our
own words with the store's code; what a store or the SDK says itself may hold requests, with what they were signed with.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from boto3.exceptions import Boto3Error
from botocore import exceptions as sdk
from botocore.parsers import ResponseParserError

from cluster.core.errors import (
    Aborted,
    AspiredError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)
from cluster.core.s3_uri import S3Uri

SDK_ERRORS = (sdk.BotoCoreError, sdk.ClientError, Boto3Error, ResponseParserError)
"""All that a client may raise; the making of one may raise ValueError besides, for an endpoint that is no URL."""

_SAY_CREDENTIALS = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN if they are temporary), or AWS_PROFILE, or give "
    "the machine a role"
)
_WRONG_CREDENTIALS = {
    "InvalidAccessKeyId": "the access key is not known there",
    "SignatureDoesNotMatch": "the secret key does not belong to the access key",
    "ExpiredToken": "the credentials have expired",
    "ExpiredTokenException": "the credentials have expired",
    "RequestExpired": "the credentials have expired",
    "TokenRefreshRequired": "the credentials have expired",
    "InvalidToken": "the session token is not valid",
    "InvalidClientTokenId": "the access key is not known there",
    "UnrecognizedClientException": "the access key is not known there",
    "AuthFailure": "the credentials are not valid",
    "InvalidSecurity": "the credentials are not valid",
    "NotSignedUp": "the account has no S3",
}
_DENIED = frozenset({"AccessDenied", "AccessDeniedException", "AllAccessDisabled", "AccountProblem", "Forbidden", "403"})
_THROTTLED = frozenset(
    {
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "TooManyRequests",
        "TooManyRequestsException",
        "BandwidthLimitExceeded",
        "429",
    }
)
_NO_KEY = frozenset({"NoSuchKey", "NoSuchVersion"})
_ELSEWHERE = frozenset(
    {
        "PermanentRedirect",
        "TemporaryRedirect",
        "Redirect",
        "AuthorizationHeaderMalformed",
        "IllegalLocationConstraintException",
        "301",
        "307",
    }
)
_PERMISSIONS = {
    "ListObjectsV2": ("s3:ListBucket", False),
    "GetObject": ("s3:GetObject", True),
    "HeadObject": ("s3:GetObject", True),
    "DeleteObject": ("s3:DeleteObject", True),
}
"""What allows an operation, and whether it is asked of objects; all others write objects."""


def storage_error(error: BaseException, path: str, uri: S3Uri, endpoint: str = "") -> AspiredError:
    """The error for one of SDK_ERRORS that `path` met at `endpoint`; without one, for what the making of a client raised."""
    if isinstance(error, Boto3Error) and isinstance(error.__context__, sdk.ClientError | sdk.BotoCoreError):
        error = error.__context__  # the transfer manager's own says less
    where = f"{path}: S3 at {_address(endpoint)}" if endpoint else f"{path}: S3"
    if isinstance(error, sdk.ClientError):
        return _refusal(error, path, uri, where)
    if isinstance(error, ResponseParserError):
        return Unavailable(f"{where} answered with something else than S3's XML: is it an S3 endpoint?")
    return _sdk_failure(error, path, where)


def _refusal(error: sdk.ClientError, path: str, uri: S3Uri, where: str) -> AspiredError:
    """What the store answered."""
    code = str(error.response.get("Error", {}).get("Code", ""))
    metadata = error.response.get("ResponseMetadata", {})
    status = metadata.get("HTTPStatusCode", 0)
    if code in _WRONG_CREDENTIALS:
        return Unauthenticated(f"{where} refuses the credentials: {_WRONG_CREDENTIALS[code]} ({code}); {_SAY_CREDENTIALS}")
    if code in _THROTTLED or status == 429:
        return ResourceExhausted(f"{where} asks for fewer requests ({code}); it is asked again, less often")
    if code in _NO_KEY:
        return NotFound(f"{path}: there is no such object")
    if code == "NoSuchBucket":
        return FailedPrecondition(f"{where} has no bucket {uri.bucket}: create it, or correct the path or the endpoint")
    if code in ("PreconditionFailed", "InvalidRange") or status in (412, 416):
        return Aborted(f"{path} has changed since it was listed")
    if code in ("RequestTimeTooSkewed", "RequestInTheFuture"):
        return FailedPrecondition(f"{where} refuses requests of this clock ({code}): set the time of this machine, by NTP")
    if code in _ELSEWHERE or status in (301, 307):
        return FailedPrecondition(f"{where}: bucket {uri.bucket} is {_region(metadata)}")
    if code in _DENIED or status in (401, 403):
        permission, of_objects = _PERMISSIONS.get(error.operation_name, ("s3:PutObject", True))
        resource = f"arn:aws:s3:::{uri.bucket}" + (f"/{uri.folder}*" if of_objects else "")
        return PermissionDenied(
            f"{where} denies access ({code}): {permission} on {resource} must be allowed, and the bucket exist"
        )
    if status == 404:
        return FailedPrecondition(
            f"{where} does not know what it was asked for ({code}): is it an S3 endpoint, is the bucket there?"
        )
    if status >= 500:
        return Unavailable(f"{where} answered {status} ({code}); it is asked again")
    return FailedPrecondition(f"{where} refuses {error.operation_name}: {code} (HTTP {status})")


def _region(metadata: Any) -> str:
    region = metadata.get("HTTPHeaders", {}).get("x-amz-bucket-region")
    return f"in region {region}: set AWS_REGION={region}" if region else "in another region: set AWS_REGION to the bucket's"


def _sdk_failure(error: BaseException, path: str, where: str) -> AspiredError:
    """What never came to an answer."""
    match error:
        case sdk.NoCredentialsError() | sdk.NoAuthTokenError():
            return Unauthenticated(f"{path}: there are no credentials for S3: {_SAY_CREDENTIALS}")
        case sdk.PartialCredentialsError():
            return Unauthenticated(f"{path}: the credentials for S3 are not complete: {_SAY_CREDENTIALS}")
        case sdk.CredentialRetrievalError() | sdk.TokenRetrievalError() | sdk.MetadataRetrievalError() | sdk.SSOError():
            return Unauthenticated(f"{path}: no credentials for S3 could be got ({_name(error)}); {_SAY_CREDENTIALS}")
        case sdk.LoginError() | sdk.RefreshWithMFAUnsupportedError():
            return Unauthenticated(f"{path}: the credentials for S3 cannot be renewed ({_name(error)}): log in again")
        case sdk.ProfileNotFound():
            return Unauthenticated(f"{path}: {error}: correct AWS_PROFILE, or add the profile to the SDK's config file")
        case sdk.ConfigNotFound() | sdk.ConfigParseError():
            return FailedPrecondition(
                f"{path}: the SDK's config file, which AWS_CONFIG_FILE names, cannot be read ({_name(error)})"
            )
        case sdk.InvalidRegionError():
            return FailedPrecondition(f"{path}: AWS_REGION (or S3_REGION, AWS_DEFAULT_REGION) is no name of a region")
        case sdk.SSLError():
            return Unavailable(
                f"{where}: TLS failed: {_reason(error)}; AWS_CA_BUNDLE names a file of trusted certificates, S3_VERIFY_SSL=0 "
                "trusts any, S3_USE_HTTPS=0 does without TLS"
            )
        case sdk.ConnectTimeoutError():
            return Unavailable(f"{where} cannot be reached: no answer in time")
        case sdk.ReadTimeoutError():
            return Unavailable(f"{where} has stopped answering")
        case sdk.ProxyConnectionError():
            return Unavailable(f"{where} cannot be reached: the proxy that HTTP_PROXY or HTTPS_PROXY names does not answer")
        case sdk.EndpointConnectionError():
            return Unavailable(f"{where} cannot be reached: {_reason(error)}")
        case sdk.HTTPClientError() | sdk.ConnectionError() | sdk.IncompleteReadError():
            return Unavailable(f"{where} broke off: {_reason(error)}")
        case sdk.ChecksumError() | sdk.FlexibleChecksumError():
            return Unavailable(f"{where} sent bytes that do not have their checksum; they are asked for again")
        case sdk.ParamValidationError():
            return InvalidArgument(f"{path}: the SDK takes no such bucket or key")
        case ValueError():
            return FailedPrecondition(
                f"{path}: S3_ENDPOINT (or AWS_ENDPOINT_URL) is no URL: expected host:port or http(s)://host:port"
            )
        case _:
            return Unavailable(f"{where}: {_name(error)}")


def _address(endpoint: str) -> str:
    """The endpoint without user, password and query."""
    parts = urlsplit(endpoint)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _reason(error: BaseException) -> str:
    """What the operating system said, at the bottom of the SDK's errors."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError) and cause.verify_message:
            return cause.verify_message
        if isinstance(cause, ssl.SSLError) and cause.reason:
            return cause.reason
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
    return _name(error)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, what it was made of, and so on; each once."""
    pending, seen = [error], set[int]()
    while pending:
        one = pending.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        told = getattr(one, "kwargs", None)
        inner = [one.__cause__, one.__context__, getattr(one, "reason", None), *one.args]
        inner += list(told.values()) if isinstance(told, dict) else []
        pending += [cause for cause in inner if isinstance(cause, BaseException)]


def _name(error: BaseException) -> str:
    return type(error).__name__
