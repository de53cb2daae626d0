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
from cluster.core.servable_id import ServableId
from cluster.core.servable_state import ServableState
from tests.fakes.manual_clock import ManualClock

CANCELLED = Status(Code.CANCELLED, "Loading of servable cancelled")
BROKEN = Status(Code.INTERNAL, "cannot read the graph")


@dataclass(slots=True)
class Running:
    """A version that has processes, with the place and the phase of these."""

    version: AspiredVersion
    resources: ReplicaResources
    slots: tuple[Slot, ...]
    instruction_id: str
    phase: ObservedPhase = ObservedPhase.LOADING
    removing: bool = False


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
        self.running: dict[ServableId, Running] = {}
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
                ObservedServable(held.version, held.phase, held.slots, held.instruction_id, held.resources)
                for held in self.running.values()
            )
        )

    def _restart(self) -> None:
        for servable, held in list(self.running.items()):
            held.removing = False
            held.slots = tuple(slot for slot in held.slots if self._lives(slot.node_id))
            if len(held.slots) > 1 and self._random.random() < 0.1:
                held.slots = held.slots[1:]  # one of the replicas did not report in time
            if held.phase is ObservedPhase.QUIESCING and self._random.random() < 0.5:
                held.phase = ObservedPhase.READY  # it had not reached the replicas yet
            if not held.slots or self._random.random() < 0.05:
                del self.running[servable]
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
        held = self.running.get(load.version.id)
        if held is None or held.removing:
            assert load.slots, load
            held = self.running[load.version.id] = Running(load.version, load.resources, load.slots, load.instruction_id)
            self._clock.after(self._random.uniform(0.5, 10.0), lambda: self._finish_load(held))
        elif held.phase is ObservedPhase.LOADING:
            held.instruction_id = load.instruction_id
        else:
            assert held.phase is ObservedPhase.READY, (load, held)
            self._tell(Loaded(load.version.id, load.instruction_id))

    def _finish_load(self, held: Running) -> None:
        servable = held.version.id
        if self.running.get(servable) is not held or held.phase is not ObservedPhase.LOADING:
            return
        if not self.up:
            self._clock.after(1.0, lambda: self._finish_load(held))
        elif not all(self._lives(slot.node_id) for slot in held.slots):
            pass  # hangs until it is cancelled
        elif self._fails(held.version):
            del self.running[servable]
            self._tell(LoadFailed(servable, held.instruction_id, BROKEN))
        else:
            held.phase = ObservedPhase.READY
            self._tell(Loaded(servable, held.instruction_id))

    def _cancel(self, cancel: CancelLoad) -> None:
        held = self.running.get(cancel.id)

        def finish() -> None:
            if held is not None and self.running.get(cancel.id) is held and held.phase is ObservedPhase.LOADING:
                self._remove(held)
                self._tell(LoadFailed(cancel.id, held.instruction_id, CANCELLED))

        self._later(finish)

    def _place(self, place: Place) -> None:
        held = self.running.get(place.id)
        assert place.slots, place
        if held is not None and held.phase is ObservedPhase.READY:
            held.slots = place.slots

    def _quiesce(self, quiesce: Quiesce) -> None:
        held = self.running.get(quiesce.id)

        def finish() -> None:
            if held is not None and self.running.get(quiesce.id) is held:
                if held.phase is ObservedPhase.LOADING:
                    self._later(finish)
                    return
                held.phase = ObservedPhase.QUIESCING
            self._tell(Quiesced(quiesce.id, quiesce.instruction_id))

        if held is not None and held.phase is ObservedPhase.READY:
            held.phase = ObservedPhase.QUIESCING
        self._later(finish, slowest_s=5.0)

    def _unload(self, unload: Unload) -> None:
        held = self.running.get(unload.id)
        if held is not None:
            held.removing = True

        def finish() -> None:
            self._remove(held)
            self._tell(Unloaded(unload.id, unload.instruction_id))

        self._later(finish, slowest_s=2.0)

    def _remove(self, held: Running | None) -> None:
        """Removes these processes, not those that may have been started under their name since."""
        if held is not None and self.running.get(held.version.id) is held:
            del self.running[held.version.id]
