from __future__ import annotations

import pytest
from obstore import exceptions

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
from cluster.storage.object_error import StoreAdvice, configuration_error, storage_error

ADVICE = StoreAdvice("Store", "set CREDENTIALS", "it takes PERMISSION")
PATH = "az://models/m"


def answered(status: int, code: str = "", kind: type[Exception] = exceptions.GenericError) -> Exception:
    """As the library writes it."""
    return kind(
        f"Generic error: Error performing list request: Error performing GET https://host/?sig=SECRET in 2ms - "
        f"Server returned non-2xx status code: {status} Reason: <Error><Code>{code}</Code><Message>SECRET</Message></Error>"
        f"\n\nDebug source:\nGeneric {{ SECRET }}"
    )


def failed(text: str) -> Exception:
    return exceptions.GenericError(f"Generic error: HTTP error: error sending request\n\nDebug source:\n SECRET {text}")


@pytest.mark.parametrize(
    ("error", "expected", "message"),
    [
        (FileNotFoundError("SECRET"), NotFound, "there is no such object"),
        (answered(404, "NoSuchKey", FileNotFoundError), NotFound, "there is no such object"),
        (answered(404, "NoSuchBucket", FileNotFoundError), FailedPrecondition, "has no models: create it"),
        (answered(404, "ContainerNotFound"), FailedPrecondition, "has no models: create it"),
        (answered(404), FailedPrecondition, "has no models: create it"),
        (answered(409, "ContainerBeingDeleted"), FailedPrecondition, "has no models: create it"),
        (answered(401), Unauthenticated, "HTTP 401); set CREDENTIALS"),
        (answered(403, "AuthenticationFailed"), Unauthenticated, "HTTP 403 AuthenticationFailed); set CREDENTIALS"),
        (answered(403, "AuthorizationPermissionMismatch"), PermissionDenied, "it takes PERMISSION"),
        (answered(403, "", exceptions.PermissionDeniedError), PermissionDenied, "it takes PERMISSION"),
        (answered(412, "", exceptions.PreconditionError), Aborted, "has changed"),
        (answered(416, "InvalidRange"), Aborted, "has changed"),
        (answered(429), ResourceExhausted, "asks for fewer requests"),
        (answered(503, "ServerBusy"), ResourceExhausted, "asks for fewer requests"),
        (answered(500, "InternalError"), Unavailable, "answered HTTP 500 InternalError"),
        (answered(400, "InvalidUri"), FailedPrecondition, "refuses the request (HTTP 400 InvalidUri)"),
        (exceptions.PreconditionError("SECRET"), Aborted, "has changed"),
        (exceptions.InvalidPathError("SECRET"), DataLoss, "rename the object"),
        (exceptions.NotSupportedError("SECRET"), FailedPrecondition, "no parts of files"),
        (failed("InvalidCertificate(UnknownIssuer)"), Unavailable, "SSL_CERT_FILE"),
        (failed("kind: Timeout"), Unavailable, "does not answer in time"),
        (failed('"dns error"'), Unavailable, "no address is known"),
        (failed("kind: Connect"), Unavailable, "cannot be reached"),
        (exceptions.GenericError("HTTP error: request or response body error"), Unavailable, "broke off"),
        (exceptions.GenericError("Got invalid XML SECRET"), Unavailable, "the reply is not one of Store"),
        (exceptions.GenericError("token request: status code: 403 SECRET"), Unauthenticated, "set CREDENTIALS"),
        (exceptions.GenericError("token request: status code: 503 X"), Unavailable, "that gives credentials"),
    ],
)  # fmt: skip
def test_tells_what_went_wrong_and_never_what_the_library_says(
    error: Exception, expected: type[AspiredError], message: str
) -> None:
    told = storage_error(error, PATH, "models", ADVICE)
    assert type(told) is expected
    assert told.message.startswith(PATH)
    assert message in told.message
    assert "SECRET" not in told.message
    assert "\n" not in told.message


def test_settings_that_cannot_be_used_are_named_without_what_is_in_them() -> None:
    error = exceptions.GenericError(
        "Generic GCS error: Unable to decode file: unknown variant `SECRET` at line 1\n\nDebug: SECRET"
    )
    told = configuration_error(error, PATH, ADVICE)
    assert told.message == (
        f"{PATH}: Store: the settings cannot be used: Unable to decode file: unknown variant ... at line 1; set CREDENTIALS"
    )
