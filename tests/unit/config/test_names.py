from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.config.names import (
    application_name,
    controller_name,
    frontend_name,
    manager_name,
    parse_application_name,
    source_name,
)
from cluster.core.servable_id import CopyId, ServableId

servers = st.from_regex(r"[a-z0-9-]{1,40}", fullmatch=True)
models = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
versions = st.integers(0, 2**63 - 1)
copies = st.integers(0, 10**18)


def test_a_plain_model_keeps_its_name() -> None:
    assert application_name("default", CopyId(ServableId("half_plus-two", 3))) == "default.half_plus-two.3"


def test_a_further_copy_of_a_version_has_a_name_of_its_own() -> None:
    assert application_name("default", CopyId(ServableId("m", 3), 2)) == "default.m.3.2"


def test_other_characters_are_escaped() -> None:
    assert application_name("s", CopyId(ServableId("a.b/c~é", 1))) == "s.a~2Eb~2Fc~7E~C3~A9.1"


@given(servers, models, versions, copies)
def test_a_name_is_parsed_back_exactly(server: str, model: str, version: int, copy: int) -> None:
    copy_id = CopyId(ServableId(model, version), copy)
    name = application_name(server, copy_id)
    assert re.fullmatch(r"[A-Za-z0-9_~.-]+", name)
    assert parse_application_name(name) == (server, copy_id)


@given(st.text("abz019.~-_2EFG", max_size=20))
def test_what_is_parsed_is_what_would_be_written(name: str) -> None:
    parsed = parse_application_name(name)
    if parsed is not None:
        assert application_name(*parsed) == name


@pytest.mark.parametrize(
    "name",
    [
        "default",
        "someones-app",
        "s.m",
        "s.m.x",
        "s.m.01",
        "s.m.1.0",
        "s.m.1.02",
        "s.m.1.x",
        "s.m.1.1.1",
        "s.m.9223372036854775808000",
        "S.m.1",
        "s.a~61.1",
        "s.a~ff.1",
        "s.~FF.1",
        "s.m.1\n",
        controller_name("s"),
        manager_name("s"),
        source_name("s"),
        frontend_name("s", "7" * 56),
    ],
)
def test_other_names_are_no_versions(name: str) -> None:
    assert parse_application_name(name) is None
