"""The client against TF Serving's own generated gRPC code, an independent REST server, and our frontend."""

from __future__ import annotations

import pytest

from tests.unit.client.client_conformance import ClientConformance


class TestClientConformance(ClientConformance):
    @pytest.fixture(params=["stock-grpc", "stock-rest", "aspired-grpc", "aspired-rest"])
    def address(self, request: pytest.FixtureRequest) -> str:
        server, protocol = request.param.split("-")
        ports = request.getfixturevalue(server)
        return f"grpc://127.0.0.1:{ports.grpc_port}" if protocol == "grpc" else f"http://127.0.0.1:{ports.rest_port}"
