from __future__ import annotations

from dataclasses import replace

import pytest

from servables.fork_server.start_request import StartRequest, refusal

REQUEST = StartRequest(
    code_version="v1",
    arguments=("worker.py", "--x=é"),
    environment={"PATH": "/bin", "RAY_RAYLET_PID": "7", "BYTES": "\udcff"},
    directory="/srv",
    oom_score_adj=1000,
    niceness=15,
)
IMPORTED = {"PATH": "/bin", "BYTES": "\udcff"}


def test_a_request_survives_its_journey() -> None:
    assert StartRequest.decode(REQUEST.encode()) == REQUEST


@pytest.mark.parametrize(
    "data", [b"", b"\xff", b"[]", b"{}", b'{"arguments": []}', replace(REQUEST, arguments=()).encode(), b'{"arguments": 1}']
)
def test_what_is_no_request_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="no start request"):
        StartRequest.decode(data)


def test_a_field_of_another_type_is_refused() -> None:
    with pytest.raises(ValueError, match="field"):
        StartRequest.decode(REQUEST.encode().replace(b"1000", b'"high"'))


def test_the_first_request_brings_rays_variables() -> None:
    assert refusal(REQUEST, "v1", IMPORTED, ray_imported=False) == ""


def test_a_later_request_has_to_have_the_same() -> None:
    assert refusal(REQUEST, "v1", REQUEST.environment, ray_imported=True) == ""
    other_node = replace(REQUEST, environment={**REQUEST.environment, "RAY_RAYLET_PID": "8"})
    assert "RAY_RAYLET_PID" in refusal(other_node, "v1", REQUEST.environment, ray_imported=True)


@pytest.mark.parametrize("environment", [{**IMPORTED, "TF_X": "1"}, {"PATH": "/bin"}, {**IMPORTED, "PATH": "/sbin"}])
def test_variables_that_a_module_may_have_read_have_to_be_the_same(environment: dict[str, str]) -> None:
    assert "other values of" in refusal(replace(REQUEST, environment=environment), "v1", IMPORTED, ray_imported=False)


def test_variables_of_shells_make_no_difference() -> None:
    shells = replace(REQUEST, environment={**REQUEST.environment, "SHLVL": "2", "_": "/bin/python"})
    assert refusal(shells, "v1", IMPORTED, ray_imported=False) == ""


def test_other_code_is_refused() -> None:
    assert "code" in refusal(REQUEST, "v2", IMPORTED, ray_imported=False)
