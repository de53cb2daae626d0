"""What the controller decides: which version is loaded, unloaded, retried or refused, and when.

Pure: events in, instructions out, the time passed in (TF Serving: `core/aspired_versions_manager.cc` and `core/basic_manager.cc`,
where threads do what here is data). docs/lifecycle.md tells the same as a story.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cluster.core.aspired_version import AspiredVersion
from cluster.core.aspired_version_policy import Action, AspiredVersionPolicy, VersionSnapshot
from cluster.core.availability_preserving_policy import AvailabilityPreservingPolicy
from cluster.core.errors import Cancelled, Code, ResourceExhausted, Status
from cluster.core.events import (
    CapacityChanged,
    ClusterObserved,
    Event,
    Loaded,
    LoadFailed,
    ObservedPhase,
    ObservedServable,
    Quiesced,
    StopRequested,
    StreamOptions,
    StreamsConfigured,
    TimePassed,
    Unloaded,
    VersionsAspired,
)
from cluster.core.instructions import CancelLoad, Instruction, Load, Place, PublishStates, Quiesce, Unload
from cluster.core.loader_harness import HarnessState, LoaderHarness
from cluster.core.resource_ledger import ResourceLedger
from cluster.core.resource_preserving_policy import ResourcePreservingPolicy
from cluster.core.resources import ReplicaResources
from cluster.core.retrier import Retrier
from cluster.core.servable_id import ServableId
from cluster.core.servable_state import PublicState, ServableState

PROCESS_OVERHEAD_BYTES = 256 << 20
"""What a replica's process takes beside its model: the framework's own private memory, in main and in GPU memory."""
ENDED_VERSIONS_KEPT = 100
"""How many versions of one stream are remembered after their end."""

_S = HarnessState
_BUSY = frozenset({_S.LOAD_APPROVED, _S.LOADING, _S.UNLOAD_REQUESTED, _S.QUIESCING, _S.QUIESCED, _S.UNLOADING})
_LEAVING = frozenset({_S.UNLOAD_REQUESTED, _S.QUIESCING, _S.QUIESCED, _S.UNLOADING})
_LOAD_CANCELLED = Cancelled("Loading of servable cancelled").to_status()


@dataclass(frozen=True, slots=True)
class Options:
    """The server's flags as far as they bear on decisions. `max_concurrent_loads` counts versions, cluster-wide."""

    max_num_load_retries: int = 5
    load_retry_interval_s: float = 60.0
    max_concurrent_loads: int = 8


@dataclass(slots=True)
class _Stream:
    """One servable stream. `aspired` None: no source has spoken for it yet, so nothing of it changes."""

    name: str
    options: StreamOptions = field(default_factory=StreamOptions)
    configured: bool = False
    aspired: tuple[AspiredVersion, ...] | None = None
    pending: tuple[AspiredVersion, ...] | None = None
    settled: bool = False
    harnesses: dict[int, LoaderHarness] = field(default_factory=dict)
    ended: dict[int, ServableState] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Failure:
    """A terminal error from before a restart, and the files that it came from."""

    status: Status
    fingerprint: str
    attempts: int


