"""Retrains the chopstick classifier, and publishes it if it beats the version that is served.

    python scripts/retrain.py .aspired/measurements .aspired/models/chopsticks --server=http://localhost:8501

docs/retraining.md goes through it step by step.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import ArrayLike, NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cluster.client import (
    AspiredError,
    Client,
    DataLoss,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    NotFound,
    PublicState,
    Unavailable,
    publish,
    versions,
)
from cluster.publishing.published_version import PublishedVersion
from scripts.candidate import Candidate, train_candidate
from scripts.measurements import Measurements
from scripts.training_set import TrainingSet, read_training_set
from scripts.validation import Margin, Score, decide, score

_ROWS_A_REQUEST = 256
# How far an answer may be from the candidate's own: float32 through JSON, summed in another order.
_TOLERANCE = 1e-4
_CONNECT_TIMEOUT_S = 10.0
_DATA_SHA256 = "data_sha256"


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done. `timeout_s` is for the training, and once more for the new version to become AVAILABLE."""

    data: str
    base_path: str
    server: str
    model: str
    margin: Margin
    keep: int | None
    ray_address: str | None
    timeout_s: float


def retrain(plan: Plan, say: Callable[[str], None]) -> int | None:
    """Data -> train -> validate -> publish -> served. The new version's number, or None when nothing is to be published.

    Safe to run again after any end, and with nothing new. Raises AspiredError; nothing is published then, unless it says so.
    """
    data = read_training_set(plan.data)
    rows = f"{len(data.training)} rows to train on, {len(data.held_back)} held back"
    say(f"data: {len(data.files)} files in {data.path}: {rows}")
    with Client(plan.server) as client:
        if (same := _trained_on(data, _published(plan.base_path))) is not None:
            state = _state(client, plan.model, same.version)
            say(f"not better: version {same.version} has been trained on these very data ({state}); nothing is published")
            return None
        _served_version(client, plan)  # rather now than when the training is over
        candidate = _train(data, plan, say)
        candidate_score = score(candidate.probabilities, data.held_back.label)
        say(f"candidate: {candidate_score}")
        version = _served_version(client, plan)
        served_score = None
        if version is not None:
            served_score = score(ask(client, plan.model, data.held_back, version), data.held_back.label)
            say(f"served: version {version} of {plan.model}: {served_score}")
        verdict = decide(candidate_score, served_score, plan.margin)
        say(verdict.reason if verdict.publish else f"{verdict.reason}; nothing is published")
        if not verdict.publish:
            return None
        new = _publish(candidate, plan, _annotations(data, candidate_score, version, served_score), say)
        _verify(client, plan.model, new, data.held_back, candidate)
        say(f"served: version {new} is AVAILABLE and answers as the candidate does")
        return new


def ask(client: Client, model: str, data: Measurements, version: int | None = None) -> NDArray[np.float32]:
    """The class probabilities that a server gives for each row; from `version`, or from the one that any client gets."""
    answers = []
    for start in range(0, len(data), _ROWS_A_REQUEST):
        part = data.rows(slice(start, start + _ROWS_A_REQUEST))
        inputs: dict[str, ArrayLike] = {"length_mm": part.length_mm, "person": part.person}
        answers.append(client.predict(model, inputs, version=version, outputs=["probabilities"])["probabilities"])
    return np.concatenate(answers)


def _published(base_path: str) -> Sequence[PublishedVersion]:
    try:
        return versions(base_path)
    except NotFound:
        return ()


def _trained_on(data: TrainingSet, published: Sequence[PublishedVersion]) -> PublishedVersion | None:
    same = (version for version in published if version.annotations.get(_DATA_SHA256) == data.sha256)
    return next((version for version in same if version.state.whole), None)


def _state(client: Client, model: str, version: int) -> str:
    with contextlib.suppress(NotFound):
        return "; ".join(map(str, client.status(model, version)))
    return "the server does not have it"


def _served_version(client: Client, plan: Plan) -> int | None:
    """The version that clients get: the newest that is AVAILABLE. None before the first one is published.

    Raises FailedPrecondition where model, server and base path do not belong together: the candidate would be compared with
    nothing, or be published where nobody looks.
    """
    try:
        statuses = client.status(plan.model)
    except NotFound:
        statuses = []
    served = max((status.version for status in statuses if status.state is PublicState.AVAILABLE), default=None)
    there = [version.version for version in _published(plan.base_path) if version.state.whole]
    if served is None and there:
        told = "; ".join(map(str, statuses)) or f"it does not know {plan.model}, is --model right?"
        raise FailedPrecondition(f"{plan.base_path} holds versions, but {plan.server} has none of them AVAILABLE: {told}")
    if served is not None and served not in there:
        other = f"{plan.server} serves version {served} of {plan.model}"
        raise FailedPrecondition(f"{other}, which {plan.base_path} does not hold: is that its base path?")
    return served


