"""docs/openapi.yaml has every route that the REST port has, and no other; what it gives as examples is right by it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from re import _constants as regex
from re import _parser as regex_parser
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from cluster.core.serving_map import ServingMap
from servables.frontend import rest
from servables.frontend.operator_routes import OperatorRoutes
from servables.frontend.rest import RouteHandler
from tests.fakes.fake_server_control import FakeServerControl

DOCUMENT: dict[str, Any] = yaml.safe_load((Path(__file__).parents[4] / "docs" / "openapi.yaml").read_text())
DOCUMENTED = {(method.upper(), path) for path, item in DOCUMENT["paths"].items() for method in item if method != "parameters"}
METRICS_PATH = "/monitoring/prometheus/metrics"
PARAMETERS = {"name": "model", "version": "version", "label": "label"}
QUERY = r"(\?.*)?"


class Routes:
    """Collects what `OperatorRoutes` adds."""

    def __init__(self) -> None:
        self.added: set[tuple[str, str]] = set()

    def add_route(self, method: str, pattern: str, handler: RouteHandler) -> None:
        self.added |= {(method, path) for path in paths_of(pattern)}


def paths_of(pattern: str) -> set[str]:
    """The paths that a route's expression matches, as templates."""
    template = re.sub(r"\(\?P<(name|version|label)>[^)]*\)", lambda group: f"{{{PARAMETERS[group[1]]}}}", pattern)
    return set(texts_of(regex_parser.parse(template.removesuffix(QUERY))))


def texts_of(parsed: Any) -> Iterator[str]:
    """Every text that a parsed expression of literals, groups, alternatives and options matches."""
    if not parsed:
        yield ""
        return
    (kind, value), rest_of_it = parsed[0], parsed[1:]
    if kind is regex.LITERAL:
        firsts = [chr(value)]
    elif kind is regex.SUBPATTERN:
        firsts = list(texts_of(value[-1]))
    elif kind is regex.BRANCH:
        firsts = [text for branch in value[1] for text in texts_of(branch)]
    else:
        assert kind is regex.MAX_REPEAT, kind
        assert value[:2] == (0, 1), value
        firsts = ["", *texts_of(value[2])]
    for text in texts_of(rest_of_it):
        yield from (first + text for first in firsts)


def operator_routes() -> set[tuple[str, str]]:
    routes = Routes()
    OperatorRoutes(ServingMap, FakeServerControl(), METRICS_PATH).add_to(routes)  # type: ignore[arg-type]
    return routes.added


def test_every_route_is_documented_and_every_documented_one_exists() -> None:
    posts = {("POST", path) for path in paths_of(rest._POST.pattern)}
    # Those without a name are answered "Missing model name in request".
    gets = {("GET", path) for path in paths_of(rest._GET.pattern) if path.startswith("/v1/models/{model}")}
    assert posts | gets | operator_routes() == DOCUMENTED


def test_operations_are_told_apart_by_their_ids() -> None:
    ids = [DOCUMENT["paths"][path][method.lower()]["operationId"] for method, path in DOCUMENTED]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("name", DOCUMENT["components"]["schemas"])
def test_schemas_are_such(name: str) -> None:
    Draft202012Validator.check_schema(DOCUMENT["components"]["schemas"][name])


def examples() -> Iterator[tuple[dict[str, Any], Any]]:
    """The schema of each example, and the example."""
    components = DOCUMENT["components"]
    for schema in components["schemas"].values():
        yield from ((schema, example) for example in schema.get("examples", ()))
    for body in (*components["requestBodies"].values(), *components["responses"].values()):
        for media in body["content"].values():
            yield from ((media["schema"], example["value"]) for example in media.get("examples", {}).values())


@pytest.mark.parametrize(("schema", "example"), list(examples()))
def test_examples_are_right(schema: dict[str, Any], example: Any) -> None:
    Draft202012Validator({**DOCUMENT, **schema}).validate(example)
