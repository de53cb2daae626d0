"""`aspired bench`: its flags, and what it does with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import click

from cluster.core.errors import AspiredError, ConfigError, InvalidArgument
from cluster.terminal import Terminal

if TYPE_CHECKING:
    from cluster.bench.generator_process import Destination
    from cluster.bench.load import Load
    from cluster.bench.measurement import Schedule
    from cluster.bench.preparation import InputSource, MetricsScraper
    from cluster.bench.report import Report
    from cluster.bench.server_metrics import Series

INTERRUPTED = 130  # what shells say of a command that Ctrl-C has ended
FAILED = 1
DEFAULT_CONCURRENCY = "1:64:x2"
MAX_CONCURRENCY = 10_000
_CHANNELS = 8
_WINDOW_S = 2.0
_STABILITY_PERCENT = 10.0
_MAX_WINDOWS = 10

_ABOVE_ZERO = click.FloatRange(min=0, min_open=True)


T = TypeVar("T")


class HasTerminal(Protocol):
    """What the command needs of the group that it is in."""

    @property
    def terminal(self) -> Terminal: ...


@click.command(short_help="Load a server, and measure its throughput and latency.")
@click.argument("url")
@click.option("--model", required=True, metavar="NAME", help="The model to ask.")
@click.option("--version", type=click.IntRange(min=0), help="Its version; by default the latest.")
@click.option("--label", metavar="LABEL", help="The label of its version.")
@click.option("--signature_name", default="", metavar="NAME", help="For generated, .npy and .npz input.")
@click.option(
    "--concurrency", metavar="SWEEP", help=f"Closed loop: so many requests under way. By default {DEFAULT_CONCURRENCY}."
)
@click.option("--request_rate", metavar="SWEEP", help="Open loop: so many requests a second, whatever the answers do.")
@click.option(
    "--arrivals", type=click.Choice(["poisson", "constant"]), default="poisson", show_default=True, help="Of an open loop."
)
@click.option(
    "--max_in_flight",
    type=click.IntRange(1, MAX_CONCURRENCY),
    default=512,
    show_default=True,
    help="Of an open loop: what comes beyond waits in this client, and that counts.",
)
@click.option("--input", "input_file", metavar="FILE", help="Send what FILE holds instead of generated data; see below.")
@click.option("--shape", "shapes", multiple=True, metavar="NAME:SIZE,...", help="A whole shape, as in input:1,224,224,3.")
@click.option("--batch_size", type=click.IntRange(min=1), help="Rows of a request; by default 1, and of an array in FILE all.")
@click.option("--string_length", type=click.IntRange(min=0), default=16, show_default=True, help="Of generated strings.")
@click.option("--data", type=click.Choice(["random", "zero"]), default="random", show_default=True, help="What to generate.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of random data and arrivals.")
@click.option("--warmup_s", type=click.FloatRange(min=0), default=1.0, show_default=True, help="What is not counted.")
@click.option("--duration_s", type=_ABOVE_ZERO, help="Measure each load for so long, stable or not.")
@click.option(
    "--stability_percent",
    type=_ABOVE_ZERO,
    help="Without --duration_s: how near throughput and p99 of three windows must be to their mean. "
    f"[default: {_STABILITY_PERCENT:g}]",
)
@click.option("--window_s", type=_ABOVE_ZERO, help=f"A window's length. [default: {_WINDOW_S:g}]")
@click.option(
    "--max_windows", type=click.IntRange(min=3), help=f"Give up on stability after so many. [default: {_MAX_WINDOWS}]"
)
@click.option("--latency_budget_ms", type=_ABOVE_ZERO, help="A p99 to hold: exit status 1 if no load of the sweep does.")
@click.option("--metrics_url", metavar="URL", help="The server's metrics, where they are not on the REST URL's standard path.")
@click.option("--processes", type=click.IntRange(1, 256), default=1, show_default=True, help="That send requests.")
@click.option(
    "--connections", type=click.IntRange(1, 1000), default=_CHANNELS, show_default=True, help="That gRPC requests share."
)
@click.option("--timeout_s", type=_ABOVE_ZERO, default=60.0, show_default=True, help="Of a request; over gRPC its deadline.")
@click.option("--header", "headers", multiple=True, metavar="NAME:VALUE", help="Goes with every request.")
@click.option("--ca_file", metavar="FILE", help="PEM: who may sign the server's certificate.")
@click.option("--cert_file", metavar="FILE", help="PEM: this client's certificate.")
@click.option("--key_file", metavar="FILE", help="PEM: its key.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
@click.option("--csv", "csv_file", metavar="FILE", help="Write a line for each load to FILE, too.")
@click.pass_obj
def bench(shared: HasTerminal, /, **flags: Any) -> int:
    """Load the server at URL, and measure throughput and latency.

    \b
    URL is http[s]://HOST[:8501] for REST or grpc[s]://HOST[:8500] for gRPC, of any server with TensorFlow Serving's API.
    SWEEP is a number, a list (1,8,32), or FROM:TO:STEP where STEP is added (100:1000:100) or xFACTOR (1:64:x2).

    \b
    How many requests a second does the model take, and where is its knee?
      aspired bench http://localhost:8501 --model half_plus_two
    The same over gRPC, batches of 8 images, 30 seconds for each load:
      aspired bench grpc://localhost:8500 --model cnn --shape image:8,224,224,3 --concurrency 1,4,16 --duration_s 30
    What do users see at given rates? Latencies count from when a request should have been sent:
      aspired bench http://localhost:8501 --model cnn --request_rate 100:500:100
    In CI: fail if a p99 of 20 ms cannot be held at 200 requests a second:
      aspired bench http://localhost:8501 --model cnn --request_rate 200 --latency_budget_ms 20 --json
    Real requests, sent by two processes:
      aspired bench grpc://localhost:8500 --model cnn --input cnn/1/assets.extra/tf_serving_warmup_requests --processes 2

    \b
    FILE's name tells what it holds:
      .json            the body of a :predict request         .jsonl, .ndjson   one a line
      .npz, .npy       tensors by input, of the only input     .pb               a serialized PredictRequest
      .tfrecord, tf_serving_warmup_requests                    PredictionLogs, as request logs and warm-up files have them

    Ctrl-C shows what was measured so far.
    """
    return _run(shared.terminal, _Flags(**flags))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Flags:
    """The command line as click has read it."""

    url: str
    model: str
    version: int | None
    label: str | None
    signature_name: str
    concurrency: str | None
    request_rate: str | None
    arrivals: str
    max_in_flight: int
    input_file: str | None
    shapes: tuple[str, ...]
    batch_size: int | None
    string_length: int
    data: str
    seed: int
    warmup_s: float
    duration_s: float | None
    stability_percent: float | None
    window_s: float | None
    max_windows: int | None
    latency_budget_ms: float | None
    metrics_url: str | None
    processes: int
    connections: int
    timeout_s: float
    headers: tuple[str, ...]
    ca_file: str | None
    cert_file: str | None
    key_file: str | None
    as_json: bool
    csv_file: str | None


def _run(terminal: Terminal, flags: _Flags) -> int:
    # Other commands do not pay for what only this one needs.
    from cluster.bench.load_test import LoadTest
    from cluster.bench.preparation import MetricsScraper, prepare
    from cluster.bench.report import Report
    from cluster.bench_report import print_bench_report, print_progress
    from cluster.client.model_spec import ModelSpec

    schedule, loads, source = _schedule(flags), _loads(flags), _source(flags)
    destination = _destination(flags)
    spec = _checked(ModelSpec, flags.model, flags.version, flags.label)
    scraper = MetricsScraper(destination, flags.metrics_url)
    prepared = prepare(destination, spec, source)
    scrape = _scrape(terminal, scraper, required=flags.metrics_url is not None)

    test = LoadTest(flags.model, schedule, scrape, lambda progress: print_progress(terminal, progress))
    interrupted = False
    try:
        test.run(loads, destination, prepared.requests, flags.processes)
    except KeyboardInterrupt:
        interrupted = True
    report = Report(
        target=str(destination.target),
        protocol=destination.target.protocol.value,
        model=str(spec),
        version=prepared.version,
        input=prepared.input,
        points=test.points,
        latency_budget_ms=flags.latency_budget_ms,
    )
    if flags.csv_file is not None:
        _write(flags.csv_file, report.to_csv())
    if flags.as_json:
        terminal.write(report.to_json())
    elif report.points:
        print_bench_report(terminal, report)
    return INTERRUPTED if interrupted else _status(report)


def _schedule(flags: _Flags) -> Schedule:
    from cluster.bench.measurement import Schedule

    if flags.duration_s is None:
        return Schedule(
            warmup_s=flags.warmup_s,
            window_s=flags.window_s or _WINDOW_S,
            stability_percent=flags.stability_percent or _STABILITY_PERCENT,
            max_windows=flags.max_windows or _MAX_WINDOWS,
        )
    for flag in ("stability_percent", "window_s", "max_windows"):
        if getattr(flags, flag) is not None:
            raise ConfigError(f"--{flag} looks for stability, which --duration_s does not: leave one out")
    return Schedule(warmup_s=flags.warmup_s, window_s=flags.duration_s)


def _loads(flags: _Flags) -> list[Load]:
    from cluster.bench.load import Arrivals, ClosedLoop, OpenLoop
    from cluster.bench.sweep import parse_sweep, parse_whole_sweep

    if flags.request_rate is None:
        values = parse_whole_sweep("--concurrency", flags.concurrency or DEFAULT_CONCURRENCY)
        if max(values) > MAX_CONCURRENCY:
            raise ConfigError(f"--concurrency={flags.concurrency}: expected at most {MAX_CONCURRENCY}")
        return [ClosedLoop(value) for value in values]
    if flags.concurrency is not None:
        raise ConfigError("--concurrency and --request_rate exclude each other: a loop is closed or open")
    arrivals = Arrivals(flags.arrivals)
    return [
        OpenLoop(rate=rate, arrivals=arrivals, max_in_flight=flags.max_in_flight, seed=flags.seed)
        for rate in parse_sweep("--request_rate", flags.request_rate)
    ]


def _source(flags: _Flags) -> InputSource:
    from cluster.bench.generated_input import Data, InputOptions, parse_shapes
    from cluster.bench.preparation import InputSource

    if flags.input_file is not None and flags.shapes:
        raise ConfigError("--shape is for generated input: leave it out, or --input")
    options = InputOptions(
        shapes=parse_shapes(flags.shapes),
        batch_size=flags.batch_size,
        string_length=flags.string_length,
        data=Data(flags.data),
    )
    return InputSource(file=flags.input_file, signature_name=flags.signature_name, options=options, seed=flags.seed)


def _destination(flags: _Flags) -> Destination:
    from cluster.bench.generator_process import Destination
    from cluster.client.connection_options import ConnectionOptions, TLSConfig
    from cluster.client.target import parse_target

    files = {"ca_file": flags.ca_file, "cert_file": flags.cert_file, "key_file": flags.key_file}
    for flag, file in files.items():
        if file is not None and not Path(file).is_file():
            raise ConfigError(f"--{flag}={file}: there is no such file")
    return Destination(
        target=_checked(parse_target, flags.url),
        options=ConnectionOptions(headers=dict(map(_header, flags.headers)), tls=_checked(partial(TLSConfig, **files))),
        timeout_s=flags.timeout_s,
        channels=flags.connections,
    )


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip() or "\n" in text or "\r" in text:
        raise ConfigError("--header: expected NAME:VALUE, as in 'Authorization: Bearer TOKEN'")  # it may be a secret
    return name.strip(), value.strip()


def _checked(make: Callable[..., T], *arguments: Any) -> T:
    """What `make` makes of the command line; its errors are the command line's."""
    try:
        return make(*arguments)
    except InvalidArgument as error:
        raise ConfigError(error.message) from error


def _scrape(terminal: Terminal, scraper: MetricsScraper, *, required: bool) -> Callable[[], Series | None]:
    """Reads the server's metrics, if they can be read now. Raises AspiredError if they cannot and are `required`."""
    try:
        scraper.read()
    except AspiredError as error:
        if required:
            raise ConfigError(f"--metrics_url: {error.message}") from error
        terminal.note(f"No figures of the server's own: {error.message} (docs/benchmarking.md)")
        return lambda: None

    def scrape() -> Series | None:
        try:
            return scraper.read()
        except AspiredError as error:
            terminal.warn(f"the server's metrics cannot be read: {error.message}")
            return None

    return scrape


def _write(file: str, text: str) -> None:
    try:
        Path(file).write_text(text)
    except OSError as error:
        raise ConfigError(f"--csv={file}: cannot be written: {error.strerror or error}") from error


def _status(report: Report) -> int:
    failed = not any(point.sample.succeeded for point in report.points)
    return FAILED if failed or not report.budget_held else 0
