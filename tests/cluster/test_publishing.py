"""Publishing to a server that answers all the while."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cluster.client import FailedPrecondition, VersionState, publish, unpublish, versions
from tests.cluster.aspired_server import AspiredServer, Load, command

pytestmark = pytest.mark.timeout(300)


def test_a_published_version_takes_over_without_a_failed_request(
    server: AspiredServer, exports: Path, models: Path, state: Path
) -> None:
    base_path = models / "half_plus_two"
    url = f"http://127.0.0.1:{server.rest_port}"
    with Load().running(server) as load:
        load.wait_for_answers(1.0)
        published = command("publish", str(exports / "2"), str(base_path), "--wait", url, "--json", state=state)
        assert published.returncode == 0, published.stderr
        assert json.loads(published.stdout)["version"] == 2
        load.wait_for_answers(2.0)
        # The old one has been let go once the new one answers, and may then be deleted.
        server.wait_state("half_plus_two", 1, "END")
        publication = publish(exports / "3", base_path, server=url, keep=2)
        assert publication.removed is not None
        assert (publication.version, publication.removed.versions) == (3, (1,))
        load.wait_for_answers(3.0)
    assert load.failures == []
    assert [version.version for version in versions(base_path)] == [3, 2]


def test_a_version_that_cannot_be_loaded_is_told_in_the_servers_words(
    server: AspiredServer, exports: Path, models: Path, tmp_path: Path
) -> None:
    base_path = models / "half_plus_two"
    url = f"grpc://127.0.0.1:{server.grpc_port}"
    export = (exports / "4").rename(tmp_path / "export")
    (export / "variables" / "variables.index").write_bytes(b"this is no index")
    with Load().running(server, 2, 2) as load:
        with pytest.raises(FailedPrecondition) as caught:
            publish(export, base_path, server=url)
        assert f"Version 4 is published in {base_path}/4, but {url} does not have it" in caught.value.message
        assert "version 4 is END with" in caught.value.message
        assert unpublish(base_path, 4, server=url).versions == (4,)
        load.wait_for_answers(3.0)
    assert load.failures == []
    assert [version.state for version in versions(base_path)] == [VersionState.PUBLISHED] * 2


def test_what_is_served_is_not_deleted(server: AspiredServer, exports: Path, models: Path) -> None:
    base_path, url = models / "half_plus_two", f"http://127.0.0.1:{server.rest_port}"
    served = max(version for version, state in server.states("half_plus_two").items() if state == "AVAILABLE")
    with pytest.raises(FailedPrecondition, match=f"Version {served} is AVAILABLE on the server"):
        unpublish(base_path, served, server=url)
