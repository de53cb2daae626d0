"""What operators and probes ask of the REST port, beside TF Serving's API.

GET /monitoring/prometheus/metrics      TF Serving's metrics and ours, of the whole server
GET /v1/health/ready, /readyz           whether this node takes requests, and what is missing
GET /v1/health/live, /livez             whether this process answers at all
GET /v1/models                          every model and its versions
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from cluster.core.errors import AspiredError, InvalidArgument
from cluster.core.metric_catalog import METRICS
from cluster.core.prometheus_text import CONTENT_TYPE, prometheus_text
from cluster.core.servable_state import PublicState, ServableState
from cluster.core.serving_map import ServingMap
from servables.frontend.http_listener import JSON_HEADERS, HttpRequest, HttpResponse
from servables.frontend.rest import Rest, error_response
from servables.frontend.server_control import ServerControl

_TEXT_HEADERS = ((b"Content-Type", CONTENT_TYPE.encode()),)

Answer = Callable[[HttpRequest], Awaitable[HttpResponse]]


class OperatorRoutes:
    """Answers from the serving map that is in force; `serving_map` is asked for it each time."""

    def __init__(self, serving_map: Callable[[], ServingMap], control: ServerControl, metrics_path: str = "") -> None:
        """`metrics_path` empty: no metrics are to be had, as without `--monitoring_config_file`."""
        self._serving_map = serving_map
        self._control = control
        self._metrics_path = metrics_path

    def add_to(self, rest: Rest) -> None:
        rest.add_route(r"/v1/models", _gets(self._models))
        rest.add_route(r"/(v1/health/ready|readyz)(\?.*)?", _gets(self._ready))
        rest.add_route(r"/(v1/health/live|livez)(\?.*)?", _gets(self._live))
        if self._metrics_path:
            rest.add_route(re.escape(self._metrics_path) + r"(\?.*)?", self._metrics)

    async def _models(self, request: HttpRequest) -> HttpResponse:
        serving_map = self._serving_map()
        versions = _versions_by_model(serving_map)
        models = [
            {
                "name": name,
                "version_labels": dict(sorted(serving_map.labels.get(name, {}).items())),
                "model_version_status": [_status(state) for state in versions.get(name, ())],
            }
            for name in sorted({*serving_map.labels, *versions})
        ]
        return _json(200, {"models": models})

    async def _ready(self, request: HttpRequest) -> HttpResponse:
        """200 as long as requests are taken: a model without a version must not take the others from their clients."""
        serving_map = self._serving_map()
        versions = _versions_by_model(serving_map)
        missing = {name: why for name in sorted(serving_map.labels) if (why := _why_missing(versions.get(name, ())))}
        body = {"status": "ready" if serving_map.accepting else "not ready", "missing_models": missing}
        return _json(200 if serving_map.accepting else 503, body)

    async def _live(self, request: HttpRequest) -> HttpResponse:
        return _json(200, {"status": "live"})

    async def _metrics(self, request: HttpRequest) -> HttpResponse:
        if request.target != self._metrics_path:
            return error_response(InvalidArgument(f"Unexpected path: {request.target}. Should be {self._metrics_path}"))
        if request.method != "GET":
            return error_response(InvalidArgument(f"Malformed request: {request.method} {request.target}"))
        series = await self._control.metrics()
        # With hundreds of models a tenth of a second, which no other request is to wait for.
        text = await asyncio.to_thread(prometheus_text, METRICS, series)
        return HttpResponse(200, _TEXT_HEADERS, text.encode())


def _gets(answer: Answer) -> Answer:
    async def handle(request: HttpRequest) -> HttpResponse:
        try:
            if request.method != "GET":
                raise InvalidArgument(f"Malformed request: {request.method} {request.target}")
            return await answer(request)
        except AspiredError as error:
            return error_response(error)

    return handle


def _versions_by_model(serving_map: ServingMap) -> Mapping[str, list[ServableState]]:
    """Newest first."""
    versions: dict[str, list[ServableState]] = {}
    for state in sorted(serving_map.states, key=lambda state: state.id, reverse=True):
        versions.setdefault(state.id.name, []).append(state)
    return versions


def _why_missing(states: Sequence[ServableState]) -> str:
    """Empty for a model that has a version available; else what the newest is about."""
    if any(state.state is PublicState.AVAILABLE for state in states):
        return ""
    if not states:
        return "no version found"
    newest = states[0]
    return f"version {newest.id.version} is {newest.state.name}: {newest.status.message}".removesuffix(": ")


def _status(state: ServableState) -> dict[str, Any]:
    """As GetModelStatus shows a version."""
    return {
        "version": str(state.id.version),
        "state": state.state.name,
        "status": {"error_code": state.status.code.name, "error_message": state.status.message},
    }


def _json(status: int, body: Mapping[str, Any]) -> HttpResponse:
    return HttpResponse(status, JSON_HEADERS, (json.dumps(body, indent=1, ensure_ascii=False) + "\n").encode())
