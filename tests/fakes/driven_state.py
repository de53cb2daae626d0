"""The aspired-versions state machine with a test at its wheel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cluster.core.aspired_version import AspiredVersion
from cluster.core.aspired_versions_state import AspiredVersionsState, Options
from cluster.core.errors import Code, Status
from cluster.core.events import (
    CapacityChanged,
    ClusterObserved,
    Event,
    Loaded,
    LoadFailed,
    ObservedPhase,
    ObservedServable,
    Quiesced,
    StreamOptions,
    StreamsConfigured,
    TimePassed,
    Unloaded,
    VersionsAspired,
)
from cluster.core.instructions import Instruction, Load, PublishStates, Quiesce, Unload
from cluster.core.loader_harness import HarnessState
from cluster.core.resources import Node, Slot
from cluster.core.servable_id import CopyId, ServableId
from cluster.core.servable_state import PublicState

GIBIBYTE = 1 << 30
BROKEN = Status(Code.INTERNAL, "cannot read the graph")
CANCELLED = Status(Code.CANCELLED, "Loading of servable cancelled")
NODE = Node("node-a", 64 * GIBIBYTE, 8.0)


def version(number: int, fingerprint: str = "whole", size_bytes: int = 1000, stream: str = "m") -> AspiredVersion:
    return AspiredVersion(ServableId(stream, number), f"/models/{stream}/{number}", fingerprint, size_bytes)


class DrivenState:
    """Feeds events to a state machine, keeps the time and the last instruction ids, and validates after each event.

    What the methods return are the instructions but for PublishStates, which `published` keeps.
    """

    def __init__(
        self,
        streams: Mapping[str, StreamOptions] | None = None,
        nodes: Sequence[Node] = (NODE,),
        options: Options = Options(max_num_load_retries=2, load_retry_interval_s=60.0),  # noqa: B008
        incarnation: str = "c1",
        checkpoint: Mapping[str, object] | None = None,
        running: Sequence[ObservedServable] = (),
    ) -> None:
        self.state = AspiredVersionsState(options, incarnation)
        self.now = 1000.0
        self.published: list[PublishStates] = []
        self.ids: dict[CopyId, str] = {}
        if checkpoint is not None:
            self.state.restore(checkpoint)
        self.nodes(*nodes)
        self.started = self.observe(*running)
        if streams is None:
            streams = {"m": StreamOptions()}
        self.started += self.configure(**streams)

    def handle(self, event: Event) -> list[Instruction]:
        told = self.state.handle(event, self.now)
        self.state.validate()
        for instruction in told:
            match instruction:
                case Load():
                    self.ids[CopyId(instruction.version.id, instruction.copy)] = instruction.instruction_id
                case Quiesce() | Unload():
                    self.ids[CopyId(instruction.id, instruction.copy)] = instruction.instruction_id
                case _:
                    pass
        self.published += [one for one in told if isinstance(one, PublishStates)]
        assert not any(isinstance(one, PublishStates) for one in told[:-1])
        return [one for one in told if not isinstance(one, PublishStates)]

    # -- events

    def configure(self, **streams: StreamOptions) -> list[Instruction]:
        return self.handle(StreamsConfigured(streams))

    def nodes(self, *nodes: Node) -> list[Instruction]:
        return self.handle(CapacityChanged(nodes))

    def aspire(self, *versions: AspiredVersion | int, stream: str = "m") -> list[Instruction]:
        listed = (version(one, stream=stream) if isinstance(one, int) else one for one in versions)
        return self.handle(VersionsAspired(stream, tuple(listed)))

    def observe(self, *servables: ObservedServable) -> list[Instruction]:
        return self.handle(ClusterObserved(servables))

    def loaded(self, number: int, stream: str = "m", copy: int = 0) -> list[Instruction]:
        servable = ServableId(stream, number)
        return self.handle(Loaded(servable, self.ids[CopyId(servable, copy)], copy))

    def load_failed(self, number: int, status: Status = BROKEN, stream: str = "m", copy: int = 0) -> list[Instruction]:
        servable = ServableId(stream, number)
        return self.handle(LoadFailed(servable, self.ids[CopyId(servable, copy)], status, copy))

    def load_cancelled(self, number: int, stream: str = "m", copy: int = 0) -> list[Instruction]:
        return self.load_failed(number, CANCELLED, stream, copy)

    def quiesced(self, number: int, stream: str = "m", copy: int = 0) -> list[Instruction]:
        servable = ServableId(stream, number)
        return self.handle(Quiesced(servable, self.ids[CopyId(servable, copy)], copy))

    def unloaded(self, number: int, stream: str = "m", copy: int = 0) -> list[Instruction]:
        servable = ServableId(stream, number)
        return self.handle(Unloaded(servable, self.ids[CopyId(servable, copy)], copy))

    def pass_time(self, seconds: float) -> list[Instruction]:
        self.now += seconds
        return self.handle(TimePassed())

    # -- sequences of events

    def serve(self, number: int, stream: str = "m") -> list[Instruction]:
        """Aspires to one version alone and loads it."""
        self.aspire(number, stream=stream)
        return self.loaded(number, stream)

    def fail_for_good(self, number: int, stream: str = "m") -> None:
        """Lets a version that is loading fail until it is in error."""
        while self.harness_state(number, stream) is HarnessState.LOADING:
            self.load_failed(number, stream=stream)
            self.pass_time(60.0)

    # -- what is seen

    def harness_state(self, number: int, stream: str = "m") -> HarnessState | None:
        harness = self.state.harness(ServableId(stream, number))
        return harness.state if harness is not None else None

    def public(self, stream: str = "m") -> dict[int, PublicState]:
        return {state.id.version: state.state for state in self.state.states() if state.id.name == stream}

    def status(self, number: int, stream: str = "m") -> Status:
        return next(state.status for state in self.state.states() if state.id == ServableId(stream, number))

    def slots(self, number: int, stream: str = "m", copy: int = 0) -> tuple[Slot, ...]:
        return self.state.ledger.holds(CopyId(ServableId(stream, number), copy))


def found(
    number: int,
    phase: ObservedPhase = ObservedPhase.READY,
    slots: Sequence[Slot] = (Slot("node-a"),),
    instruction_id: str = "c0-7",
    fingerprint: str = "whole",
    stream: str = "m",
    copy: int = 0,
) -> ObservedServable:
    """A copy of a version that the manager found running."""
    return ObservedServable(version(number, fingerprint, stream=stream), phase, tuple(slots), instruction_id, copy=copy)
