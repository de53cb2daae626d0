from __future__ import annotations

import pytest

from cluster.storage.s3_client import s3_client


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_REGION", "S3_REGION", "S3_ENDPOINT", "S3_USE_HTTPS", "AWS_ENDPOINT_URL", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")


@pytest.mark.parametrize(
    ("endpoint_variable", "https", "url"),
    [
        ("store:9000", None, "https://store:9000"),
        ("store:9000", "0", "http://store:9000"),
        ("http://store:9000", None, "http://store:9000"),
    ],
)
def test_another_store_is_named_by_variables(
    monkeypatch: pytest.MonkeyPatch, endpoint_variable: str, https: str | None, url: str
) -> None:
    monkeypatch.setenv("S3_ENDPOINT", endpoint_variable)
    if https is not None:
        monkeypatch.setenv("S3_USE_HTTPS", https)
    assert s3_client().meta.endpoint_url == url


def test_the_sdks_own_variable_names_another_store_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://store:9000")
    assert s3_client().meta.endpoint_url == "http://store:9000"


@pytest.mark.parametrize(
    ("variables", "region"),
    [
        ({}, "us-east-1"),
        ({"S3_REGION": "eu-west-1"}, "eu-west-1"),
        ({"S3_REGION": "eu-west-1", "AWS_REGION": "eu-central-1"}, "eu-central-1"),
    ],
)
def test_the_region_is_named_by_variables(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], region: str) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert s3_client().meta.region_name == region


def test_bounds_are_those_asked_for() -> None:
    config = s3_client(connect_timeout_s=1.0, read_timeout_s=2.0, attempts=4, connections=7).meta.config
    assert (config.connect_timeout, config.read_timeout, config.max_pool_connections) == (1.0, 2.0, 7)
    assert config.retries["total_max_attempts"] == 4
