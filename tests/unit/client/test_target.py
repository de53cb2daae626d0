from __future__ import annotations

import pytest

from cluster.client.target import Protocol, Target, parse_target, parse_targets
from cluster.core.errors import InvalidArgument


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("http://host:81", Target(Protocol.REST, False, "host", 81)),
        ("https://host/prefix/", Target(Protocol.REST, True, "host", 8501, "/prefix")),
        ("grpc://host", Target(Protocol.GRPC, False, "host", 8500)),
        ("grpcs://host:1", Target(Protocol.GRPC, True, "host", 1)),
        ("host:9000", Target(Protocol.GRPC, False, "host", 9000)),
        ("[::1]:9000", Target(Protocol.GRPC, False, "::1", 9000)),
        ("unix:/run/serving.sock", Target(Protocol.GRPC, False, "/run/serving.sock", None)),
    ],
)
def test_reads_an_address(text: str, target: Target) -> None:
    assert parse_target(text) == target


@pytest.mark.parametrize(
    "text",
    ["", "host", "ftp://host", "http://", "host:port", "host:99999", "grpc://host/path", "http://host?a=b", "http://u:p@host"],
)
def test_refuses_what_is_no_address(text: str) -> None:
    with pytest.raises(InvalidArgument):
        parse_target(text)


@pytest.mark.parametrize("text", ["http://host:81/prefix", "https://[::1]:8501", "grpcs://host:1"])
def test_an_address_is_written_as_it_was_read(text: str) -> None:
    assert str(parse_target(text)) == text


def test_takes_several_targets_of_one_protocol() -> None:
    assert [target.host for target in parse_targets(["a:1", "grpc://b:2"])] == ["a", "b"]
    with pytest.raises(InvalidArgument, match="all REST or all gRPC"):
        parse_targets(["a:1", "http://b:2"])
    with pytest.raises(InvalidArgument, match="No target"):
        parse_targets([])
