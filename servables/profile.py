"""What a replica is asked to record of itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileOptions:
    """How long a trace is, and how much is in it: TensorFlow's `ProfilerOptions`.

    Levels of 0 record nothing; the higher, the more. `delay_s` passes before the trace begins, so that several begin at once.
    """

    duration_s: float
    delay_s: float = 0.0
    host_tracer_level: int = 2
    device_tracer_level: int = 1
    python_tracer_level: int = 0
