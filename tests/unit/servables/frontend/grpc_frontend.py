"""A frontend for what its gRPC port answers beside models' requests; it serves none until a test applies a map."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc

from servables.frontend.frame_channel import FrameChannelFactory
from servables.frontend.frontend import Frontend, FrontendOptions
from tests.fakes.fake_server_control import FakeServerControl
from tests.unit.servables.frontend.gated_channel import GatedChannel

HOST = "127.0.0.1"


@asynccontextmanager
async def grpc_frontend(
    make_channel: FrameChannelFactory = GatedChannel, **options: Any
) -> AsyncIterator[tuple[Frontend, grpc.aio.Channel, str]]:
    """A frontend on a free port, a channel to it, and its address."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = int(probe.getsockname()[1])
    options = {"host": HOST, "grpc_port": port, "rest_api_port": 0, **options}
    frontend = Frontend(FrontendOptions(**options), make_channel, FakeServerControl())
    frontend.bind()
    try:
        await frontend.start()
        async with grpc.aio.insecure_channel(f"{HOST}:{port}") as channel:
            yield frontend, channel, f"{HOST}:{port}"
    finally:
        await frontend.drain(0.0)
        await frontend.close()
        frontend.release()
