"""The frontend runs on uvloop in a replica, and on asyncio's own loop elsewhere: its tests run on both."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(params=["native", "grpcio"])
def listener(request: pytest.FixtureRequest) -> str:
    """What serves gRPC; both do it alike."""
    return str(request.param)
