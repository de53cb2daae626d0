"""What operators and probes ask of the REST port, beside TF Serving's API.

GET /monitoring/prometheus/metrics      TF Serving's metrics and ours, of the whole server
GET /v1/health/ready, /readyz           whether this node takes requests, and what is missing
GET /v1/health/live, /livez             whether this process answers at all
GET /v1/models                          every model and its versions
GET /v1/config                          the models' config in force, as a native config in JSON
POST /v1/config/reload                  reads the config file again, or takes on the native config that is the body
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cluster.config.native_config import read_native_config
from cluster.config.native_config_text import native_form
from cluster.core.errors import InvalidArgument, PermissionDenied
from cluster.core.metric_catalog import METRICS
from cluster.core.prometheus_text import CONTENT_TYPE, prometheus_text
from cluster.core.servable_state import PublicState, ServableState
from cluster.core.serving_map import ServingMap
from servables.frontend.http_listener import JSON_HEADERS, HttpRequest, HttpResponse
from servables.frontend.rest import Rest
from servables.frontend.server_control import ServerControl

_TEXT_HEADERS = ((b"Content-Type", CONTENT_TYPE.encode()),)


class OperatorRoutes:
    """Answers from the serving map that is in force; `serving_map` is asked for it each time."""

    def __init__(self, serving_map: Callable[[], ServingMap], control: ServerControl, metrics_path: str = "") -> None:
        """`metrics_path` empty: no metrics are to be had, as without `--monitoring_config_file`."""
        self._serving_map = serving_map
        self._control = control
        self._metrics_path = metrics_path

    def add_to(self, rest: Rest) -> None:
        rest.add_route("GET", r"/v1/models", self._models)
        rest.add_route("GET", r"/(v1/health/ready|readyz)(\?.*)?", self._ready)
        rest.add_route("GET", r"/(v1/health/live|livez)(\?.*)?", self._live)
        rest.add_route("GET", r"/v1/config", self._config)
        rest.add_route("POST", r"/v1/config/reload", self._reload)
        if self._metrics_path:
            rest.add_route("GET", re.escape(self._metrics_path) + r"(\?.*)?", self._metrics)

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

    async def _config(self, request: HttpRequest) -> HttpResponse:
        return _json(200, native_form(await self._control.models()))

    async def _reload(self, request: HttpRequest) -> HttpResponse:
        """Answers as HandleReloadConfigRequest: once the models that are new have a version available, or have failed."""
        if b"origin" in request.headers:
            raise PermissionDenied("Web pages may not change what is served: a browser sent this request for one.")
        if request.body.strip():
            config = read_native_config(request.body.decode(errors="replace"), "the request's body")
            if config.problems:
                raise InvalidArgument("; ".join(config.problems))
            status = await self._control.reload(config.models)
        else:
            status = await self._control.reload_models()
        if not status.ok:
            raise status.to_error()
        return _json(200, {"status": {"error_code": "OK", "error_message": ""}})

    async def _metrics(self, request: HttpRequest) -> HttpResponse:
        if "?" in request.target:
            raise InvalidArgument(f"Unexpected path: {request.target}. Should be {self._metrics_path}")
        series = await self._control.metrics()
        # With hundreds of models a tenth of a second, which no other request is to wait for.
        text = await asyncio.to_thread(prometheus_text, METRICS, series)
        return HttpResponse(200, _TEXT_HEADERS, text.encode())


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
