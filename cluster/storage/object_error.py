"""What obstore raises, as errors that an operator can act on.

    | what the store or the library says     | becomes             |
    |----------------------------------------|---------------------|
    | no such object                         | NotFound            |
    | the object has changed                 | Aborted             |
    | access denied                          | PermissionDenied    |
    | no, wrong or expired credentials       | Unauthenticated     |
    | throttling                             | ResourceExhausted   |
    | no such bucket, not to be done there   | FailedPrecondition  |
    | cannot be reached, times out, 5xx      | Unavailable         |
    | names that no file can have            | DataLoss            |

A bucket that is not there is no NotFound: it is not known to be empty, so nothing of it may count as deleted. The library's
exceptions tell little apart, so the HTTP status and the store's code are read from their text. Nothing else of it is told on:
it holds URLs and replies, which may hold signatures.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from cluster.core.errors import (
    Aborted,
    AspiredError,
    DataLoss,
    FailedPrecondition,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)

_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w{1,80})</Code>")
_NO_BUCKET = frozenset({"NoSuchBucket", "ContainerNotFound", "ContainerBeingDeleted", "ContainerDisabled"})
_WRONG_CREDENTIALS = frozenset(
    {
        "AuthenticationFailed",
        "InvalidAuthenticationInfo",
        "NoAuthenticationInformation",
        "SignatureDoesNotMatch",
        "InvalidSecurity",
    }
)
_THROTTLED = frozenset({"ServerBusy", "SlowDown", "TooManyRequests", "RateLimitExceeded"})
_TIMED_OUT = ("TimedOut", "kind: Timeout", "operation timed out")


@dataclass(frozen=True, slots=True)
class StoreAdvice:
    """What errors of one kind of store tell the operator to do. `name` is the store's, `credentials` and `permission` go on
    from "the credentials are refused;" and "access is denied;"."""

    name: str
    credentials: str
    permission: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """What could be read from an exception: an HTTP status or 0, the store's code or nothing."""

    status: int
    code: str

    @property
    def text(self) -> str:
        return " ".join(filter(None, ("HTTP", str(self.status), self.code)))


def refusal_of(error: BaseException) -> Refusal | None:
    """What the store has answered; None when no answer is what went wrong."""
    text = str(error)
    status, code = _STATUS.search(text), _CODE.search(text)
    return Refusal(int(status[1]), code[1] if code else "") if status else None


def storage_error(error: BaseException, path: str, bucket: str, advice: StoreAdvice) -> AspiredError:
    """The error for what obstore raised about `path`."""
    where = f"{path}: {advice.name}"
    text = str(error)
    refusal = refusal_of(error)
    if "token request" in text or "token response" in text:
        if refusal is not None and (refusal.status >= 500 or refusal.status == 429):
            return Unavailable(f"{where}: the server that gives credentials answered {refusal.text}; it is asked again")
        return Unauthenticated(f"{where}: no credentials could be got; {advice.credentials}")
    if refusal is not None:
        return _refused(error, refusal, path, bucket, advice)
    if isinstance(error, FileNotFoundError):
        return NotFound(f"{path}: there is no such object")
    match type(error).__name__:
        case "PreconditionError" | "NotModifiedError":
            return Aborted(f"{path} has changed since it was listed")
        case "InvalidPathError":
            return DataLoss(f"{path}: a key there has an empty part ('//') or a control character: rename the object")
        case "NotSupportedError":
            return FailedPrecondition(f"{where} gives no parts of files (HTTP Range), so files cannot be fetched from there")
    if "certificate" in text or "UnknownIssuer" in text:
        return Unavailable(f"{where}: TLS failed: its certificate is not trusted; SSL_CERT_FILE names a file of those that are")
    if any(mark in text for mark in _TIMED_OUT):
        return Unavailable(f"{where} does not answer in time; it is asked again")
    if "dns error" in text:
        return Unavailable(f"{where} cannot be reached: no address is known for its name")
    if "kind: Connect" in text or "error sending request" in text:
        return Unavailable(f"{where} cannot be reached; it is asked again")
    if "HTTP error" in text or "HttpError" in text:
        return Unavailable(f"{where}: the connection broke off; it is asked again")
    return Unavailable(f"{where}: {type(error).__name__}: the reply is not one of {advice.name}")


def configuration_error(error: BaseException, path: str, advice: StoreAdvice) -> AspiredError:
    """The error for what obstore raised before any request: settings and credentials that it cannot use."""
    reason = re.sub(r"([\"'`]).*\1", "...", str(error).partition("\n")[0])  # what is quoted may be of the credentials
    reason = re.sub(r"^Generic \w+ error: ", "", reason)
    return Unauthenticated(f"{path}: {advice.name}: the settings cannot be used: {reason}; {advice.credentials}")


def _refused(error: BaseException, refusal: Refusal, path: str, bucket: str, advice: StoreAdvice) -> AspiredError:
    where = f"{path}: {advice.name}"
    status, code = refusal.status, refusal.code
    if code in _NO_BUCKET or (status == 404 and not isinstance(error, FileNotFoundError)):
        return FailedPrecondition(f"{where} has no {bucket}: create it, or correct the path")
    if status == 404:
        return NotFound(f"{path}: there is no such object")
    if code in _THROTTLED or status == 429:
        return ResourceExhausted(f"{where} asks for fewer requests ({refusal.text}); it is asked again, less often")
    if status == 401 or code in _WRONG_CREDENTIALS:
        return Unauthenticated(f"{where}: the credentials are refused ({refusal.text}); {advice.credentials}")
    if status == 403:
        return PermissionDenied(f"{where}: access is denied ({refusal.text}); {advice.permission}")
    if status in (409, 412, 416):
        return Aborted(f"{path} has changed since it was listed")
    if status >= 500 or status == 408:
        return Unavailable(f"{where} answered {refusal.text}; it is asked again")
    return FailedPrecondition(f"{where} refuses the request ({refusal.text})")
