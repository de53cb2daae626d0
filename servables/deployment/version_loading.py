"""Everything between a version's directory and its first request: loading, the runner, warm-up."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from cluster.config.batching_parameters import BatchingParameters
from servables.platforms import platform
from servables.runner import Runner
from servables.servable import PlatformOptions, Servable
from servables.warmup.warmup import WarmupOptions, warm_up


class LoadedVersion(NamedTuple):
    """A version that may become available, and what runs its requests."""

    servable: Servable
    runner: Runner


async def load_version(
    platform_name: str,
    path: str,
    options: PlatformOptions,
    batching: BatchingParameters | None,
    direct_threads: int,
    warmup: WarmupOptions,
) -> LoadedVersion:
    """Loads a version and warms it up. Raises what either of them raises, and then leaves nothing behind.

    `batching` None runs requests one by one, up to `direct_threads` at once.
    """
    servable = await asyncio.to_thread(platform(platform_name).load, path, options)
    runner = _runner(servable, batching, direct_threads)
    try:
        await warm_up(path, servable, runner, warmup, batching.allowed_batch_sizes if batching else ())
    except BaseException:
        await runner.close()
        servable.close()
        raise
    return LoadedVersion(servable, runner)


def _runner(servable: Servable, batching: BatchingParameters | None, direct_threads: int) -> Runner:
    if batching is not None:
        from servables.batching.batcher import Batcher

        return Batcher(servable, batching)
    from servables.direct_runner import DirectRunner

    return DirectRunner(servable, direct_threads)
