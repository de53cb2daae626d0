"""What a loader tells its replicas; nothing is deployed here."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import pytest

from cluster.actors.replica_board import ReplicaBoard
from cluster.config.batching_parameters import BatchingParameters
from cluster.config.model_settings import PlatformSettings, ServingSettings, Unbatched, WarmupSettings
from cluster.core.aspired_version import AspiredVersion
from cluster.core.instructions import Load
from cluster.core.resources import ReplicaResources, Slot
from cluster.core.servable_id import ServableId
from servables.deployment.deployment_loader import DeploymentLoader, DeploymentLoaderFactory
from servables.deployment.serve_applications import ServeApplications
from servables.deployment.version_replica import ReplicaSpec
from servables.fork_server.start_command import NAME_VARIABLE
from servables.servable import PlatformOptions
from servables.warmup.warmup import WarmupOptions
from tests.fakes.fake_actors import LocalLink

FLAGS = PlatformOptions(saved_model_tags=("serve", "gpu"), intra_op_parallelism_threads=3)
FLAGS_BATCHING = BatchingParameters(max_batch_size=64)
FLAGS_WARMUP = WarmupOptions(iterations=2, timeouts_s=(30.0,))


def spec(settings: Hashable) -> ReplicaSpec:
    factory = DeploymentLoaderFactory("s", LocalLink(None), FLAGS, FLAGS_BATCHING, FLAGS_WARMUP, per_version_batching=True)
    version = AspiredVersion(ServableId("m", 1), "/models/m/1", settings=settings)
    loader = factory.loader(Load("c1-1", version, (Slot("n"),), ReplicaResources(cpus=0.5)), ReplicaBoard())
    assert isinstance(loader, DeploymentLoader)
    return loader._spec


def test_a_version_without_settings_is_loaded_as_the_flags_say() -> None:
    for settings in (None, ServingSettings()):
        told = spec(settings)
        assert (told.options, told.batching, told.warmup) == (FLAGS, FLAGS_BATCHING, FLAGS_WARMUP)
        assert told.per_version_batching
        assert told.resources.cpus == 0.5


def test_a_versions_own_settings_go_before_the_flags_one_by_one() -> None:
    own = BatchingParameters(max_batch_size=8)
    told = spec(
        ServingSettings(
            batching=own,
            warmup=WarmupSettings(replay_records=False),
            platform=PlatformSettings(inter_op_parallelism_threads=1),
        )
    )
    assert told.batching == own
    assert not told.per_version_batching, "a file beside the version is one of the flags' ways"
    assert told.warmup == WarmupOptions(replay_records=False, iterations=2, timeouts_s=(30.0,))
    assert told.options == PlatformOptions(
        saved_model_tags=("serve", "gpu"), intra_op_parallelism_threads=3, inter_op_parallelism_threads=1
    )


def test_a_model_may_be_left_out_of_batching() -> None:
    assert spec(ServingSettings(batching=Unbatched())).batching is None


class RecordedApplications(ServeApplications):
    """Serve, which deploys nothing and says what it was given."""

    def __init__(self) -> None:
        self.deployments: list[Any] = []

    async def deploy(self, name: str, deployments: Sequence[Any], arguments: Sequence[tuple[Any, ...]]) -> None:
        self.deployments = list(deployments)


@pytest.mark.parametrize(
    ("fork_server", "gpu", "forked"), [("name", None, True), ("name", 0, False), (None, None, False), (None, 0, False)]
)
async def test_replicas_are_forked_when_there_is_a_fork_server_and_they_have_no_gpu(
    fork_server: str | None, gpu: int | None, forked: bool
) -> None:
    applications = RecordedApplications()
    loader = DeploymentLoader(spec(None), ReplicaBoard(), applications, fork_server)
    await loader._deploy((Slot("n", gpu),))
    (deployment,) = applications.deployments
    runtime_env = deployment.ray_actor_options["runtime_env"]
    assert ("py_executable" in runtime_env) == forked
    assert runtime_env["env_vars"].get(NAME_VARIABLE) == (fork_server if forked else None)
