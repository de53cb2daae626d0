from __future__ import annotations

import re

import pytest

from cluster.core.object_uri import (
    ObjectUri,
    is_azure_url,
    join_http,
    object_path_problem,
    parse_azure_uri,
    parse_google_uri,
    parse_http_uri,
)

ACCOUNT_ENDPOINT = "https://acct.blob.core.windows.net"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("gs://bucket", ObjectUri("bucket", "")),
        ("gs://bucket/", ObjectUri("bucket", "")),
        ("GS://my.bucket_1-x/models/m/", ObjectUri("my.bucket_1-x", "models/m")),
        ("gs://bucket/a b/ü%20?#", ObjectUri("bucket", "a b/ü%20?#")),
    ],
)
def test_google_paths(path: str, expected: ObjectUri) -> None:
    assert parse_google_uri(path) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("az://models/m/1", ObjectUri("models", "m/1")),
        ("az://$web", ObjectUri("$web", "")),
        ("az://models/a?b", ObjectUri("models", "a?b")),
        ("abfss://models@acct.dfs.core.windows.net/m", ObjectUri("models", "m", "acct", ACCOUNT_ENDPOINT)),
        ("abfs://models@ACCT.dfs.core.windows.net", ObjectUri("models", "", "acct", ACCOUNT_ENDPOINT)),
        ("https://acct.blob.core.windows.net/models/m%20x", ObjectUri("models", "m x", "acct", ACCOUNT_ENDPOINT)),
        (
            "abfss://models@acct.dfs.core.chinacloudapi.cn/m",
            ObjectUri("models", "m", "acct", "https://acct.blob.core.chinacloudapi.cn"),
        ),
    ],
)
def test_azure_paths(path: str, expected: ObjectUri) -> None:
    assert parse_azure_uri(path) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("https://Host.example/models/m/", ObjectUri("https://host.example", "models/m")),
        ("http://127.0.0.1:8080", ObjectUri("http://127.0.0.1:8080", "")),
        ("http://[::1]:8080/m", ObjectUri("http://[::1]:8080", "m")),
        ("https://h/a%20b/c%2Bd%25", ObjectUri("https://h", "a b/c+d%")),
    ],
)
def test_http_paths(path: str, expected: ObjectUri) -> None:
    assert parse_http_uri(path) == expected


@pytest.mark.parametrize("name", ["a b", "a+b", "a%20b", "ü", "a#b?c"])
def test_a_child_of_a_url_is_encoded_once(name: str) -> None:
    assert parse_http_uri(join_http("https://h/m%20x/", name)).key == f"m x/{name}"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("gs:///m", "expected gs://BUCKET/PREFIX"),
        ("gs://UPPER/m", "expected gs://BUCKET/PREFIX"),
        ("gs://bucket/a//m", "'', '.' and '..' are no parts of a path"),
        ("gs://bucket/../m", "'', '.' and '..' are no parts of a path"),
        ("gs://bucket/m?x=1", "leave out what follows the '?'"),
        ("az:///m", "it names no container"),
        ("az://my--models/m", "it names no container"),
        ("s3://key:SECRET@bucket/m", "holds credentials"),
        ("gs://key:SECRET@bucket/m", "expected gs://BUCKET/PREFIX"),
        ("az://key:SECRET@models/m", "it names no container"),
        ("abfss://key:SECRET@acct.dfs.core.windows.net/m", "it names no container"),
        ("abfss://key:SECRET@models/m", "expected ACCOUNT.dfs.core.windows.net"),
        ("az://models/m?sv=1&sig=SECRET", "give a SAS token in AZURE_STORAGE_SAS_TOKEN"),
        ("https://acct.blob.core.windows.net/models/m?sv=1&sig=SECRET", "give a SAS token in AZURE_STORAGE_SAS_TOKEN"),
        ("https://acct.blob.core.windows.net/", "it names no container"),
        ("abfss://models/m", "expected abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/PREFIX"),
        ("abfss://models@elsewhere.example/m", "expected ACCOUNT.dfs.core.windows.net"),
        ("https:///m", r"expected http\(s\)://HOST"),
        ("https://host:none/m", r"expected http\(s\)://HOST"),
        ("https://user:SECRET@host/m", "put them in ~/.netrc"),
        ("https://host/m?token=SECRET", "leave out what follows the '?'"),
        ("https://user:SECRET@host/m?token=SECRET", "leave out what follows the '?'"),
        ("https://user:SECRET@host/a/../b", "put them in ~/.netrc"),
        ("https://host/m#SECRET", "a base path has no query"),
        ("https://user:SECRET@acct.blob.core.windows.net/m", "put them in ~/.netrc"),
    ],
)
def test_a_path_that_cannot_be_one_is_refused_with_the_fix_and_no_secret(path: str, message: str) -> None:
    problem = object_path_problem(path)
    assert re.search(message, problem)
    assert "SECRET" not in problem


@pytest.mark.parametrize(
    "path",
    [
        "/models/m",
        "file:///models/m",
        "s3://bucket/m?x",
        "gs://bucket/m",
        "az://models/m",
        "https://host/m",
        "abfss://c1c@acct.dfs.core.windows.net",
    ],
)
def test_other_paths_pass(path: str) -> None:
    assert object_path_problem(path) == ""


def test_urls_of_azure_are_told_from_web_servers() -> None:
    assert is_azure_url("https://acct.blob.core.windows.net/models/m")
    assert not is_azure_url("https://host/acct.blob.core.windows.net")
    assert not is_azure_url("gs://acct.blob.core.windows.net/m")