def _train(data: TrainingSet, plan: Plan, say: Callable[[str], None]) -> Candidate:
    """Trains in a Ray task, on any node of the cluster."""
    with _ray(plan.ray_address):
        import ray

        say(f"training as a Ray task on {plan.ray_address or 'a Ray of its own on this machine'}")
        # This model is too small for a GPU, and a server on the node may hold it.
        without_gpu = {"env_vars": {"CUDA_VISIBLE_DEVICES": "-1"}}
        train = ray.remote(num_cpus=1, runtime_env=without_gpu)(train_candidate)
        task = train.remote(data.training, data.held_back)
        try:
            candidate: Candidate = ray.get(task, timeout=plan.timeout_s)
        except ray.exceptions.GetTimeoutError as error:
            waited = f"training has not ended after {plan.timeout_s:g} s"
            raise DeadlineExceeded(f"{waited}; `ray status` tells if a CPU is free, --timeout gives it longer") from error
        except ray.exceptions.RayTaskError as error:
            cause = error.cause
            raise Internal(f"training has failed: {type(cause).__name__}: {_one_line(cause)}") from error
        except ray.exceptions.RayError as error:
            raise Unavailable(f"training has failed: {_one_line(error)}") from error
    return candidate


@contextlib.contextmanager
def _ray(address: str | None) -> Iterator[None]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray  # reads its environment when it is imported

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        if address is None:
            ray.init(address="local", num_cpus=1, include_dashboard=False, object_store_memory=100 << 20, **quiet)
        else:
            _check_reachable(address)
            ray.init(address=address, runtime_env=_code(), **quiet)
    except Exception as error:  # Ray has no type for a node that takes too long to start
        raise Unavailable(f"Ray at {address or 'local'}: {_one_line(error)}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Ray itself waits for minutes for an address where nothing listens."""
    if "://" in address:
        raise ValueError("expected host:port, as in `ray start`'s words; the dashboard's address is for `ray job submit` alone")
    host, _, port = address.rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_TIMEOUT_S).close()


def _code() -> dict[str, Any] | None:
    """This code for the cluster's nodes, unless a Ray job brings it with its working directory."""
    if os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR"):
        return None
    root = Path(__file__).resolve().parent.parent
    return {"py_modules": [str(root / package) for package in ("cluster", "servables", "scripts")]}


def _annotations(data: TrainingSet, candidate: Score, version: int | None, served: Score | None) -> dict[str, str]:
    """What the manifest is to say of where the version comes from and why it was published."""
    annotations = {
        _DATA_SHA256: data.sha256,
        "data": data.path,
        "training_rows": str(len(data.training)),
        "held_back_rows": str(candidate.rows),
        "accuracy": f"{candidate.accuracy:.4f}",
        "log_loss": f"{candidate.log_loss:.4f}",
    }
    if served is not None:
        annotations["compared_with"] = f"version {version}: {served}"
    return annotations


def _publish(candidate: Candidate, plan: Plan, annotations: dict[str, str], say: Callable[[str], None]) -> int:
    with tempfile.TemporaryDirectory() as scratch:
        publication = publish(
            candidate.save(Path(scratch, "export")),
            plan.base_path,
            annotations=annotations,
            keep=plan.keep,
            server=plan.server,
            model=plan.model,
            timeout_s=plan.timeout_s,
        )
    say(f"published: version {publication.version}, {publication.size_bytes} bytes in {publication.path}")
    return publication.version


def _verify(client: Client, model: str, version: int, held_back: Measurements, candidate: Candidate) -> None:
    answers = ask(client, model, held_back, version)
    apart = float(np.abs(answers - candidate.probabilities).max())
    if not apart <= _TOLERANCE:
        raise DataLoss(f"version {version} is served, but its answers are up to {apart:g} from the candidate's: unpublish it")


def _one_line(error: object) -> str:
    return " ".join(str(error).split())


@click.command(context_settings={"show_default": True})
@click.argument("data")
@click.argument("base_path")
@click.option("--server", default="http://localhost:8501", help="Where the model is served.")
@click.option("--model", default="chopsticks", help="Its name there.")
@click.option(
    "--margin-accuracy", type=click.FloatRange(0, 1, min_open=True), default=0.01, help="Least gain in the share of right rows."
)
@click.option("--margin-log-loss", type=click.FloatRange(0, min_open=True), default=0.01, help="Least fall of the log loss.")
@click.option("--min-rows", type=click.IntRange(1), default=100, help="Fewest held-back rows to judge by.")
@click.option("--keep", type=click.IntRange(1), default=None, help="Delete all but the newest so many versions afterwards.")
@click.option("--ray-address", envvar="RAY_ADDRESS", default=None, help="A Ray cluster to train on; else one is started here.")
@click.option(
    "--timeout", type=click.FloatRange(0, min_open=True), default=300.0, help="Seconds for training, and for loading."
)
def main(
    data: str,
    base_path: str,
    server: str,
    model: str,
    margin_accuracy: float,
    margin_log_loss: float,
    min_rows: int,
    keep: int | None,
    ray_address: str | None,
    timeout: float,
) -> None:
    """Trains the chopstick classifier on the CSV files in DATA, and publishes it under BASE_PATH if it beats the version
    that is served.

    Both may be directories or bucket prefixes like s3://bucket/prefix. Ends with status 0 when there was nothing to publish.
    """
    margin = Margin(accuracy=margin_accuracy, log_loss=margin_log_loss, rows=min_rows)
    plan = Plan(data, base_path, server, model, margin, keep, ray_address, timeout)
    try:
        new = retrain(plan, click.echo)
    except AspiredError as error:
        raise click.ClickException(_one_line(error)) from error
    if new is not None and server.startswith("http"):
        body = json.dumps({"instances": [{"length_mm": 240.0, "person": 1}]})
        click.echo(f"ask it: curl -d '{body}' {server.rstrip('/')}/v1/models/{model}:predict")


if __name__ == "__main__":
    main()
