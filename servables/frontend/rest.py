"""TF Serving's REST API (`model_servers/http_rest_api_handler.cc`, `http_rest_api_util.cc`, `http_server.cc`).

    POST /v1/models/M[/versions/V|/labels/L]:(predict|classify|regress)
    GET  /v1/models/M[/versions/V|/labels/L][/metadata]

Routes are tried in order, each by a regular expression that must match the whole target, query included, as TF Serving
matches. `Rest.add_route` puts further ones (`OperatorRoutes`) before TF Serving's catch-all.
"""

from __future__ import annotations

import asyncio
import enum
import json
import re
import time
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote

from google.protobuf import json_format
from google.protobuf.message import Message

from cluster.core.errors import AspiredError, Code, FailedPrecondition, InvalidArgument
from cluster.protos import GetModelMetadataResponse, SignatureDefMap
from servables.frontend.access_log import note_model
from servables.frontend.error_mapping import http_status
from servables.frontend.http_listener import JSON_HEADERS, TRY_LATER_HEADERS, Headers, HttpRequest, HttpResponse
from servables.frontend.inference import (
    Inference,
    ModelSpec,
    SignatureCall,
    Signatures,
    requested_outputs,
)
from servables.frontend.inference_messages import classify_log, predict_log, regress_log
from servables.frontend.model_status import model_status_response
from servables.json_codec import (
    PredictBody,
    decode_examples,
    encode_classifications,
    encode_error,
    encode_predictions,
    encode_regressions,
)
from servables.signatures import DEFAULT_SIGNATURE_NAME
from servables.stage_metrics import ENCODE

_MODEL_PATH = r"(?:(?:/versions/(?P<version>[0-9]+))|(?:/labels/(?P<label>[^/:]+)))?"
_API = re.compile(r"/v1/.*", re.IGNORECASE)
_POST = re.compile(rf"/v1/models/(?P<name>[^/:]+){_MODEL_PATH}:(?P<verb>classify|regress|predict)", re.IGNORECASE)
_GET = re.compile(rf"/v1/models(?:/(?P<name>[^/:]+))?{_MODEL_PATH}(?:/(?P<subresource>metadata))?", re.IGNORECASE)
_ABSOLUTE_FORM = re.compile(r"https?://[^/?#]*", re.IGNORECASE)
_ORIGIN = re.compile(rb"https?://")

