"""Warming a version up, through the runner that will run its requests."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

from cluster.core.errors import AspiredError, error_for
from servables.call import Call, Reply
from servables.frontend.inference import SignatureCall
from servables.runner import Runner
from servables.servable import Servable
from servables.warmup.batch_sizes import Kind, kind_of, made_up, resized
from servables.warmup.warmup_records import Outputs, WarmupCall, read_warmup_records, warmup_calls

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmupOptions:
    """How versions are warmed up.

    `replay_records` runs what `assets.extra/tf_serving_warmup_requests` holds, each request `iterations` times. `timeouts_s`
    are timeouts that clients' requests will come with: a platform may prepare itself for each.
    `all_batch_sizes` runs every signature with each batch size that is allowed.
    """

    replay_records: bool = True
    iterations: int = 1
    timeouts_s: tuple[float, ...] = ()
    all_batch_sizes: bool = False


@dataclass(frozen=True, slots=True)
class WarmupReport:
    """What was done. `runs` counts all of them, those of records and those of batch sizes."""

    records: int
    runs: int
    duration_s: float


async def warm_up(
    version_path: str, servable: Servable, runner: Runner, options: WarmupOptions, batch_sizes: Sequence[int] = ()
) -> WarmupReport:
    """Makes every call that the options ask for, one after the other.

    `batch_sizes` are those that are allowed; none stands for one row. Raises AspiredError when the records cannot be read or
    one of them fails: then the version must not become available. Made-up batches may fail, since a signature need not accept
    zeros. A servable that keeps state gets each record as often as it is asked for, and nothing else.
    """
    began = time.monotonic()
    warmup = _Warmup(servable, runner, options)
    records = await warmup.replay(version_path) if options.replay_records else 0
    if options.all_batch_sizes:
        await warmup.run_batches(batch_sizes or (1,))
    report = WarmupReport(records, warmup.runs, time.monotonic() - began)
    if report.runs:
        logger.info("warmed %s up: %d records, %d runs, %.3f s", version_path, records, report.runs, report.duration_s)
    return report


class _Warmup:
    def __init__(self, servable: Servable, runner: Runner, options: WarmupOptions) -> None:
        self._servable = servable
        self._runner = runner
        self._options = options
        self._call_ids = itertools.count(1)
        self._recorded: dict[Kind, WarmupCall] = {}
        self.runs = 0

    async def replay(self, version_path: str) -> int:
        """Runs the recorded requests; returns how many there are."""
        records = read_warmup_records(version_path)
        number = 0
        while (log := await asyncio.to_thread(next, records, None)) is not None:
            number += 1
            try:
                for call in warmup_calls(log, self._servable.signatures):
                    await self._run_record(call)
            except AspiredError as error:
                raise error_for(error.code, f"{error.message} (warm-up record {number} of {version_path})") from error
        return number

    async def run_batches(self, sizes: Sequence[int]) -> None:
        if not self._servable.deterministic:
            logger.info("batch sizes are not warmed up: the model keeps state, which made-up requests would change")
            return
        for warmup_call in self._recorded.values():
            for size in sizes:
                call = resized(warmup_call.call, size)
                if call is not None:
                    await self._run(call)
        recorded = {name for name, _, _ in self._recorded}
        for name in self._servable.signatures.keys() - recorded:
            await self._run_made_up(name, sizes)

    async def _run_record(self, warmup_call: WarmupCall) -> None:
        for _ in range(self._options.iterations):
            warmup_call.check(await self._run(warmup_call.call))
        kind = kind_of(warmup_call.call)
        if kind in self._recorded or not self._servable.deterministic:
            return
        self._recorded[kind] = warmup_call
        for timeout_s in self._options.timeouts_s:
            # The request itself has been answered; a timeout too short for it is the clients' business.
            with contextlib.suppress(AspiredError):
                await self._run(warmup_call.call, timeout_s)

    async def _run_made_up(self, name: str, sizes: Sequence[int]) -> None:
        row = made_up(name, self._servable.signatures[name])
        for call in (resized(row, size) for size in sizes) if row is not None else ():
            try:
                assert call is not None  # a made-up call has a row
                await self._run(call)
            except AspiredError as error:
                logger.info("signature %s cannot be warmed up with made-up rows: %s", name, error)
                return

    async def _run(self, call: SignatureCall, timeout_s: float | None = None) -> Outputs:
        done: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._runner.submit(
            Call(next(self._call_ids), call.signature_name, call.inputs, call.outputs, timeout_s), done.set_result
        )
        self.runs += 1
        reply = await done
        if not reply.status.ok:
            raise reply.status.to_error()
        return reply.outputs
