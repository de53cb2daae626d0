"""Which replica process holds which slot of a version's reservation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from cluster.core.resources import Slot


@dataclass(frozen=True, slots=True)
class Claim:
    """One replica's hold on one slot; `pid` is the replica's process on the slot's node."""

    replica_id: str
    pid: int
    slot: Slot


@dataclass(slots=True)
class SlotClaims:
    """The claims of one version's replicas.

    Serve decides when a replica is replaced, and tells nobody. So the new process claims: it gets a free slot of its node, or
    the pids of those that hold the slots there, finds out itself which of them are dead (they were on its own node), and
    claims again, naming the dead.
    """

    slots: tuple[Slot, ...] = ()
    _claims: dict[str, Claim] = field(default_factory=dict)
    _assigned: bool = False

    def assign(self, slots: Sequence[Slot]) -> None:
        """The version's slots are now these; claims on others lapse, the youngest first: so Serve chooses what it stops."""
        self.slots = tuple(slots)
        self._assigned = True
        left = Counter(self.slots)
        for claim in tuple(self._claims.values()):
            if left[claim.slot]:
                left[claim.slot] -= 1
            else:
                del self._claims[claim.replica_id]

    def claim(self, replica_id: str, node_id: str, pid: int, dead: Collection[int]) -> Slot | tuple[int, ...]:
        """A slot on `node_id` for the replica, or the pids that hold all of them. Repeating a claim gives the same slot."""
        if replica_id in self._claims:
            return self._claims[replica_id].slot
        on_node = [claim for claim in self._claims.values() if claim.slot.node_id == node_id]
        for claim in on_node:
            if claim.pid in dead and claim.pid != pid:
                del self._claims[claim.replica_id]
        free = sorted(self._free(node_id), key=lambda slot: -1 if slot.gpu is None else slot.gpu)
        if not free:
            return tuple(claim.pid for claim in on_node)
        self._claims[replica_id] = Claim(replica_id, pid, free[0])
        return free[0]

    def adopt(self, claim: Claim) -> None:
        """A replica that already runs in its slot reports: the manager has restarted, or has taken the slot away.

        Once slots have been assigned, one replica more than they have room for is one that Serve is about to stop.
        """
        others = [held for held in self._claims.values() if held.slot == claim.slot and held.replica_id != claim.replica_id]
        surplus = len(others) >= self.slots.count(claim.slot)
        if surplus and self._assigned and claim.slot in self.slots:
            return
        self._claims[claim.replica_id] = claim
        if surplus:
            self.slots = (*self.slots, claim.slot)

    def holders(self) -> frozenset[str]:
        """The ids of the replicas that hold a slot; all others are gone or going."""
        return frozenset(self._claims)

    def _free(self, node_id: str) -> list[Slot]:
        free = [slot for slot in self.slots if slot.node_id == node_id]
        for claim in self._claims.values():
            if claim.slot in free:
                free.remove(claim.slot)
        return free
