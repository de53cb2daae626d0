"""A line for each request, in the frontend's log.

The protocols' handlers are wrapped; which model and version a request came to is noted on the way, by whoever knows.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cluster.config.log_options import FIELDS
from cluster.core.errors import AspiredError, Code

if TYPE_CHECKING:  # replicas use `Inference`'s functions, and need no listeners
    from servables.frontend.grpc_method import UnaryCall
    from servables.frontend.http_listener import HttpHandler, HttpRequest, HttpResponse

logger = logging.getLogger(__name__)

_CLIENT_CLOSED_REQUEST = 499


@dataclass(slots=True)
class _Access:
    """A request under way."""

    protocol: str
    method: str | None
    path: str
    peer: str
    bytes_in: int
    began_s: float
    model: str | None = None
    version: int | None = None


# Every request runs in a task, and so in a context, of its own.
_current: ContextVar[_Access | None] = ContextVar("access", default=None)


def note_model(name: str, version: int | None = None) -> None:
    """The request under way means this model, and is answered by this version; costs next to nothing without an access log."""
    access = _current.get()
    if access is not None:
        access.model, access.version = name, version


class AccessLog:
    """Wraps handlers, and logs each call of theirs when it is over. It logs whatever the level of other messages is."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        logger.setLevel(logging.INFO)

    def http(self, handler: HttpHandler) -> HttpHandler:
        async def logged(request: HttpRequest) -> HttpResponse:
            access = self._begin("REST", request.method, request.target, request.peer, len(request.body))
            status, bytes_out = 500, 0
            try:
                response = await handler(request)
                status, bytes_out = response.status, len(response.body)
            except asyncio.CancelledError:
                status = _CLIENT_CLOSED_REQUEST
                raise
            finally:
                self._end(access, status, bytes_out)
            return response

        return logged

    def grpc(self, path: str, call: UnaryCall) -> UnaryCall:
        """`path`: of the method, as gRPC sends it."""

        async def logged(request: bytes, timeout_s: float | None, peer: str) -> bytes:
            access = self._begin("gRPC", None, path, peer, len(request))
            code, bytes_out = Code.INTERNAL, 0
            try:
                answer = await call(request, timeout_s, peer)
                code, bytes_out = Code.OK, len(answer)
            except asyncio.CancelledError:
                code = Code.CANCELLED
                raise
            except AspiredError as error:
                code = error.code
                raise
            finally:
                self._end(access, code.name, bytes_out)
            return answer

        return logged

    def _begin(self, protocol: str, method: str | None, path: str, peer: str, bytes_in: int) -> _Access:
        access = _Access(protocol, method, path, peer, bytes_in, self._clock())
        _current.set(access)
        return access

    def _end(self, access: _Access, status: int | str, bytes_out: int) -> None:
        fields = {
            "protocol": access.protocol,
            "method": access.method,
            "path": access.path,
            "model": access.model,
            "version": access.version,
            "status": status,
            "duration_ms": round((self._clock() - access.began_s) * 1e3, 3),
            "bytes_in": access.bytes_in,
            "bytes_out": bytes_out,
            "peer": access.peer,
        }
        logger.info("request", extra={FIELDS: fields})
