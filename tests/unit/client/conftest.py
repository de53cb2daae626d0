from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fakes.local_frontend import LocalFrontend, local_frontend
from tests.fakes.stock_server import StockServer, stock_server


@pytest.fixture(scope="session")
def stock() -> Iterator[StockServer]:
    with stock_server() as server:
        yield server


@pytest.fixture(scope="session")
def aspired() -> Iterator[LocalFrontend]:
    with local_frontend() as frontend:
        yield frontend
