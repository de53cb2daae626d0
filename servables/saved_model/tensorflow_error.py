"""TensorFlow's exceptions as ours."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from cluster.core.errors import AspiredError, Code, Internal, InvalidArgument, PermissionDenied, ResourceExhausted, error_for


def to_aspired_error(error: Exception) -> AspiredError:
    """The error to answer with for anything that TensorFlow, or numpy under it, raised.

    Keeps the code and text that the runtime itself gave, which are what TF Serving returns. Python's session wraps them in
    "Graph execution error" and stack traces of the exporting program; the bare error is the innermost of the chain.
    """
    if isinstance(error, AspiredError):
        return error
    if isinstance(error, tf.errors.OpError):
        innermost: Any = error
        while isinstance(innermost.__context__, tf.errors.OpError):
            innermost = innermost.__context__
        return error_for(Code(innermost.error_code), innermost.message)
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, MemoryError):
        return ResourceExhausted(f"Out of memory: {text}")
    if isinstance(error, PermissionError):
        return PermissionDenied(text)
    if isinstance(error, TypeError | ValueError):
        return InvalidArgument(text)
    return Internal(f"{type(error).__name__}: {text}")
