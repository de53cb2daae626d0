"""What the controller decides: which version is loaded, unloaded, retried or refused, and when.

Pure: events in, instructions out, the time passed in (TF Serving: `core/aspired_versions_manager.cc` and
`core/basic_manager.cc`, where threads do what here is data). docs/lifecycle.md tells the same as a story.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from cluster.core.aspired_version import AspiredVersion
from cluster.core.aspired_version_policy import Action, AspiredVersionPolicy
from cluster.core.availability_preserving_policy import AvailabilityPreservingPolicy
from cluster.core.errors import Cancelled, ResourceExhausted, Status
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
from cluster.core.loader_harness import LEAVING, HarnessState, LoaderHarness
from cluster.core.request_logging import RequestLogging
from cluster.core.resource_estimate import replica_resources
from cluster.core.resource_ledger import ResourceLedger
from cluster.core.resource_preserving_policy import ResourcePreservingPolicy
from cluster.core.resources import GpuUse, Node, ReplicaResources, Slot
from cluster.core.retrier import PASSING, Retrier
from cluster.core.servable_id import CopyId, ServableId
from cluster.core.servable_state import ServableState
from cluster.core.servable_stream import Ending, ServableStream

_S = HarnessState
_BUSY = (_S.LOADING, *LEAVING)
_LOAD_CANCELLED = Cancelled("Loading of servable cancelled").to_status()


@dataclass(frozen=True, slots=True)
class Options:
    """The server's flags as far as they bear on decisions. `max_concurrent_loads` counts versions, cluster-wide.

    `forks`: replicas without a GPU are forked, and so take less memory.
    """

    max_num_load_retries: int = 5
    load_retry_interval_s: float = 60.0
    max_concurrent_loads: int = 8
    forks: bool = False


class AspiredVersionsState:
    """The state machine of one server; owned by `ControllerActor`, fed one event at a time.

    Call order: `restore` (at most once, before anything else), then `handle` for every event. Events may be repeated and may
    be late: what no longer matches (by instruction id) is ignored. `now` is any clock that does not go back. `incarnation`
    is new for each instance; it keeps apart the instruction ids of a controller and of the one that it replaces.
    """

    def __init__(self, options: Options, incarnation: str) -> None:
        self._options = options
        self._incarnation = incarnation
        self._retrier = Retrier(options.max_num_load_retries, options.load_retry_interval_s)
        self._ledger = ResourceLedger()
        self._streams: dict[str, ServableStream] = {}
        self._in_state: dict[HarnessState, dict[CopyId, LoaderHarness]] = {state: {} for state in HarnessState}
        self._refused: dict[CopyId, LoaderHarness] = {}
        self._misplaced: dict[CopyId, LoaderHarness] = {}
        self._room = 0  # counts the times that room may have appeared
        self._looked_for_room: dict[CopyId, int] = {}
        self._dirty: dict[str, ServableStream] = {}
        self._configured = False
        self._stopping = False
        self._states_changed = False
        self._instructions = 0
        self._out: list[Instruction] = []

    # -- what is asked

    def states(self) -> tuple[ServableState, ...]:
        """The public state of every version, those that have ended too, in order."""
        return tuple(chain.from_iterable(self._streams[name].states for name in sorted(self._streams)))

    def labels(self) -> Mapping[str, Mapping[str, int]]:
        """Stream -> label -> version, of every configured stream; most have no labels."""
        return {stream.name: dict(stream.options.labels) for stream in self._streams.values() if stream.configured}

    def request_logging(self) -> Mapping[str, RequestLogging]:
        """By stream, of the configured streams whose requests are logged."""
        return {
            stream.name: stream.options.request_logging
            for stream in self._streams.values()
            if stream.configured and stream.options.request_logging is not None
        }

    def first_versions_settled(self) -> bool:
        """Whether every configured stream has one of its first versions available, or had all of them fail for good.

        A stream without versions waits for them and holds nobody back.
        """
        return all(stream.settled or stream.waiting for stream in self._streams.values() if stream.configured)

    def stream_settled(self, name: str) -> bool:
        """As `first_versions_settled`, of one stream; True for one that is not configured."""
        stream = self._streams.get(name)
        return stream is None or not stream.configured or stream.settled or stream.waiting

    def waiting_streams(self) -> tuple[str, ...]:
        """The configured streams that have no version to serve yet."""
        return tuple(stream.name for stream in self._streams.values() if stream.configured and stream.waiting)

    def stopped(self) -> bool:
        """Nothing is loaded, and after StopRequested nothing will be."""
        return self._stopping and not any(self._in_state.values())

    def harness(self, servable: ServableId) -> LoaderHarness | None:
        """The version's harness, for looking; None once it has ended or was never aspired."""
        stream = self._streams.get(servable.name)
        return stream.harnesses.get(servable.version) if stream is not None else None

    def successor(self, servable: ServableId) -> LoaderHarness | None:
        """The copy that is to take the place of the one that serves, for looking; None while nothing is newer than that."""
        stream = self._streams.get(servable.name)
        return stream.successor(servable.version) if stream is not None else None

    @property
    def ledger(self) -> ResourceLedger:
        """The reservations, for looking."""
        return self._ledger

    def next_wakeup(self, now: float) -> float | None:
        """When TimePassed will next do something; None when only events can."""
        waiting = chain(self._in_state[_S.LOAD_REQUESTED].values(), self._healing())
        return min((harness.due for harness in waiting if harness.due > now), default=None)

    # -- what is kept across restarts

    def checkpoint(self) -> dict[str, Any]:
        """What cannot be observed again: how versions have ended. JSON-able."""
        streams = (self._streams[name] for name in sorted(self._streams))
        return {"ended": [ending.to_json() for stream in streams for ending in stream.endings()]}

    def restore(self, checkpoint: Mapping[str, Any]) -> None:
        """Takes an earlier incarnation's checkpoint. A version that had failed for good stays so until its files change."""
        for kept in checkpoint["ended"]:
            ending = Ending.from_json(kept)
            self._stream(ending.id.name).end(ending)
        for stream in self._streams.values():
            self._states_changed |= stream.refresh_states()

    # -- events

    def handle(self, event: Event, now: float) -> list[Instruction]:
        """Takes in one event; what is to be done about it, unloads before loads."""
        self._out = []
        match event:
            case StreamsConfigured():
                self._configure(event.streams, now)
            case VersionsAspired():
                self._versions_aspired(event, now)
            case CapacityChanged():
                self._capacity_changed(event.nodes)
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
        if self._states_changed:
            self._states_changed = False
            self._out.append(PublishStates(self.states(), self.labels(), self.request_logging()))
        return self._out

    def _configure(self, streams: Mapping[str, StreamOptions], now: float) -> None:
        if self._stopping:
            return
        self._configured = True
        for name, options in streams.items():
            stream = self._stream(name)
            if stream.configured and stream.options == options:
                continue
            if not stream.configured:
                stream.configured, stream.aspired = True, None
                self._states_changed = True
            self._states_changed |= _published(stream.options) != _published(options)
            stream.options = options
            self._look_again(stream)
        for stream in self._streams.values():
            if stream.name not in streams and (stream.configured or stream.aspired is None):
                stream.configured, stream.settled, stream.pending = False, False, None
                self._states_changed = True
                self._set_aspired(stream, (), now)

    def _look_again(self, stream: ServableStream) -> None:
        """The stream's options have changed, and with them what its versions need."""
        for harness in (*stream.harnesses.values(), *stream.beside.values()):
            self._looked_for_room.pop(harness.copy_id, None)
            if harness.state is _S.READY:
                self._misplaced[harness.copy_id] = harness
        for harness in stream.beside.values():
            if harness.refused:
                self._unaspire(harness)  # the policy may now have another way than a second copy
        self._touch(stream)

    def _versions_aspired(self, event: VersionsAspired, now: float) -> None:
        stream = self._streams.get(event.stream)
        if not self._stopping and stream is not None and stream.configured:
            self._aspire(stream, event.versions, now)

    def _stop(self, now: float) -> None:
        self._stopping = True
        for stream in self._streams.values():
            stream.pending = None
            self._set_aspired(stream, (), now)

    def _capacity_changed(self, nodes: Sequence[Node]) -> None:
        had_gpus = self._ledger.has_gpus
        devices_changed = self._ledger.set_nodes(nodes)
        self._room += 1
        for harness in self._in_state[_S.LOADING].values():
            self._start_over_if_lost(harness)
        for state in (_S.READY, *LEAVING):
            for harness in self._in_state[state].values():
                self._give_up_lost_slots(harness)
        if devices_changed:
            self._misplaced.update(self._in_state[_S.READY])
        if had_gpus != self._ledger.has_gpus:  # what exclusive GPUs ask of the policy
            self._dirty.update(self._streams)

    def _start_over_if_lost(self, harness: LoaderHarness) -> None:
        """A load that has lost a node cannot end well, and that is not the version's fault: the attempt does not count."""
        if harness.aspired and not harness.starting_over and self._ledger.existing(harness.slots) != harness.slots:
            harness.attempts -= 1
            self._start_over(harness)

    def _give_up_lost_slots(self, harness: LoaderHarness) -> None:
        left = self._ledger.existing(harness.slots)
        if left != harness.slots:
            harness.slots = left
            self._ledger.adopt(harness.copy_id, harness.resources, left)
            self._misplaced[harness.copy_id] = harness

    def _loaded(self, event: Loaded) -> None:
        harness = self._copy(event)
        if harness is None or harness.state is _S.ERROR:
            # A Load that was repeated after its end has come up, and nobody would ever take it down.
            self._out.append(Unload(self._instruction_id(), event.id, event.copy))
            return
        if harness.state is not _S.LOADING or harness.instruction_id != event.instruction_id:
            return
        harness.status = Status()
        harness.cancelling = harness.starting_over = False
        self._move(harness, _S.READY)
        self._misplaced[harness.copy_id] = harness  # nodes and options may have changed while it loaded
        self._give_up_lost_slots(harness)
        self._give_way(harness)

    def _give_way(self, ready: LoaderHarness) -> None:
        """Of two copies of a version the older one goes when the newer one is ready: frontends route to that by now."""
        stream, number = self._streams[ready.id.name], ready.id.version
        held = stream.harnesses.get(number)
        if held is ready:
            return
        if held is not None and held.copy > ready.copy:
            self._request_unload(ready)
            return
        del stream.beside[ready.copy_id]
        stream.harnesses[number] = ready
        if held is not None:
            stream.beside[held.copy_id] = held
            ready.aspired = held.aspired
            self._unaspire(held)
            if held.state is _S.READY:
                self._request_unload(held)

    def _load_failed(self, event: LoadFailed, now: float) -> None:
        harness = self._copy(event)
        if harness is None or harness.state is not _S.LOADING or harness.instruction_id != event.instruction_id:
            return
        self._release(harness)
        starting_over = harness.starting_over
        harness.cancelling = harness.starting_over = False
        if not harness.aspired:
            harness.status = _LOAD_CANCELLED
            self._move(harness, _S.DISABLED)
        elif starting_over:
            self._begin_again(harness, now)
        else:
            harness.status = event.status
            due = self._retrier.next_attempt(harness.attempts, now)
            if due is None:
                self._move(harness, _S.ERROR)
                healing = self._retrier.healing_attempt(event.status.code, now)
                harness.heals, harness.due = healing is not None, healing or now
            else:
                harness.due = due
                self._move(harness, _S.LOAD_REQUESTED)

    def _quiesced(self, event: Quiesced) -> None:
        harness = self._copy(event)
        if harness is None or harness.state is not _S.QUIESCING or harness.instruction_id != event.instruction_id:
            return
        self._move(harness, _S.QUIESCED)
        self._begin_unload(harness)

    def _unloaded(self, event: Unloaded) -> None:
        harness = self._copy(event)
        if harness is not None and harness.state is _S.UNLOADING and harness.instruction_id == event.instruction_id:
            self._release(harness)
            self._move(harness, _S.DISABLED)

    # -- aspired lists

    def _aspire(self, stream: ServableStream, versions: Sequence[AspiredVersion], now: float) -> None:
        """Takes a list, or keeps it until what is wanted again, on its way out, has ended."""
        if stream.must_wait(versions):
            stream.pending = tuple(versions)
        else:
            stream.pending = None
            self._set_aspired(stream, versions, now)

    def _set_aspired(self, stream: ServableStream, versions: Sequence[AspiredVersion], now: float) -> None:
        stream.aspired = tuple(versions)
        wanted = {version.id.version: version for version in versions}
        stream.forgive(wanted.keys())
        for number, harness in stream.harnesses.items():
            if number not in wanted:
                self._unaspire(harness)
        for number, version in wanted.items():
            known = stream.harnesses.get(number)
            if known is None:
                self._add(stream, version)
            else:
                known.aspired = True
                self._files_changed(known, version, now)
                self._newer_files_changed(stream, known, version, now)
        self._touch(stream)

    def _add(self, stream: ServableStream, version: AspiredVersion, copy: int = 0) -> LoaderHarness:
        harness = stream.harnesses[version.id.version] = LoaderHarness(version, copy)
        self._in_state[_S.NEW][harness.copy_id] = harness
        ending = stream.ended.pop(version.id.version, None)
        if not version.status.ok:
            self._fail(harness, version.status)
        elif ending is not None and ending.stands_for(version):
            harness.attempts = ending.attempts
            self._fail(harness, ending.status, refused=ending.refused)
            harness.heals = not ending.refused and ending.status.code in PASSING
        return harness

    def _add_beside(self, stream: ServableStream, version: AspiredVersion, copy: int, *, aspired: bool) -> LoaderHarness:
        harness = LoaderHarness(version, copy, aspired)
        stream.beside[harness.copy_id] = self._in_state[_S.NEW][harness.copy_id] = harness
        return harness

    def _unaspire(self, harness: LoaderHarness) -> None:
        harness.aspired = False
        self._drop_successor(harness)
        match harness.state:
            case _S.LOADING:
                harness.starting_over = False
                self._cancel(harness)
            case _S.NEW | _S.LOAD_REQUESTED:
                harness.status = _LOAD_CANCELLED if harness.begun else Status()
                self._move(harness, _S.DISABLED)
            case _S.ERROR:
                self._move(harness, _S.DISABLED)
            case _:
                pass  # the policy says when a version that is ready may go

    def _drop_successor(self, harness: LoaderHarness) -> None:
        """The version's copy will not be replaced: it goes, or comes up anew itself."""
        successor = self._streams[harness.id.name].successor(harness.id.version)
        if successor is not None:
            self._unaspire(successor)

    def _files_changed(self, harness: LoaderHarness, version: AspiredVersion, now: float) -> None:
        """A version that has not come up begins anew with its new files, at once; for one that serves the policy speaks."""
        if version == harness.version or harness.state is _S.READY:
            return
        harness.attempts, harness.status, harness.due = 0, Status(), now
        self._looked_for_room.pop(harness.copy_id, None)
        if harness.state is _S.LOADING:
            self._start_over(harness)
            return
        harness.version = version
        if harness.state is _S.ERROR:
            self._heal(harness)
        if not version.status.ok:
            self._fail(harness, version.status)

    def _newer_files_changed(self, stream: ServableStream, ready: LoaderHarness, version: AspiredVersion, now: float) -> None:
        successor = stream.successor(version.id.version)
        if successor is None:
            return
        if version.files == ready.version.files:
            self._unaspire(successor)  # the files that serve are back
        else:
            self._files_changed(successor, version, now)

    def _start_over(self, harness: LoaderHarness) -> None:
        harness.starting_over = True
        self._cancel(harness)

    def _cancel(self, harness: LoaderHarness) -> None:
        if not harness.cancelling:
            harness.cancelling = True
            self._out.append(CancelLoad(harness.id, harness.copy))

    def _begin_again(self, harness: LoaderHarness, now: float) -> None:
        """With the newest files."""
        harness.version = self._newest(harness)
        if harness.version.status.ok:
            harness.due = now
            self._move(harness, _S.LOAD_REQUESTED)
        else:
            self._fail(harness, harness.version.status)

    def _fail(self, harness: LoaderHarness, status: Status, refused: bool = False) -> None:
        harness.status, harness.refused, harness.heals = status, refused, False
        self._move(harness, _S.ERROR)

    def _heal(self, harness: LoaderHarness) -> None:
        harness.status, harness.attempts, harness.refused, harness.heals = Status(), 0, False, False
        self._looked_for_room.pop(harness.copy_id, None)
        self._move(harness, _S.NEW)

    # -- deciding

    def _decide(self, now: float) -> None:
        """Lets the policies speak for every stream that has changed, then gives room to those that wait for it."""
        for harness in [harness for harness in self._healing() if harness.due <= now]:
            self._heal(harness)
        room = None
        while self._dirty or room != self._room:
            room = self._room
            while self._dirty:
                self._decide_stream(self._dirty.pop(next(iter(self._dirty))), now)
            self._place_misplaced()
            self._heal_one_refused()
            self._begin_loads(now)

    def _decide_stream(self, stream: ServableStream, now: float) -> None:
        self._forget_ended(stream)
        if stream.pending is not None and not stream.must_wait(stream.pending):
            self._aspire(stream, stream.pending, now)
            self._forget_ended(stream)
        if stream.aspired is not None:
            self._follow_policy(stream, now)
            stream.note_settled()
        self._states_changed |= stream.refresh_states()

    def _follow_policy(self, stream: ServableStream, now: float) -> None:
        policy = self._policy(stream.options)
        while (action := stream.next_action(policy)) is not None:
            harness = stream.harnesses[action.id.version]
            match action.action:
                case Action.LOAD:
                    self._request_load(harness, now)
                case Action.REPLACE:
                    self._request_load(stream.successor(harness.id.version) or self._add_successor(stream, harness), now)
                case Action.UNLOAD:
                    if harness.aspired:
                        self._defer_aspired(harness)  # outdated: it comes back when it has gone
                    self._request_unload(harness)

    def _add_successor(self, stream: ServableStream, ready: LoaderHarness) -> LoaderHarness:
        return self._add_beside(stream, self._newest(ready), ready.copy + 1, aspired=True)

    def _policy(self, options: StreamOptions) -> AspiredVersionPolicy:
        """An exclusive GPU takes no second version, so there the old one has to go first."""
        exclusive = options.resources.gpu is GpuUse.EXCLUSIVE
        if options.resource_preserving or (exclusive and self._ledger.has_gpus):
            return _RESOURCE_PRESERVING
        return _AVAILABILITY_PRESERVING

    def _request_load(self, harness: LoaderHarness, now: float) -> None:
        harness.due = now
        self._move(harness, _S.LOAD_REQUESTED)

    def _request_unload(self, harness: LoaderHarness) -> None:
        self._drop_successor(harness)
        self._move(harness, _S.UNLOAD_REQUESTED)
        self._begin_quiesce(harness)

    def _begin_quiesce(self, harness: LoaderHarness) -> None:
        harness.instruction_id = self._instruction_id()
        self._move(harness, _S.QUIESCING)
        self._out.append(Quiesce(harness.instruction_id, harness.id, harness.copy))

    def _begin_unload(self, harness: LoaderHarness) -> None:
        harness.instruction_id = self._instruction_id()
        self._move(harness, _S.UNLOADING)
        self._out.append(Unload(harness.instruction_id, harness.id, harness.copy))

    def _begin_loads(self, now: float) -> None:
        requested = self._in_state[_S.LOAD_REQUESTED]
        if not requested or not self._may_load():
            return
        # Of those that are due at the same time, the one that its policy asked for first.
        for harness in sorted(requested.values(), key=lambda harness: harness.due):
            if harness.due > now or not self._may_load():
                return
            if self._looked_for_room.get(harness.copy_id) != self._room or not self._busy():
                self._begin_load(harness)

    def _may_load(self) -> bool:
        return len(self._in_state[_S.LOADING]) < max(1, self._options.max_concurrent_loads)

    def _busy(self) -> bool:
        """Something comes up or goes, and may leave room behind."""
        return any(self._in_state[state] for state in _BUSY)

    def _begin_load(self, harness: LoaderHarness) -> None:
        """Loads the version if there is room; else it waits while room may yet appear, or fails."""
        resources = self._resources(harness)
        self._looked_for_room[harness.copy_id] = self._room
        if self._busy() and not self._ledger.may_fit(resources):
            return
        try:
            slots = self._plan(harness, resources)
        except ResourceExhausted as error:
            if not self._busy():
                self._fail(harness, error.to_status(), refused=True)
            return
        self._looked_for_room.pop(harness.copy_id)
        self._ledger.reserve(harness.copy_id, resources, slots)
        harness.slots, harness.resources = slots, resources
        harness.attempts += 1
        self._move(harness, _S.LOAD_APPROVED)
        self._ask_to_load(harness)

    def _ask_to_load(self, harness: LoaderHarness) -> None:
        harness.instruction_id = self._instruction_id()
        harness.placed = harness.slots
        self._move(harness, _S.LOADING)
        self._out.append(_load(harness))

    def _heal_one_refused(self) -> None:
        """Lets one version that had no room try again, if there is room for it now."""
        for harness in self._refused.values():
            if self._looked_for_room.get(harness.copy_id) == self._room:
                continue
            self._looked_for_room[harness.copy_id] = self._room
            resources = self._resources(harness)
            if not self._ledger.may_fit(resources):
                continue
            try:
                self._plan(harness, resources)
            except ResourceExhausted:
                continue
            self._heal(harness)
            return

    def _healing(self) -> Iterator[LoaderHarness]:
        return (harness for harness in self._in_state[_S.ERROR].values() if harness.heals)

    def _place_misplaced(self) -> None:
        """Gives versions that are ready the slots that they should have; what cannot move or grow for lack of room waits."""
        for harness in list(self._misplaced.values()):
            if harness.state is not _S.READY or not self._streams[harness.id.name].configured:
                del self._misplaced[harness.copy_id]
            elif self._looked_for_room.get(harness.copy_id) != self._room:
                self._place(harness)

    def _place(self, harness: LoaderHarness) -> None:
        resources = harness.resources
        if resources.gpu is not GpuUse.NONE and self._ledger.has_gpus and all(slot.gpu is None for slot in harness.slots):
            resources = self._resources(harness)  # moving from CPUs it needs memory there too
        try:
            slots = self._plan(harness, resources, harness.slots)
        except ResourceExhausted:
            self._looked_for_room[harness.copy_id] = self._room
        else:
            del self._misplaced[harness.copy_id]
            if Counter(slots) != Counter(harness.slots):
                harness.slots, harness.resources = slots, resources
                self._ledger.reserve(harness.copy_id, resources, slots)
                self._room += 1
        if harness.slots and Counter(harness.slots) != Counter(harness.placed):
            harness.placed = harness.slots
            self._out.append(Place(harness.id, harness.slots, harness.resources, harness.copy))

    def _plan(self, harness: LoaderHarness, resources: ReplicaResources, keep: Sequence[Slot] = ()) -> tuple[Slot, ...]:
        options = self._streams[harness.id.name].options
        return self._ledger.plan(harness.id, resources, options.replicas, options.node_labels, keep)

    def _resources(self, harness: LoaderHarness) -> ReplicaResources:
        options = self._streams[harness.id.name].options
        return replica_resources(options.resources, harness.version.size_bytes, self._ledger.has_gpus, self._options.forks)

    # -- what runs

    def _observe(self, servables: Sequence[ObservedServable], now: float) -> None:
        """Reconciles with what runs. What is under way is asked for again: asking twice is harmless, a lost answer is not."""
        observed = {CopyId(found.version.id, found.copy): found for found in servables}
        harnesses = [harness for harnesses in self._in_state.values() for harness in harnesses.values()]
        # The newer copy of a version first: it takes the place of the older one if it is found ready.
        for harness in sorted(harnesses, key=lambda harness: -harness.copy):
            found = observed.pop(harness.copy_id, None)
            if harness.state in LEAVING:
                self._ask_to_leave_again(harness)
            elif harness.state is _S.LOADING:
                self._look_at_loading(harness, found, now)
            elif harness.state is _S.READY:
                self._look_at_ready(harness, found, now)
            elif found is not None:
                self._adopt(harness, found, now)
        for found in sorted(observed.values(), key=lambda found: (_ADOPTED_FIRST.index(found.phase), -found.copy)):
            self._adopt_copy(found, now)
        self._states_changed = True  # a manager that restarted has lost them

    def _ask_to_leave_again(self, harness: LoaderHarness) -> None:
        if harness.state is _S.QUIESCING:
            self._out.append(Quiesce(harness.instruction_id, harness.id, harness.copy))
        else:
            self._out.append(Unload(harness.instruction_id, harness.id, harness.copy))

    def _look_at_loading(self, harness: LoaderHarness, found: ObservedServable | None, now: float) -> None:
        if found is None and harness.starting_over:
            self._load_failed(LoadFailed(harness.id, harness.instruction_id, _LOAD_CANCELLED, harness.copy), now)
        elif found is None and harness.cancelling:
            # Its Load may still be on its way to the manager: seeing it out is answered whether it is or not.
            harness.status, harness.cancelling = _LOAD_CANCELLED, False
            self._out.append(CancelLoad(harness.id, harness.copy))
            self._begin_quiesce(harness)
        elif found is None:
            self._out.append(_load(harness))
        elif found.phase is ObservedPhase.LOADING:
            harness.placed = found.slots
            if (found.instruction_id, found.version.files) != (harness.instruction_id, harness.version.files):
                self._out.append(_load(harness))  # the answer is to bear this id, and to be about these files
            if harness.cancelling:
                self._out.append(CancelLoad(harness.id, harness.copy))
        elif found.phase is ObservedPhase.READY:
            harness.version = found.version
            self._loaded(Loaded(harness.id, harness.instruction_id, harness.copy))
            if harness.state is _S.READY:
                self._look_at_ready(harness, found, now)
        else:
            harness.cancelling = harness.starting_over = False
            self._defer_aspired(harness)
            self._begin_quiesce(harness)

    def _look_at_ready(self, harness: LoaderHarness, found: ObservedServable | None, now: float) -> None:
        if found is not None and found.phase is ObservedPhase.READY:
            harness.placed = found.slots
            self._misplaced[harness.copy_id] = harness
        elif found is not None and found.phase is ObservedPhase.QUIESCING:
            self._defer_aspired(harness)
            self._request_unload(harness)
        elif not harness.aspired:
            self._request_unload(harness)
        else:
            self._load_lost(harness, found, now)

    def _load_lost(self, harness: LoaderHarness, found: ObservedServable | None, now: float) -> None:
        """A version that should be ready is not: it is asked for in its own slots, where some of it may be on its way again."""
        self._drop_successor(harness)
        if found is None:
            harness.version = self._newest(harness)
        if harness.slots and harness.version.status.ok:
            harness.attempts = 1
            self._ask_to_load(harness)
            harness.placed = found.slots if found is not None else harness.slots
        else:
            harness.attempts = 0
            self._release(harness)
            self._begin_again(harness, now)

    def _adopt_copy(self, found: ObservedServable, now: float) -> None:
        """Takes over a copy that was not known: what serves, what may take its place, or what is left of another copy."""
        servable = found.version.id
        stream = self._stream(servable.name)
        held = stream.harnesses.get(servable.version)
        if held is None:
            self._adopt(self._add(stream, found.version, found.copy), found, now)
        elif found.phase is ObservedPhase.LOADING and held.state is _S.READY and held.aspired and found.copy > held.copy:
            self._adopt(self._add_beside(stream, found.version, found.copy, aspired=True), found, now)
            if (wanted := stream.aspired_version(servable.version)) is not None:
                self._newer_files_changed(stream, held, wanted, now)
        else:
            harness = self._add_beside(stream, found.version, found.copy, aspired=False)
            self._take_over(harness, found)
            self._see_out(harness, found)

    def _adopt(self, harness: LoaderHarness, found: ObservedServable, now: float) -> None:
        """Takes over a version that runs, and that has no instruction under way."""
        if harness.state is not _S.NEW:
            self._heal(harness)
        self._take_over(harness, found)
        stream = self._streams[harness.id.name]
        wanted = stream.aspired_version(harness.id.version)
        unwanted = stream.aspired is not None and wanted is None
        if found.phase is ObservedPhase.READY:
            self._move(harness, _S.READY)
            self._misplaced[harness.copy_id] = harness
            self._give_up_lost_slots(harness)
            self._give_way(harness)
        elif found.phase is ObservedPhase.LOADING and not unwanted:
            harness.attempts = 1
            self._move(harness, _S.LOADING)
            self._start_over_if_lost(harness)
        else:
            self._defer_aspired(harness)
            self._see_out(harness, found)
            return
        if unwanted:
            self._unaspire(harness)
        elif wanted is not None:
            self._files_changed(harness, wanted, now)

    def _take_over(self, harness: LoaderHarness, found: ObservedServable) -> None:
        harness.version, harness.instruction_id = found.version, found.instruction_id
        harness.slots = harness.placed = found.slots
        harness.resources = found.resources or self._resources(harness)
        self._ledger.adopt(harness.copy_id, harness.resources, harness.slots)

    def _see_out(self, harness: LoaderHarness, found: ObservedServable) -> None:
        if found.phase is ObservedPhase.LOADING:
            self._out.append(CancelLoad(harness.id, harness.copy))
        self._begin_quiesce(harness)

    def _defer_aspired(self, harness: LoaderHarness) -> None:
        """The version is on its way out although it is wanted: the aspired list waits for its end."""
        stream = self._streams[harness.id.name]
        harness.aspired = False
        if stream.pending is None:
            stream.pending = stream.aspired

    # -- book-keeping

    def _stream(self, name: str) -> ServableStream:
        """The stream of that name. One that is not in the config aspires to nothing, once the config is known."""
        stream = self._streams.get(name)
        if stream is None:
            unwanted = self._configured or self._stopping
            stream = self._streams[name] = ServableStream(name, aspired=() if unwanted else None)
        return stream

    def _copy(self, event: Loaded | LoadFailed | Quiesced | Unloaded) -> LoaderHarness | None:
        """The copy that the event is about; None once it has ended."""
        stream = self._streams.get(event.id.name)
        return stream.copy(CopyId(event.id, event.copy)) if stream is not None else None

    def _newest(self, harness: LoaderHarness) -> AspiredVersion:
        """The version as its source last told of it."""
        return self._streams[harness.id.name].aspired_version(harness.id.version) or harness.version

    def _touch(self, stream: ServableStream) -> None:
        self._dirty[stream.name] = stream

    def _move(self, harness: LoaderHarness, to: HarnessState) -> None:
        del self._in_state[harness.state][harness.copy_id]
        harness.move(to)
        self._in_state[to][harness.copy_id] = harness
        if to is _S.ERROR and harness.refused:
            self._refused[harness.copy_id] = harness
        else:
            self._refused.pop(harness.copy_id, None)
        self._touch(self._streams[harness.id.name])

    def _release(self, harness: LoaderHarness) -> None:
        harness.slots = harness.placed = ()
        if self._ledger.release(harness.copy_id):
            self._room += 1

    def _forget_ended(self, stream: ServableStream) -> None:
        for harness in [harness for harness in stream.harnesses.values() if harness.state is _S.DISABLED]:
            del stream.harnesses[harness.id.version]
            self._forget(harness)
            stream.end(Ending(harness.id, harness.status, attempts=harness.attempts))
        for harness in [harness for harness in stream.beside.values() if harness.state is _S.DISABLED]:
            del stream.beside[harness.copy_id]
            self._forget(harness)

    def _forget(self, harness: LoaderHarness) -> None:
        del self._in_state[_S.DISABLED][harness.copy_id]
        self._looked_for_room.pop(harness.copy_id, None)
        self._misplaced.pop(harness.copy_id, None)

    def _instruction_id(self) -> str:
        self._instructions += 1
        return f"{self._incarnation}-{self._instructions}"

    def validate(self) -> None:
        """Asserts what must always be true between two events; for tests."""
        self._ledger.validate()
        assert not self._dirty
        served = [harness for stream in self._streams.values() for harness in stream.harnesses.values()]
        beside = [harness for stream in self._streams.values() for harness in stream.beside.values()]
        assert len(served) + len(beside) == sum(map(len, self._in_state.values()))
        for harness in (*served, *beside):
            story = (harness.copy_id, *harness.story)
            assert self._in_state[harness.state].get(harness.copy_id) is harness, story
            assert harness.state in _AT_REST, story
            assert self._ledger.holds(harness.copy_id) == harness.slots, story
            assert not harness.slots or harness.state in (_S.READY, *_BUSY), story
            assert harness.aspired or harness.state in (_S.READY, *_BUSY), story
            assert not (harness.aspired and harness.state in LEAVING), story
            assert (harness.copy_id in self._refused) == harness.refused == (harness.refused and harness.state is _S.ERROR), (
                story
            )
            assert harness.state is _S.LOADING or not harness.cancelling, story
            assert harness.cancelling or not harness.starting_over, story
        for stream in self._streams.values():
            self._validate_stream(stream)

    def _validate_stream(self, stream: ServableStream) -> None:
        assert stream.pending is None or stream.must_wait(stream.pending), stream.name
        if stream.aspired is not None:
            aspired = {version.id.version for version in stream.aspired}
            in_hand = {number for number, harness in stream.harnesses.items() if harness.aspired}
            assert in_hand == {number for number in aspired if not stream.leaving(number)}, stream.name
        for copy_id, harness in stream.beside.items():
            story = (copy_id, *harness.story)
            held = stream.harnesses.get(harness.id.version)
            assert copy_id == harness.copy_id, story
            assert harness.state is not _S.READY, story
            if harness.aspired:
                assert held is not None, story
                assert held.aspired, story
                assert held.state is _S.READY, story
                assert held.copy < harness.copy, story
                assert stream.successor(harness.id.version) is harness, story


def _load(harness: LoaderHarness) -> Load:
    return Load(harness.instruction_id, harness.version, harness.slots, harness.resources, harness.copy)


def _published(options: StreamOptions) -> tuple[object, ...]:
    """The options that PublishStates tells of."""
    return options.labels, options.request_logging


_ADOPTED_FIRST = (ObservedPhase.READY, ObservedPhase.LOADING, ObservedPhase.QUIESCING)
_AT_REST = frozenset({_S.NEW, _S.LOAD_REQUESTED, _S.LOADING, _S.READY, _S.QUIESCING, _S.UNLOADING, _S.ERROR})
_AVAILABILITY_PRESERVING: AspiredVersionPolicy = AvailabilityPreservingPolicy()
_RESOURCE_PRESERVING: AspiredVersionPolicy = ResourcePreservingPolicy()
