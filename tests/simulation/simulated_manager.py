"""A manager in virtual time: it answers late, in any order, fails, restarts, and loses what it had not yet said."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from cluster.core.aspired_version import AspiredVersion
from cluster.core.errors import Code, Status
from cluster.core.events import (
    ClusterObserved,
    Event,
    Loaded,
    LoadFailed,
    ObservedPhase,
    ObservedServable,
    Quiesced,
    Unloaded,
)
from cluster.core.instructions import CancelLoad, Instruction, Load, Place, PublishStates, Quiesce, Unload
from cluster.core.resources import ReplicaResources, Slot
from cluster.core.servable_id import CopyId, ServableId
from cluster.core.servable_state import ServableState
from tests.fakes.manual_clock import ManualClock

CANCELLED = Status(Code.CANCELLED, "Loading of servable cancelled")
BROKEN = Status(Code.INTERNAL, "cannot read the graph")


@dataclass(slots=True)
class Running:
    """A copy of a version that has processes, with the place and the phase of these."""

    version: AspiredVersion
    resources: ReplicaResources
    slots: tuple[Slot, ...]
    instruction_id: str
    copy: int
    phase: ObservedPhase = ObservedPhase.LOADING
    removing: bool = False
    cancelled: bool = False

    @property
    def copy_id(self) -> CopyId:
        return CopyId(self.version.id, self.copy)


class SimulatedManager:
    """Carries out instructions as `ManagerActor` does, against a world that says which nodes live and which loads fail.

    Asserts what an instruction takes for granted: a Load finds nothing of its version on its way out. `life` counts restarts.
    """

    def __init__(
        self,
        clock: ManualClock,
        random: Random,
        tell: Callable[[Event], None],
        lives: Callable[[str], bool],
        fails: Callable[[AspiredVersion], bool],
    ) -> None:
        self._clock = clock
        self._random = random
        self._tell = tell
        self._lives = lives
        self._fails = fails
        self.life = 0
        self._waiting: list[Instruction] = []
        self.running: dict[CopyId, Running] = {}
        self.states: tuple[ServableState, ...] = ()
        self.up = True

    def perform(self, instructions: Sequence[Instruction]) -> None:
        if not self.up:
            self._waiting += instructions
            return
        for instruction in instructions:
            match instruction:
                case Load():
                    self._load(instruction)
                case CancelLoad():
                    self._cancel(instruction)
                case Place():
                    self._place(instruction)
                case Quiesce():
                    self._quiesce(instruction)
                case Unload():
                    self._unload(instruction)
                case PublishStates():
                    self.states = instruction.states

    def routed(self, servable: ServableId) -> int | None:
        """The copy of the version that frontends route to: the newest that is ready."""
        ready = (held for held in self.running.values() if held.version.id == servable and held.phase is ObservedPhase.READY)
        return max((held.copy for held in ready), default=None)

    def crash(self) -> None:
        """Dies with everything that it was about to do or to say, and comes back to what runs."""
        if not self.up:
            return
        self.life += 1
        self.up = False
        self._clock.after(self._random.uniform(0.5, 3.0), self._restart)

    def observed(self) -> ClusterObserved:
        """What runs; a version whose nodes are all gone does not."""
        return ClusterObserved(
            tuple(
                ObservedServable(held.version, held.phase, held.slots, held.instruction_id, held.resources, held.copy)
                for held in self.running.values()
            )
        )

    def _restart(self) -> None:
        for copy_id, held in list(self.running.items()):
            held.removing = held.cancelled = False
            held.slots = tuple(slot for slot in held.slots if self._lives(slot.node_id))
            if len(held.slots) > 1 and self._random.random() < 0.1:
                held.slots = held.slots[1:]  # one of the replicas did not report in time
            if held.phase is ObservedPhase.QUIESCING and self._random.random() < 0.5:
                held.phase = ObservedPhase.READY  # it had not reached the replicas yet
            if not held.slots or self._random.random() < 0.05:
                del self.running[copy_id]
        self.up = True
        self.states = ()
        self._tell(self.observed())
        waiting, self._waiting = self._waiting, []
        self.perform(waiting)

    def _later(self, act: Callable[[], None], slowest_s: float = 1.0) -> None:
        life = self.life

        def act_unless_dead() -> None:
            if life == self.life:
                act()

        self._clock.after(self._random.uniform(0.01, slowest_s), act_unless_dead)

    def _load(self, load: Load) -> None:
        held = self.running.get(CopyId(load.version.id, load.copy))
        same = held is not None and held.version.files == load.version.files
        if held is None or held.removing or held.cancelled or not same:
            assert load.slots, load
            held = Running(load.version, load.resources, load.slots, load.instruction_id, load.copy)
            self.running[held.copy_id] = held
            self._clock.after(self._random.uniform(0.5, 10.0), lambda: self._finish_load(held))
        elif held.phase is ObservedPhase.LOADING:
            held.instruction_id = load.instruction_id
        else:
            assert held.phase is ObservedPhase.READY, (load, held)
            self._tell(Loaded(load.version.id, load.instruction_id, load.copy))

    def _finish_load(self, held: Running) -> None:
        if self.running.get(held.copy_id) is not held or held.phase is not ObservedPhase.LOADING:
            return
        if not self.up:
            self._clock.after(1.0, lambda: self._finish_load(held))
        elif not all(self._lives(slot.node_id) for slot in held.slots):
            pass  # hangs until it is cancelled
        elif self._fails(held.version):
            del self.running[held.copy_id]
            self._tell(LoadFailed(held.version.id, held.instruction_id, BROKEN, held.copy))
        else:
            held.phase = ObservedPhase.READY
            self._tell(Loaded(held.version.id, held.instruction_id, held.copy))

    def _cancel(self, cancel: CancelLoad) -> None:
        copy_id = CopyId(cancel.id, cancel.copy)
        held = self.running.get(copy_id)

        def finish() -> None:
            if held is not None and self.running.get(copy_id) is held and held.phase is ObservedPhase.LOADING:
                self._remove(held)
                self._tell(LoadFailed(cancel.id, held.instruction_id, CANCELLED, cancel.copy))

        if held is not None and held.phase is ObservedPhase.LOADING:
            held.cancelled = True
        self._later(finish)

    def _place(self, place: Place) -> None:
        held = self.running.get(CopyId(place.id, place.copy))
        assert place.slots, place
        if held is not None and held.phase is ObservedPhase.READY:
            held.slots = place.slots

    def _quiesce(self, quiesce: Quiesce) -> None:
        copy_id = CopyId(quiesce.id, quiesce.copy)
        held = self.running.get(copy_id)

        def finish() -> None:
            self._tell(Quiesced(quiesce.id, quiesce.instruction_id, quiesce.copy))

        if held is not None:
            held.phase = ObservedPhase.QUIESCING
        self._later(finish, slowest_s=5.0)

    def _unload(self, unload: Unload) -> None:
        held = self.running.get(CopyId(unload.id, unload.copy))
        if held is not None:
            held.removing, held.phase = True, ObservedPhase.QUIESCING

        def finish() -> None:
            self._remove(held)
            self._tell(Unloaded(unload.id, unload.instruction_id, unload.copy))

        self._later(finish, slowest_s=2.0)

    def _remove(self, held: Running | None) -> None:
        """Removes these processes, not those that may have been started under their name since."""
        if held is not None and self.running.get(held.copy_id) is held:
            del self.running[held.copy_id]
