"""Rows are chosen by name, and the catalog has each name once."""

from __future__ import annotations

from collections import Counter

import pytest

from cluster.core.errors import FailedPrecondition, InvalidArgument
from scripts.benchmarks.catalog import scenarios
from scripts.benchmarks.peers import shared_python
from scripts.benchmarks.process_tree import process_kind
from scripts.benchmarks.scenario import select


def test_all_rows_run_by_default_and_names_are_unique() -> None:
    chosen = select(scenarios(), [])
    assert [scenario.name for scenario in chosen] == [scenario.name for scenario in scenarios()]
    assert max(Counter(scenario.name for scenario in chosen).values()) == 1


def test_patterns_choose_rows_in_the_order_of_the_catalog() -> None:
    names = [scenario.name for scenario in select(scenarios(), ["overload", "rest-mlp-*"])]
    assert names == ["rest-mlp-1", "rest-mlp-32", "rest-mlp-128", "rest-mlp-32-batching", "overload"]


def test_a_name_of_nothing_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="no row is named rest-mpl-1: see scripts/bench --list"):
        select(scenarios(), ["overload", "rest-mpl-1"])


def test_a_machine_without_a_fitting_python_is_told_what_to_install() -> None:
    with pytest.raises(FailedPrecondition, match="apt-get install python3-venv"):
        shared_python(iter(["false"]))


def test_the_first_fitting_python_is_taken() -> None:
    assert shared_python(iter(["false", "true"])) == "true"


@pytest.mark.parametrize(
    ("command_line", "kind"),
    [
        ("ray::ServeReplica:default.half_plus_two.1:node-7935b78c", "version replica"),
        ("ray::ServeReplica:default.frontend.7935b78c:frontend", "frontend"),
        ("ray::ManagerActor.report_metrics", "ManagerActor"),
        ("/x/.venv/bin/python -m cluster.host", "cluster.host"),
        ("/x/site-packages/ray/core/src/ray/raylet/raylet --raylet_socket_name=y", "raylet"),
        ("/x/bin/python -u /x/ray/dashboard/dashboard.py --host=127.0.0.1", "dashboard"),
        ("/usr/bin/sleep 1", "sleep"),
    ],
)
def test_processes_go_by_what_they_are_for(command_line: str, kind: str) -> None:
    assert process_kind(command_line) == kind