_MAX_INT64 = (1 << 63) - 1
_MAX_INT64_DIGITS = 19
_KEPT_TARGET_CHARS = 256
# At gzip's best ratio this becomes 4 MiB, a few milliseconds of the event loop.
_INFLATE_INLINE_BELOW_BYTES = 1 << 12
_CORS_HEADERS: Headers = (
    (b"Access-Control-Allow-Origin", b"*"),
    (b"Access-Control-Allow-Methods", b"POST, GET"),
    (b"Access-Control-Allow-Headers", b"Content-Type"),
)
_TRY_LATER = (Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED)
_NOT_FOUND = HttpResponse(
    404,
    ((b"Content-Type", b"text/html"),),
    b"<HTML><HEAD>\n<TITLE>404 Not Found</TITLE>\n</HEAD><BODY>\n<H1>Not Found</H1>\n</BODY></HTML>\n",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RestOptions:
    """TF Serving's `--rest_api_*` flags. `timeout_s` None waits for ever."""

    timeout_s: float | None = 30.0
    enable_cors: bool = False
    max_inflated_body_bytes: int = 1 << 30


@dataclass(frozen=True, slots=True)
class _Target:
    """What a target says; `error` is what is wrong with it."""

    spec: ModelSpec
    verb: str = ""
    error: HttpResponse | None = None


class _Elsewhere(enum.Enum):
    PREFLIGHT = enum.auto()
    NOWHERE = enum.auto()


RouteHandler = Callable[[HttpRequest], Awaitable[HttpResponse]]


class _Route(NamedTuple):
    method: str
    pattern: re.Pattern[str]
    handler: RouteHandler


class Rest:
    """Translates between HTTP and `Inference`. `handle` is an `HttpHandler`; it never raises AspiredError."""

    def __init__(self, inference: Inference, options: RestOptions | None = None) -> None:
        self._inference = inference
        self._options = options or RestOptions()
        self._routes: list[_Route] = []
        # The same targets come again and again, and matching costs more than a look-up.
        self._destination = lru_cache(maxsize=4096)(self._find_destination)
        self._added_headers = _CORS_HEADERS if self._options.enable_cors else ()
        self._verbs: dict[str, Callable[[ModelSpec, bytes], Awaitable[bytes]]] = {
            "predict": self._predict,
            "classify": self._classify,
            "regress": self._regress,
        }

    def add_route(self, method: str, pattern: str, handler: RouteHandler) -> None:
        """Sends requests with this method whose whole target matches `pattern` to `handler`, before TF Serving's routes.

        `handler` may raise AspiredError, which is answered as TF Serving answers errors.
        """
        self._routes.append(_Route(method, re.compile(pattern), handler))
        self._destination.cache_clear()

    async def handle(self, request: HttpRequest) -> HttpResponse:
        find = self._destination if len(request.target) <= _KEPT_TARGET_CHARS else self._find_destination
        destination = find(request.method, request.target)
        if isinstance(destination, _Target):
            return self._with_cors(await self._handle_api(request, destination))
        if isinstance(destination, _Route):
            return self._with_cors(await self._tried(destination, request))
        return self._with_cors(self._preflight(request)) if destination is _Elsewhere.PREFLIGHT else _NOT_FOUND

    async def _tried(self, route: _Route, request: HttpRequest) -> HttpResponse:
        try:
            return await route.handler(request)
        except AspiredError as error:
            return error_response(error)

    def _find_destination(self, method: str, target: str) -> _Target | _Route | _Elsewhere:
        path = target if target.startswith("/") else _ABSOLUTE_FORM.sub("", target, count=1)
        asked = "GET" if method == "HEAD" else method  # the listener leaves the body away
        for route in self._routes:
            if asked == route.method and route.pattern.fullmatch(path):
                return route
        if not _API.fullmatch(path):
            return _Elsewhere.NOWHERE
        return _Elsewhere.PREFLIGHT if method == "OPTIONS" else _parse_target(method, path)

    async def _handle_api(self, request: HttpRequest, target: _Target) -> HttpResponse:
        api = target.verb if request.method == "POST" else ""
        try:
            with self._inference.metrics.request("REST", target.spec.name, api) as counted:
                if target.error is not None:
                    counted.code = InvalidArgument.code
                    return target.error
                note_model(target.spec.name)
                answer = await self._answer(request, target)
        except AspiredError as error:
            return error_response(error)
        return HttpResponse(200, JSON_HEADERS, answer)

    async def _answer(self, request: HttpRequest, target: _Target) -> bytes:
        if request.method == "GET":
            return self._metadata(target.spec) if target.verb == "metadata" else self._status(target.spec)
        self._inference.check_room(target.spec, self._options.timeout_s)
        return await self._verbs[target.verb](target.spec, await self._body(request))

    async def _predict(self, spec: ModelSpec, body: bytes) -> bytes:
        began = time.perf_counter()
        predict_body = PredictBody.parse(body)
        read_s = time.perf_counter() - began

        def decode(signatures: Signatures) -> SignatureCall:
            name = predict_body.signature_name or DEFAULT_SIGNATURE_NAME
            signature = signatures.get(name)
            if signature is None:
                raise InvalidArgument(f'Serving signature name: "{name}" not found in signature def')
            inputs = predict_body.decode(signature.inputs, predict_body.signature_name)
            return SignatureCall(name, inputs, requested_outputs(signature))

        prediction = await self._inference.predict(spec, decode, self._options.timeout_s, read_s=read_s)
        began = time.perf_counter()
        answer = encode_predictions(prediction.outputs, predict_body.row_format)
        if prediction.timed:
            self._inference.stages.took(spec.name, ENCODE, time.perf_counter() - began)
        self._inference.log(prediction, lambda: predict_log(spec, prediction), len(body) + len(answer))
        return answer

    async def _classify(self, spec: ModelSpec, body: bytes) -> bytes:
        request = decode_examples(body, "classify")
        named = ModelSpec(spec.name, spec.version, spec.label, request.signature_name)
        results = await self._inference.classify(named, lambda: request.examples, self._options.timeout_s)
        answer = encode_classifications(results.results)
        self._inference.log(results, lambda: classify_log(named, request.examples, results), len(body) + len(answer))
        return answer

    async def _regress(self, spec: ModelSpec, body: bytes) -> bytes:
        request = decode_examples(body, "regress")
        named = ModelSpec(spec.name, spec.version, spec.label, request.signature_name)
        results = await self._inference.regress(named, lambda: request.examples, self._options.timeout_s)
        answer = encode_regressions(results.results)
        self._inference.log(results, lambda: regress_log(named, request.examples, results), len(body) + len(answer))
        return answer

    def _status(self, spec: ModelSpec) -> bytes:
        _require_name(spec)
        return _printed(model_status_response(self._inference.model_status(spec))).encode() + b"\n"

    def _metadata(self, spec: ModelSpec) -> bytes:
        _require_name(spec)
        entry = self._inference.model_metadata(spec)
        response = GetModelMetadataResponse()
        response.model_spec.name = entry.id.name
        response.model_spec.version.value = entry.id.version
        model_spec = _printed(response.model_spec)
        signatures = _printed(SignatureDefMap.FromString(entry.signatures))
        return f'{{\n"model_spec":{model_spec}\n,\n"metadata": {{"signature_def": {signatures}\n}}\n}}\n'.encode()

    def _preflight(self, request: HttpRequest) -> HttpResponse:
        """TF Serving's answer to OPTIONS: no body and no Content-Type, whatever the outcome."""
        with self._inference.metrics.request("REST", "", "") as counted:
            if not _ORIGIN.search(request.headers.get(b"origin", b"")):
                counted.code = FailedPrecondition.code
            return HttpResponse(http_status(counted.code), (), b"")

    def _with_cors(self, response: HttpResponse) -> HttpResponse:
        if not self._added_headers:
            return response
        return HttpResponse(response.status, response.headers + self._added_headers, response.body)

    async def _body(self, request: HttpRequest) -> bytes:
        encoding = request.headers.get(b"content-encoding")
        if encoding is None or b"gzip" not in encoding.lower():
            return request.body
        limit = self._options.max_inflated_body_bytes
        if len(request.body) < _INFLATE_INLINE_BELOW_BYTES:
            return _inflate(request.body, limit)
        return await asyncio.to_thread(_inflate, request.body, limit)


def _parse_target(method: str, path: str) -> _Target:
    pattern = {"POST": _POST, "GET": _GET}.get(method)
    match = pattern.fullmatch(path) if pattern is not None else None
    # The expressions ignore case as a whole, TF Serving's handler then compares the verb as it is.
    if match is None or (method == "POST" and match["verb"] not in ("predict", "classify", "regress")):
        message = f"Malformed request: {method} {path.encode('latin-1').decode(errors='replace')}"
        return _Target(ModelSpec(""), error=error_response(InvalidArgument(message)))
    digits = (match["version"] or "").lstrip("0")
    if len(digits) > _MAX_INT64_DIGITS or int(digits or "0") > _MAX_INT64:
        # TF Serving leaves before it writes the error's JSON.
        return _Target(ModelSpec(""), error=HttpResponse(400, JSON_HEADERS, b""))
    version = None if match["version"] is None else int(digits or "0")
    label = None if match["label"] is None else _unquoted(match["label"])
    verb = match["verb"] if method == "POST" else match["subresource"]
    return _Target(ModelSpec(_unquoted(match["name"] or ""), version, label), verb or "")


def _unquoted(text: str) -> str:
    """%-decoded. Targets are held as Latin-1, so that every byte survives until here."""
    return unquote(text, encoding="latin-1").encode("latin-1").decode(errors="replace")


def _require_name(spec: ModelSpec) -> None:
    if not spec.name:
        raise InvalidArgument("Missing model name in request.")


def error_response(error: AspiredError) -> HttpResponse:
    """An error as TF Serving answers it; one that says to come later also says when."""
    headers = TRY_LATER_HEADERS if error.code in _TRY_LATER else JSON_HEADERS
    return HttpResponse(http_status(error.code), headers, encode_error(error.message))


def _printed(message: Message) -> str:
    """As protobuf's C++ printer writes it with whitespace, proto field names and unset fields."""
    fields = json_format.MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    return json.dumps(fields, indent=1, ensure_ascii=False)


def _inflate(body: bytes, limit_bytes: int) -> bytes:
    decompressor = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        inflated = decompressor.decompress(body, limit_bytes)
    except zlib.error as error:
        raise InvalidArgument(f"The request's body is not gzip, as its Content-Encoding says: {error}") from error
    if decompressor.unconsumed_tail:
        raise InvalidArgument(f"The request's body is larger than {limit_bytes} bytes when decompressed.")
    if not decompressor.eof:
        raise InvalidArgument("The request's gzip body ends too early.")
    return inflated
