"""What comes before measuring: the model is asked for its signature, requests are made, and one of them is tried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import numpy as np

from cluster.bench.generated_input import Data, InputOptions, generate_inputs
from cluster.bench.generator_process import Destination
from cluster.bench.input_file import read_requests
from cluster.bench.load_request import LoadRequest, RequestEncoder
from cluster.bench.server_metrics import METRICS_PATH, Series, read_series
from cluster.client import Client, RetryPolicy
from cluster.client.exchange import WireRequest
from cluster.client.model_metadata import ModelMetadata
from cluster.client.model_spec import ModelSpec
from cluster.client.target import Protocol, Target, parse_target
from cluster.client.transport import open_transport
from cluster.core.errors import AspiredError, ConfigError, NotFound, Unavailable, error_for

VARIANTS = 16
"""So many different requests are made of random data, if they are not too large."""
MAX_VARIANTS_BYTES = 64 << 20
_SCRAPE_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Prepared:
    """The requests, which are sent in turn; `input` says in words what they are."""

    requests: Sequence[LoadRequest]
    input: str
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSource:
    """Where requests come from: a file, or else the signature. `seed` decides what random data are."""

    file: str | None
    signature_name: str
    options: InputOptions
    seed: int


def prepare(destination: Destination, spec: ModelSpec, source: InputSource) -> Prepared:
    """Raises ConfigError for input that cannot be made, else what keeps the server from answering it, with a way out."""
    metadata = _metadata(destination, spec)
    encoder = RequestEncoder(destination.target.protocol, spec, metadata)
    if source.file is not None:
        requests = read_requests(source.file, encoder, source.signature_name, source.options.batch_size)
        origin, remedy = f"from {source.file}", f"correct {source.file}"
    else:
        requests = _generated(encoder, metadata, source)
        origin = "of zeros" if source.options.data is Data.ZERO else "of random data"
        remedy = "give real input with --input, or try --shape, --data=zero or --signature_name"
    _try(destination, requests[0], remedy)
    rows = sorted({request.rows for request in requests})
    sizes = f"{rows[0]}" if len(rows) == 1 else f"{rows[0]} to {rows[-1]}"
    plural = "" if rows == [1] else "s"
    count = f"{len(requests)} requests" if len(requests) > 1 else "1 request"
    return Prepared(requests, f"{count} {origin}, {sizes} row{plural} each", metadata.version)


class MetricsScraper:
    """Reads a server's metrics; `url` None stands for the REST target's own."""

    def __init__(self, destination: Destination, url: str | None) -> None:
        """Raises ConfigError for a URL that is none."""
        self._target, self._path = _metrics_place(destination.target, url)
        self._options = destination.options

    def read(self) -> Series:
        """Raises AspiredError where there are no metrics."""
        if self._target is None:
            raise NotFound("where they are is not known: give --metrics_url")
        transport = open_transport(self._target, self._options)
        try:
            outcome = transport.send(WireRequest("GET", self._path, b""), _SCRAPE_TIMEOUT_S)
        finally:
            transport.close()
        if isinstance(outcome.error, NotFound):
            raise NotFound(
                f"there are no metrics at {self._target}{self._path}; start the server with --monitoring_config_file"
            )
        if outcome.error is not None:
            raise error_for(outcome.error.code, f"{self._target}{self._path}: {outcome.error.message}")
        return read_series(outcome.body.decode(errors="replace"))


def _metrics_place(target: Target, url: str | None) -> tuple[Target | None, str]:
    if url is None:
        return (target, METRICS_PATH) if target.protocol is Protocol.REST else (None, "")
    try:
        parts = urlsplit(url)
        place = parse_target(f"{parts.scheme}://{parts.netloc}")
    except (ValueError, AspiredError) as error:
        raise ConfigError(f"--metrics_url={url}: {error}") from error
    if place.protocol is not Protocol.REST:
        raise ConfigError(f"--metrics_url={url}: expected http:// or https://")
    return place, parts.path if parts.path.strip("/") else METRICS_PATH


def _metadata(destination: Destination, spec: ModelSpec) -> ModelMetadata:
    target, options = destination.target, destination.options
    try:
        with Client(
            str(target) if target.port is not None else target.authority,
            timeout_s=destination.timeout_s,
            retry=RetryPolicy(max_attempts=1),
            headers=options.headers,
            tls=options.tls,
            connect_timeout_s=options.connect_timeout_s,
        ) as client:
            return client.metadata(spec.name, spec.version, label=spec.label)
    except Unavailable as error:
        other = "gRPC port: grpc://HOST:8500" if target.protocol is Protocol.REST else "REST port: http://HOST:8501"
        raise Unavailable(f"{error.message}; is the server running, and is this not its {other}?") from error
    except OSError as error:
        raise ConfigError(f"the TLS files cannot be used: {error}; see --ca_file, --cert_file and --key_file") from error
    except NotFound as error:
        raise NotFound(f"{target} does not serve model {spec} ({error.message}): see --model, --version and --label") from error


def _generated(encoder: RequestEncoder, metadata: ModelMetadata, source: InputSource) -> list[LoadRequest]:
    signature = metadata.signature(source.signature_name)
    random = np.random.default_rng(source.seed)
    requests: list[LoadRequest] = []
    size_bytes = 0
    while len(requests) < (VARIANTS if source.options.data is Data.RANDOM else 1) and size_bytes < MAX_VARIANTS_BYTES:
        request = encoder.tensors(generate_inputs(signature, source.options, random), source.signature_name)
        requests.append(request)
        size_bytes += len(request.wire.body)
    return requests


def _try(destination: Destination, request: LoadRequest, remedy: str) -> None:
    transport = open_transport(destination.target, destination.options)
    try:
        outcome = transport.send(request.wire, destination.timeout_s)
    finally:
        transport.close()
    if outcome.error is not None:
        message = f"The first request failed with {outcome.error.code.name}: {outcome.error.message}; {remedy}"
        raise error_for(outcome.error.code, message)
