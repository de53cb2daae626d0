from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from tensorflow.tsl.profiler.protobuf.xplane_pb2 import XSpace

from cluster.core.errors import AlreadyExists
from servables.profile import ProfileOptions
from servables.saved_model.profiler import record_profile
from servables.servable import Servable

SHORT = ProfileOptions(duration_s=0.3)


class Load:
    """Runs a signature again and again, from its start until its end."""

    def __init__(self, servable: Servable) -> None:
        self._servable = servable
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        inputs = {"x": np.array([1.0, 3.0], np.float32), "s": np.array([b"b", b"c"], np.object_)}
        while not self._over.is_set():
            self._servable.run("pure", inputs, ["halves", "number"], None)


def test_a_trace_has_the_ops_that_ran_meanwhile(module_servable: Servable) -> None:
    with Load(module_servable):
        trace = XSpace.FromString(module_servable.profile(SHORT))
    names = {metadata.name for plane in trace.planes for metadata in plane.event_metadata.values()}
    assert any("LookupTableFindV2" in name for name in names), sorted(names)


def test_one_trace_at_a_time() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def sleep(_: float) -> None:
        begun.set()
        go_on.wait(30)

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(record_profile, SHORT, sleep)
        assert begun.wait(30)
        with pytest.raises(AlreadyExists, match=r"^Another profiler is running\.$"):
            record_profile(SHORT)
        go_on.set()
        assert first.result(60)
    assert record_profile(ProfileOptions(duration_s=0.0))