class AspiredVersionsState:
    """The state machine of one server; owned by `ControllerActor`, fed one event at a time.

    Call order: `restore` (at most once, before anything else), then `handle` for every event. Events may be repeated and may be late: what no
    longer matches (by instruction id) is ignored. `now` is any clock that does not go back.
    """

    def __init__(self, options: Options, incarnation: str) -> None:
        self._options = options
        self._incarnation = incarnation
        self._retrier = Retrier(options.max_num_load_retries, options.load_retry_interval_s)
        self._ledger = ResourceLedger()
        self._streams: dict[str, _Stream] = {}
        self._instructions = 0
        self._stopping = False
        self._room = 0
        self._looked_for_room: dict[ServableId, int] = {}
        self._in_state: dict[HarnessState, dict[ServableId, LoaderHarness]] = {state: {} for state in HarnessState}
        self._failures: dict[ServableId, _Failure] = {}
        self._public: dict[ServableId, ServableState] = {}
        self._dirty: dict[str, None] = {}
        self._states_changed = False
        self._out: list[Instruction] = []

    # -- what is asked

    def states(self) -> tuple[ServableState, ...]:
        """The public state of every version, those that have ended too, in order."""
        return tuple(self._public[servable] for servable in sorted(self._public))

    def first_versions_settled(self) -> bool:
        """Whether the first versions of every configured stream are available or have failed for good.

        A stream without versions waits for them and holds nobody back.
        """
        return all(stream.settled or not stream.aspired for stream in self._streams.values() if stream.configured)

    def waiting_streams(self) -> tuple[str, ...]:
        """The configured streams that have no version to serve yet."""
        return tuple(name for name, stream in self._streams.items() if stream.configured and not stream.aspired)

    def stopped(self) -> bool:
        """Nothing is loaded, and after StopRequested nothing will be."""
        return self._stopping and not any(stream.harnesses for stream in self._streams.values())

    def harness(self, servable: ServableId) -> LoaderHarness | None:
        """The version's harness, for looking; None once it has ended or was never aspired."""
        stream = self._streams.get(servable.name)
        return stream.harnesses.get(servable.version) if stream is not None else None

    @property
    def ledger(self) -> ResourceLedger:
        """The reservations, for looking."""
        return self._ledger

    def next_wakeup(self, now: float) -> float | None:
        """When TimePassed will next do something; None when only events can."""
        due = [harness.due for harness in self._in_state[_S.LOAD_REQUESTED].values() if harness.due > now]
        return min(due, default=None)

    # -- what is kept across restarts

    def checkpoint(self) -> dict[str, Any]:
        """What cannot be observed again: how versions have ended. JSON-able."""
        ended = [
            [state.id.name, state.id.version, int(state.status.code), state.status.message, *self._origin(state.id)]
            for state in self.states()
            if state.state is PublicState.END
        ]
        return {"ended": ended}

    def restore(self, checkpoint: Mapping[str, Any]) -> None:
        """Takes a checkpoint of an earlier incarnation. A version that had failed for good stays so until its files change."""
        for name, number, code, message, fingerprint, attempts in checkpoint["ended"]:
            servable = ServableId(name, number)
            status = Status(Code(code), message)
            if not status.ok:
                self._failures[servable] = _Failure(status, fingerprint, attempts)
            self._end(self._stream(name), ServableState(servable, PublicState.END, status))

    def _origin(self, servable: ServableId) -> tuple[str, int]:
        harness = self.harness(servable)
        if harness is not None:
            return harness.version.fingerprint, harness.attempts
        failure = self._failures.get(servable)
        return (failure.fingerprint, failure.attempts) if failure is not None else ("", 0)

    # -- events

    def handle(self, event: Event, now: float) -> list[Instruction]:
        """Takes in one event; what is to be done about it, unloads before loads."""
        self._out = []
        match event:
            case StreamsConfigured():
                self._configure(event.streams, now)
            case VersionsAspired():
                self._aspire(event, now)
            case CapacityChanged():
                self._ledger.set_nodes(event.nodes)
                self._room += 1
                self._move_off_lost_nodes()
                self._place_anew()
            case Loaded():
                self._loaded(event)
            case LoadFailed():
                self._load_failed(event, now)
            case Quiesced():
                self._quiesced(event)
            case Unloaded():
                self._unloaded(event)
            case ClusterObserved():
                self._observe(event.servables, now)
            case StopRequested():
                self._stop(now)
            case TimePassed():
                pass
        self._decide(now)
        self._publish()
        return self._out

    def _configure(self, streams: Mapping[str, StreamOptions], now: float) -> None:
        if self._stopping:
            return
        for name, options in streams.items():
            stream = self._stream(name)
            stream.options, stream.configured = options, True
            self._touch(stream)
        for stream in self._streams.values():
            if stream.configured and stream.name not in streams:
                stream.configured, stream.settled = False, False
            if not stream.configured:
                self._set_aspired(stream, (), now)
                stream.aspired = None

    def _aspire(self, event: VersionsAspired, now: float) -> None:
        stream = self._streams.get(event.stream)
        if self._stopping or stream is None or not stream.configured:
            return
        # A version on its way out that is wanted again must have ended before it can begin anew.
        wanted = {version.id.version for version in event.versions}
        if any(harness.id.version in wanted and _is_going(harness) for harness in stream.harnesses.values()):
            stream.pending = event.versions
        else:
            stream.pending = None
            self._set_aspired(stream, event.versions, now)

    def _stop(self, now: float) -> None:
        self._stopping = True
        for stream in self._streams.values():
            stream.pending = None
            self._set_aspired(stream, (), now)

    def _loaded(self, event: Loaded) -> None:
        harness = self.harness(event.id)
        if harness is None or harness.state is not _S.LOADING or harness.instruction_id != event.instruction_id:
            return
        harness.status = Status()
        harness.cancelling = harness.starting_over = False
        self._move(harness, _S.READY)
        self._failures.pop(harness.id, None)
        # Room may have come or gone while it loaded.
        self._place_anew((harness,))

    def _load_failed(self, event: LoadFailed, now: float) -> None:
        harness = self.harness(event.id)
        if harness is None or harness.state is not _S.LOADING or harness.instruction_id != event.instruction_id:
            return
        self._release(harness)
        over, harness.starting_over, harness.cancelling = harness.starting_over, False, False
        if not harness.aspired:
            harness.status = _LOAD_CANCELLED
            self._move(harness, _S.DISABLED)
        elif over:
            self._begin_again(harness, now)
        else:
            harness.status = event.status
            due = self._retrier.next_attempt(harness.attempts, now)
            if due is None:
                self._move(harness, _S.ERROR)
            else:
                harness.due = due
                self._move(harness, _S.LOAD_REQUESTED)

    def _quiesced(self, event: Quiesced) -> None:
        harness = self.harness(event.id)
        if harness is None or harness.state is not _S.QUIESCING or harness.instruction_id != event.instruction_id:
            return
        self._move(harness, _S.QUIESCED)
        harness.instruction_id = self._instruction_id()
        self._move(harness, _S.UNLOADING)
        self._out.append(Unload(harness.instruction_id, harness.id))

    def _unloaded(self, event: Unloaded) -> None:
        harness = self.harness(event.id)
        if harness is not None and harness.state is _S.UNLOADING and harness.instruction_id == event.instruction_id:
            self._release(harness)
            self._move(harness, _S.DISABLED)

    # -- aspired lists

    def _set_aspired(self, stream: _Stream, versions: Sequence[AspiredVersion], now: float) -> None:
        stream.aspired = tuple(versions)
        wanted = {version.id.version: version for version in versions}
        for number, harness in list(stream.harnesses.items()):
            if number not in wanted:
                self._unaspire(harness)
        for number, version in wanted.items():
            known = stream.harnesses.get(number)
            if known is None:
                self._add(stream, version)
            else:
                known.aspired = True
                self._files_changed(known, version, now)
        self._touch(stream)

    def _add(self, stream: _Stream, version: AspiredVersion) -> LoaderHarness:
        stream.ended.pop(version.id.version, None)
        harness = stream.harnesses[version.id.version] = LoaderHarness(version)
        self._in_state[_S.NEW][harness.id] = harness
        failure = self._failures.get(version.id)
        if not version.status.ok:
            harness.status = version.status
            self._move(harness, _S.ERROR)
        elif failure is not None and failure.fingerprint == version.fingerprint and version.fingerprint:
            harness.status, harness.attempts = failure.status, failure.attempts
            harness.refused = failure.status.code is Code.RESOURCE_EXHAUSTED
            self._move(harness, _S.ERROR)
        return harness

    def _unaspire(self, harness: LoaderHarness) -> None:
        harness.aspired = False
        match harness.state:
            case _S.LOADING:
                harness.starting_over = False
                self._cancel(harness)
            case _S.NEW:
                self._move(harness, _S.DISABLED)
            case _S.LOAD_REQUESTED:
                if harness.attempts:
                    harness.status = _LOAD_CANCELLED
                self._move(harness, _S.DISABLED)
            case _S.ERROR:
                self._move(harness, _S.DISABLED)
            case _:
                pass  # the policy says when a version that is ready may go

    def _files_changed(self, harness: LoaderHarness, version: AspiredVersion, now: float) -> None:
        """A version that has not come up is begun anew with its new files, at once; one that serves goes on serving."""
        if version == harness.version or harness.state in _LEAVING or harness.state is _S.READY:
            return
        harness.version = version
        match harness.state:
            case _S.LOADING:
                harness.starting_over = True
                self._cancel(harness)
            case _S.LOAD_REQUESTED:
                harness.status, harness.attempts, harness.due = Status(), 0, now
            case _S.ERROR:
                self._heal(harness)
            case _:
                pass
        if not version.status.ok and harness.state is _S.NEW:
            harness.status = version.status
            self._move(harness, _S.ERROR)

    def _heal(self, harness: LoaderHarness) -> None:
        harness.status, harness.attempts, harness.refused = Status(), 0, False
        self._failures.pop(harness.id, None)
        self._move(harness, _S.NEW)

    def _cancel(self, harness: LoaderHarness) -> None:
        if not harness.cancelling:
            harness.cancelling = True
            self._out.append(CancelLoad(harness.id))

    def _begin_again(self, harness: LoaderHarness, now: float) -> None:
        harness.status, harness.attempts, harness.due = Status(), 0, now
        self._move(harness, _S.LOAD_REQUESTED)

    # -- deciding

    def _decide(self, now: float) -> None:
        """Lets the policies speak for every stream that has changed, then begins the loads for which there is room."""
        while True:
            while self._dirty:
                self._decide_stream(self._streams[self._pop_dirty()], now)
            self._heal_refused()
            self._begin_loads(now)
            if not self._dirty:
                return

    def _decide_stream(self, stream: _Stream, now: float) -> None:
        self._forget_ended(stream)
        if stream.pending is not None:
            wanted = {version.id.version for version in stream.pending}
            if not any(harness.id.version in wanted and _is_going(harness) for harness in stream.harnesses.values()):
                pending, stream.pending = stream.pending, None
                self._set_aspired(stream, pending, now)
                self._forget_ended(stream)
        if stream.aspired is not None or self._stopping:
            self._follow_policy(stream, now)
        self._note_settled(stream)
        self._refresh_public(stream)

    def _follow_policy(self, stream: _Stream, now: float) -> None:
        policy = _RESOURCE_PRESERVING if stream.options.resource_preserving else _AVAILABILITY_PRESERVING
        while True:
            snapshots = [VersionSnapshot(harness.id, harness.state, harness.aspired) for harness in stream.harnesses.values()]
            action = policy.next_action(snapshots)
            if action is None:
                return
            harness = stream.harnesses[action.id.version]
            if action.action is Action.LOAD:
                harness.due = now
                self._move(harness, _S.LOAD_REQUESTED)
            else:
                self._move(harness, _S.UNLOAD_REQUESTED)
                self._begin_quiesce(harness)

    def _begin_quiesce(self, harness: LoaderHarness) -> None:
        harness.instruction_id = self._instruction_id()
        self._move(harness, _S.QUIESCING)
        self._out.append(Quiesce(harness.instruction_id, harness.id))

    def _begin_loads(self, now: float) -> None:
        for harness in sorted(self._in_state[_S.LOAD_REQUESTED].values(), key=lambda harness: (harness.due, harness.id)):
            if harness.due > now or self._loads_under_way() >= self._options.max_concurrent_loads:
                return
            if self._looked_for_room.get(harness.id) != self._room:
                self._begin_load(harness)

    def _begin_load(self, harness: LoaderHarness) -> None:
        stream = self._streams[harness.id.name]
        resources = self._resources(stream.options, harness.version)
        try:
            slots = self._ledger.plan(harness.id, resources, stream.options.replicas, stream.options.node_labels)
        except ResourceExhausted as error:
            self._refuse(harness, error)
            return
        self._looked_for_room.pop(harness.id, None)
        self._ledger.reserve(harness.id, resources, slots)
        harness.slots, harness.resources = slots, resources
        self._move(harness, _S.LOAD_APPROVED)
        harness.attempts += 1
        harness.instruction_id = self._instruction_id()
        self._move(harness, _S.LOADING)
        self._out.append(Load(harness.instruction_id, harness.version, slots, resources))

    def _refuse(self, harness: LoaderHarness, error: ResourceExhausted) -> None:
        """Waits while something is coming up or going that may make room; else that is the version's error."""
        self._looked_for_room[harness.id] = self._room
        if not any(self._in_state[state] for state in _BUSY):
            harness.status, harness.refused = error.to_status(), True
            self._move(harness, _S.ERROR)

    def _heal_refused(self) -> None:
        """Lets versions that had no room try again, those for which there is room now."""
        for harness in [harness for harness in self._in_state[_S.ERROR].values() if harness.refused]:
            if self._looked_for_room.get(harness.id) == self._room:
                continue
            self._looked_for_room[harness.id] = self._room
            stream = self._streams[harness.id.name]
            try:
                self._ledger.plan(
                    harness.id,
                    self._resources(stream.options, harness.version),
                    stream.options.replicas,
                    stream.options.node_labels,
                )
            except ResourceExhausted:
                continue
            self._looked_for_room.pop(harness.id, None)
            self._heal(harness)

    def _loads_under_way(self) -> int:
        return len(self._in_state[_S.LOADING])

    def _resources(self, options: StreamOptions, version: AspiredVersion) -> ReplicaResources:
        """What the config says, else 1.2 times the size on disk (TF Serving's estimate) and what any process takes."""
        if options.resources is not None:
            return options.resources
        estimate = version.size_bytes * 12 // 10 + PROCESS_OVERHEAD_BYTES
        return ReplicaResources(estimate, estimate if self._ledger.has_gpus else 0, exclusive_gpu=options.exclusive_gpu)

    # -- nodes

    def _move_off_lost_nodes(self) -> None:
        """Loads that have lost a node begin anew; it was not their fault, so it does not count as an attempt."""
        for harness in list(self._in_state[_S.LOADING].values()):
            if not self._ledger.all_exist(harness.slots) and harness.aspired:
                harness.starting_over = True
                self._cancel(harness)

    def _place_anew(self, harnesses: Iterable[LoaderHarness] | None = None) -> None:
        """Gives versions that are ready the slots that they should have now; those that can stay where they are, stay."""
        for harness in list(self._in_state[_S.READY].values()) if harnesses is None else harnesses:
            if not harness.aspired:
                continue
            options = self._streams[harness.id.name].options
            try:
                slots = self._ledger.plan(harness.id, harness.resources, options.replicas, options.node_labels, harness.slots)
            except ResourceExhausted:
                continue  # it keeps what is left, and is looked at again when there is room
            if slots != harness.slots:
                harness.slots = slots
                self._ledger.reserve(harness.id, harness.resources, slots)
                self._out.append(Place(harness.id, slots, harness.resources))

    # -- what runs

    def _observe(self, servables: Sequence[ObservedServable], now: float) -> None:
        observed = {servable.version.id: servable for servable in servables}
        for harness in [harness for stream in self._streams.values() for harness in stream.harnesses.values()]:
            if harness.id not in observed:
                self._found_gone(harness, now)
            elif harness.state is _S.UNLOADING:
                self._out.append(Unload(harness.instruction_id, harness.id))
            elif harness.state is _S.QUIESCING:
                self._out.append(Quiesce(harness.instruction_id, harness.id))
            elif harness.cancelling:
                self._out.append(CancelLoad(harness.id))
        for servable, found in observed.items():
            if self.harness(servable) is None or self._is_only_known(servable):
                self._adopt(found)

    def _is_only_known(self, servable: ServableId) -> bool:
        harness = self.harness(servable)
        return harness is not None and harness.state is _S.NEW

    def _found_gone(self, harness: LoaderHarness, now: float) -> None:
        match harness.state:
            case _S.LOADING if harness.cancelling:
                self._load_failed(LoadFailed(harness.id, harness.instruction_id, _LOAD_CANCELLED), now)
            case _S.LOADING:
                self._out.append(Load(harness.instruction_id, harness.version, harness.slots, harness.resources))
            case _S.READY:
                self._release(harness)
                self._begin_again(harness, now)
            case _S.QUIESCING | _S.UNLOADING:
                self._release(harness)
                self._move(harness, _S.DISABLED)
            case _:
                pass  # nothing of it runs, and nothing should

    def _adopt(self, found: ObservedServable) -> None:
        stream = self._stream(found.version.id.name)
        harness = self.harness(found.version.id) or self._add(stream, found.version)
        if harness.state is not _S.NEW:  # it had failed before the restart, and yet it runs
            self._heal(harness)
        harness.instruction_id, harness.slots = found.instruction_id, found.slots
        harness.resources = self._resources(stream.options, found.version)
        self._ledger.reserve(harness.id, harness.resources, harness.slots)
        match found.phase:
            case ObservedPhase.LOADING:
                harness.attempts = 1
                self._move(harness, _S.LOADING)
            case ObservedPhase.READY:
                self._move(harness, _S.READY)
            case ObservedPhase.QUIESCING:
                harness.aspired = False
                self._begin_quiesce(harness)

    # -- book-keeping

    def _stream(self, name: str) -> _Stream:
        return self._streams.setdefault(name, _Stream(name))

    def _touch(self, stream: _Stream) -> None:
        self._dirty[stream.name] = None

    def _pop_dirty(self) -> str:
        name = next(iter(self._dirty))
        del self._dirty[name]
        return name

    def _move(self, harness: LoaderHarness, to: HarnessState) -> None:
        del self._in_state[harness.state][harness.id]
        harness.move(to)
        self._in_state[to][harness.id] = harness
        self._touch(self._streams[harness.id.name])

    def _release(self, harness: LoaderHarness) -> None:
        if self._ledger.release(harness.id):
            self._room += 1
            harness.slots = ()

    def _forget_ended(self, stream: _Stream) -> None:
        for number, harness in list(stream.harnesses.items()):
            if harness.state is _S.DISABLED:
                del stream.harnesses[number]
                del self._in_state[_S.DISABLED][harness.id]
                self._looked_for_room.pop(harness.id, None)
                if not harness.status.ok and harness.status != _LOAD_CANCELLED:
                    # Wanted again it is tried again: its end was that nobody wanted it.
                    self._failures.pop(harness.id, None)
                self._end(stream, ServableState(harness.id, PublicState.END, harness.status))

    def _end(self, stream: _Stream, state: ServableState) -> None:
        stream.ended.pop(state.id.version, None)
        stream.ended[state.id.version] = state
        self._public[state.id] = state
        while len(stream.ended) > ENDED_VERSIONS_KEPT:
            oldest = next(iter(stream.ended))
            del stream.ended[oldest]
            self._public.pop(ServableId(stream.name, oldest), None)
            self._failures.pop(ServableId(stream.name, oldest), None)
        self._states_changed = True

    def _note_settled(self, stream: _Stream) -> None:
        if not stream.settled and stream.aspired:
            aspired = [harness for harness in stream.harnesses.values() if harness.aspired]
            stream.settled = bool(aspired) and all(harness.state in (_S.READY, _S.ERROR) for harness in aspired)

    def _refresh_public(self, stream: _Stream) -> None:
        for harness in stream.harnesses.values():
            state = ServableState(harness.id, harness.public_state, harness.status)
            if self._public.get(harness.id) != state:
                self._public[harness.id] = state
                self._states_changed = True

    def _publish(self) -> None:
        if self._states_changed:
            self._states_changed = False
            self._out.append(PublishStates(self.states()))

    def _instruction_id(self) -> str:
        self._instructions += 1
        return f"{self._incarnation}-{self._instructions}"

    def validate(self) -> None:
        """Asserts what must always be true; for tests."""
        for state, harnesses in self._in_state.items():
            for servable, harness in harnesses.items():
                assert harness.state is state, (servable, state, harness.state)
                assert self.harness(servable) is harness
        total = sum(len(stream.harnesses) for stream in self._streams.values())
        assert total == sum(map(len, self._in_state.values()))
        for stream in self._streams.values():
            for harness in stream.harnesses.values():
                holds = self._ledger.holds(harness.id)
                if harness.state in _BUSY or harness.state is _S.READY:
                    assert holds == harness.slots, (harness.id, holds, harness.slots)
                else:
                    assert not holds, (harness.id, harness.state, holds)
        assert self._loads_under_way() <= max(self._options.max_concurrent_loads, len(self._in_state[_S.LOADING]))


_AVAILABILITY_PRESERVING: AspiredVersionPolicy = AvailabilityPreservingPolicy()
_RESOURCE_PRESERVING: AspiredVersionPolicy = ResourcePreservingPolicy()


def _is_going(harness: LoaderHarness) -> bool:
    """On a way out that cannot be turned back: it must end before it can begin anew."""
    return not harness.aspired and (harness.state in _LEAVING or harness.state is _S.LOADING)
