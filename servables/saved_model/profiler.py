"""TensorFlow's profiler, which records everything that this process does."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import tensorflow as tf

from cluster.core.errors import AlreadyExists, Internal
from servables.profile import ProfileOptions
from servables.saved_model.tensorflow_error import to_aspired_error

_recording = threading.Lock()


def record_profile(options: ProfileOptions, sleep: Callable[[float], None] = time.sleep) -> bytes:
    """Blocks for the options' delay and duration, and returns the trace: a serialized XSpace.

    TensorFlow 2.21 records at its default levels whatever the options say: it cannot read them from Python.
    Raises AlreadyExists while another trace is being recorded, and what TensorFlow's profiler raises.
    """
    if not _recording.acquire(blocking=False):
        raise AlreadyExists("Another profiler is running.")
    try:
        with tempfile.TemporaryDirectory(prefix="aspired-profile-") as directory:
            return _record(options, Path(directory), sleep)
    except Exception as error:
        raise to_aspired_error(error) from error
    finally:
        _recording.release()


def _record(options: ProfileOptions, directory: Path, sleep: Callable[[float], None]) -> bytes:
    sleep(options.delay_s)
    tf.profiler.experimental.start(
        str(directory),
        tf.profiler.experimental.ProfilerOptions(
            host_tracer_level=options.host_tracer_level,
            device_tracer_level=options.device_tracer_level,
            python_tracer_level=options.python_tracer_level,
            delay_ms=0,
        ),
    )
    try:
        sleep(options.duration_s)
    finally:
        tf.profiler.experimental.stop()
    traces = list(directory.glob("plugins/profile/*/*.xplane.pb"))
    if not traces:
        raise Internal("TensorFlow's profiler has written no trace.")
    return traces[0].read_bytes()
