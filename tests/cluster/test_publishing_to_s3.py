"""With only a bucket and a server's flags: what is published there answers, and no request fails meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.client import VersionState, publish, pull, versions
from tests.cluster.aspired_server import AspiredServer, Load
from tests.fakes.s3_server import S3Server

pytestmark = pytest.mark.timeout(300)

BASE_PATH = "s3://models/half_plus_two"


@pytest.fixture(scope="module")
def server(exports: Path, state: Path) -> Iterator[AspiredServer]:
    """One that reads version 1 from a bucket, by variables that the tests have too."""
    with S3Server() as s3, pytest.MonkeyPatch.context() as patch:
        for name, value in s3.environment.items():
            patch.setenv(name, value)
        s3.client().create_bucket(Bucket="models")
        publish(exports / "1", BASE_PATH)
        server = AspiredServer(state, "--model_name=half_plus_two", f"--model_base_path={BASE_PATH}")
        try:
            server.wait_ready()
            yield server
        finally:
            server.stop()


def test_a_version_published_to_a_bucket_takes_over_without_a_failed_request(
    server: AspiredServer, exports: Path, tmp_path: Path
) -> None:
    url = f"http://127.0.0.1:{server.rest_port}"
    with Load().running(server) as load:
        load.wait_for_answers(1.0)
        assert publish(exports / "2", BASE_PATH, server=url).version == 2
        load.wait_for_answers(2.0)
        server.wait_state("half_plus_two", 1, "END")
        publication = publish(exports / "3", BASE_PATH, server=url, keep=2)
        assert publication.removed is not None
        assert (publication.version, publication.removed.versions) == (3, (1,))
        load.wait_for_answers(3.0)
    assert load.failures == []
    assert [(version.version, version.state) for version in versions(BASE_PATH)] == [
        (3, VersionState.PUBLISHED),
        (2, VersionState.PUBLISHED),
    ]
    assert pull(BASE_PATH, tmp_path / "pulled").verified
