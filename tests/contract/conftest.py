from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.contract_models import ContractServer, contract_server


@pytest.fixture(scope="session")
def server() -> Iterator[ContractServer]:
    with contract_server() as server:
        yield server
