"""A replica's runner behind its gate, for frames that come by Serve's handles and by lanes alike."""

from __future__ import annotations

from collections.abc import Callable

from servables.call import Call
from servables.deployment.replica_gate import ReplicaGate
from servables.run_metrics import FrameMetrics
from servables.runner import OnReply, Runner, Submission


class GatedRunner:
    """See `servables.lane.lane_server.LaneWork`. `on_quiesced` is called when the closed gate has nothing inside any more."""

    def __init__(self, runner: Runner, gate: ReplicaGate, metrics: FrameMetrics, on_quiesced: Callable[[], None]) -> None:
        self._runner = runner
        self._gate = gate
        self._metrics = metrics
        self._on_quiesced = on_quiesced

    def enter(self, calls: int, size_bytes: int, channel: str = "lane") -> None:
        self._metrics.request(size_bytes, calls, channel)
        self._gate.enter(calls)

    def submit(self, call: Call, on_reply: OnReply) -> Submission:
        return self._runner.submit(call, on_reply)

    def replied(self, size_bytes: int) -> None:
        self._metrics.reply(size_bytes)

    def leave(self, calls: int) -> None:
        self._gate.leave(calls)
        if self._gate.quiesced:
            self._on_quiesced()
