"""REST transports, over httpx with keep-alive."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Iterator
from typing import Literal

import httpx

from cluster.client.connection_options import ConnectionOptions
from cluster.client.exchange import Outcome, WireRequest
from cluster.client.http_errors import http_error
from cluster.client.target import Target
from cluster.client.transport import AsyncTransport, Transport
from cluster.core.errors import DeadlineExceeded, Unavailable

# Concurrency is the caller's business: never make a request wait for a free connection.
_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=100, keepalive_expiry=30.0)


class HttpTransport(Transport):
    def __init__(self, target: Target, options: ConnectionOptions) -> None:
        self._target = target
        self._connect_timeout_s = options.connect_timeout_s
        self._client = httpx.Client(headers=dict(options.headers), verify=tls_context(target, options), limits=_LIMITS)

    def send(self, request: WireRequest, timeout_s: float | None) -> Outcome:
        timeouts = _PhaseTimeouts(timeout_s, self._connect_timeout_s)
        try:
            with self._client.stream(
                request.verb,
                f"{self._target}{request.path}",
                content=request.body or None,
                headers=_HEADERS if request.body else None,
                extensions={"timeout": timeouts},
            ) as response:
                body = b"".join(_within(timeouts, response.iter_bytes()))
        except httpx.HTTPError as error:
            return _failure(error, self._target, timeout_s, timeouts.expired)
        return _outcome(response.status_code, body)

    def close(self) -> None:
        self._client.close()


class AsyncHttpTransport(AsyncTransport):
    def __init__(self, target: Target, options: ConnectionOptions) -> None:
        self._target = target
        self._client = httpx.AsyncClient(
            headers=dict(options.headers),
            verify=tls_context(target, options),
            limits=_LIMITS,
            timeout=httpx.Timeout(None, connect=options.connect_timeout_s),
        )

    async def send(self, request: WireRequest, timeout_s: float | None) -> Outcome:
        try:
            async with asyncio.timeout(timeout_s):
                response = await self._client.request(
                    request.verb,
                    f"{self._target}{request.path}",
                    content=request.body or None,
                    headers=_HEADERS if request.body else None,
                )
        except TimeoutError:
            return _timed_out(self._target, timeout_s)
        except httpx.HTTPError as error:
            return _failure(error, self._target, timeout_s, expired=False)
        return _outcome(response.status_code, response.content)

    async def close(self) -> None:
        await self._client.aclose()


_HEADERS = {"Content-Type": "application/json"}


class _PhaseTimeouts:
    """httpx's timeouts of one request, each read when its phase begins: what is then left of the total.

    httpx limits single waits on the socket, not the request; a total needs this and a look at the clock at each chunk.
    """

    def __init__(self, timeout_s: float | None, connect_timeout_s: float) -> None:
        self._deadline = None if timeout_s is None else time.monotonic() + timeout_s
        self._connect_timeout_s = connect_timeout_s

    @property
    def expired(self) -> bool:
        return self._deadline is not None and time.monotonic() >= self._deadline

    def get(self, phase: str, default: float | None = None) -> float | None:
        if self._deadline is None:
            return self._connect_timeout_s if phase == "connect" else default
        # Zero would make the socket non-blocking.
        left_s = max(self._deadline - time.monotonic(), 0.001)
        return min(left_s, self._connect_timeout_s) if phase == "connect" else left_s


def _within(timeouts: _PhaseTimeouts, chunks: Iterator[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        yield chunk
        if timeouts.expired:
            raise httpx.ReadTimeout("the time is up")


def tls_context(target: Target, options: ConnectionOptions) -> ssl.SSLContext | Literal[False]:
    """What the target's certificate is checked against; False without TLS. Raises OSError for a wrong file."""
    if not target.tls:
        return False
    if options.tls.ca_file is None:
        context = httpx.create_ssl_context()
    else:
        context = ssl.create_default_context(cafile=options.tls.ca_file)
    if options.tls.cert_file is not None:
        context.load_cert_chain(options.tls.cert_file, options.tls.key_file)
    return context


def _outcome(status: int, body: bytes) -> Outcome:
    return Outcome(body) if status == 200 else Outcome(error=http_error(status, body))


def _failure(error: httpx.HTTPError, target: Target, timeout_s: float | None, expired: bool) -> Outcome:
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        if expired:
            return _timed_out(target, timeout_s, sent=False)
        return Outcome(error=Unavailable(f"Cannot connect to {target}: {error or type(error).__name__}"), sent=False)
    if isinstance(error, httpx.TimeoutException):
        return _timed_out(target, timeout_s)
    return Outcome(error=Unavailable(f"The connection to {target} failed: {error or type(error).__name__}"))


def _timed_out(target: Target, timeout_s: float | None, *, sent: bool = True) -> Outcome:
    return Outcome(error=DeadlineExceeded(f"No reply from {target} within {timeout_s or 0:.3g} s"), sent=sent)
