"""A frontend that serves no model: for what its gRPC port answers beside them."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc

from servables.frontend.frontend import Frontend, FrontendOptions
from tests.fakes.fake_server_control import FakeServerControl
from tests.unit.servables.frontend.gated_channel import GatedChannel

HOST = "127.0.0.1"


@asynccontextmanager
async def grpc_frontend(**options: Any) -> AsyncIterator[tuple[Frontend, grpc.aio.Channel]]:
    """A frontend on a free port, and a channel to it."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = int(probe.getsockname()[1])
    frontend = Frontend(
        FrontendOptions(host=HOST, grpc_port=port, rest_api_port=0, **options), GatedChannel, FakeServerControl()
    )
    frontend.bind()
    await frontend.start()
    async with grpc.aio.insecure_channel(f"{HOST}:{port}") as channel:
        yield frontend, channel
    await frontend.drain(0.0)
    await frontend.close()
