"""TensorFlow's profiler service on the serving port, for TensorBoard's capture dialog and `tf.profiler.experimental.client`.

One replica of every version that is served records itself at the same time. The traces go back in the answer, one file for
each version, and the client writes them into its own log directory; TensorBoard shows each as a host. TF Serving writes to
the path in the request instead, where a server on other machines should not write, and whose files nobody would find.
"""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Mapping

from cluster.core.errors import InvalidArgument, Unimplemented
from cluster.core.servable_id import ServableId
from cluster.protos import MonitorRequest, ProfileRequest, ProfileResponse, TerminateRequest
from servables.frontend.grpc_method import GrpcService, parsed, unary_unary
from servables.profile import ProfileOptions

PROFILER_SERVICE = "tensorflow.ProfilerService"
MAX_PROFILE_S = 300.0
"""A trace grows in the memory of its replica for as long as it is recorded."""

RecordProfiles = Callable[[ProfileOptions], Awaitable[Mapping[ServableId, bytes]]]


class ProfilerService:
    """Profile, and what else TensorFlow's own service on CPUs and GPUs answers: that it does not do it."""

    def __init__(self, record: RecordProfiles) -> None:
        """`record` is `ServableRouter.profile`."""
        self._record = record

    def service(self) -> GrpcService:
        methods = {"Profile": self.profile, "Monitor": self.monitor, "Terminate": self.terminate}
        return GrpcService(
            PROFILER_SERVICE,
            {name: unary_unary(f"{PROFILER_SERVICE}/{name}", method) for name, method in methods.items()},
        )

    async def profile(self, request_bytes: bytes, timeout_s: float | None) -> bytes:
        request = parsed(ProfileRequest, request_bytes)
        traces = await self._record(_options(request))
        response = ProfileResponse()
        if request.emit_xspace:
            # One message after the other is both in one: their planes, side by side.
            response.xspace.MergeFromString(b"".join(traces.values()))
        else:
            for servable, trace in traces.items():
                response.tool_data.add(name=_file_name(servable), data=trace)
        return response.SerializeToString()

    async def monitor(self, request_bytes: bytes, timeout_s: float | None) -> bytes:
        parsed(MonitorRequest, request_bytes)
        raise Unimplemented("Not Implemented.")

    async def terminate(self, request_bytes: bytes, timeout_s: float | None) -> bytes:
        parsed(TerminateRequest, request_bytes)
        raise Unimplemented("A profile ends when its duration_ms have passed.")


def _options(request: ProfileRequest) -> ProfileOptions:
    opts = request.opts
    duration_ms = opts.duration_ms or request.duration_ms
    if not duration_ms:
        raise InvalidArgument("duration_ms must be greater than zero.")
    delay_s = max(0.0, (opts.start_timestamp_ns - time.time_ns()) / 1e9) if opts.start_timestamp_ns else 0.0
    if duration_ms / 1e3 + delay_s > MAX_PROFILE_S:
        raise InvalidArgument(
            f"duration_ms of {duration_ms}, to begin in {delay_s:.0f} s: a profile must end within {MAX_PROFILE_S:.0f} s"
        )
    if not opts.version:  # levels of 0 are meant only by who knows of them
        return ProfileOptions(duration_s=duration_ms / 1e3, delay_s=delay_s)
    return ProfileOptions(
        duration_s=duration_ms / 1e3,
        delay_s=delay_s,
        host_tracer_level=opts.host_tracer_level,
        device_tracer_level=opts.device_tracer_level,
        python_tracer_level=opts.python_tracer_level,
    )


def _file_name(servable: ServableId) -> str:
    """What the client adds to its name of the server; a model's name may have what no file name may."""
    return f"{re.sub(r'[^A-Za-z0-9_.-]', '_', servable.name)}.{servable.version}.xplane.pb"
