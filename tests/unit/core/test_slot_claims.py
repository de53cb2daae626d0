from __future__ import annotations

from cluster.core.resources import Slot
from cluster.core.slot_claims import Claim, SlotClaims

CPU, OTHER = Slot("n"), Slot("o")


def claims_of(slots: tuple[Slot, ...], *replicas: str) -> SlotClaims:
    claims = SlotClaims()
    claims.assign(slots)
    for pid, replica in enumerate(replicas):
        claims.claim(replica, "n", pid, ())
    return claims


def test_a_replica_gets_a_free_slot_of_its_node_and_the_same_again() -> None:
    claims = claims_of((Slot("n", 1), Slot("n", 0), OTHER))
    assert [claims.claim(replica, "n", 1, ()) for replica in ("a", "b", "a")] == [Slot("n", 0), Slot("n", 1), Slot("n", 0)]
    assert claims.claim("c", "o", 2, ()) == OTHER


def test_one_that_finds_no_slot_is_told_who_holds_them_and_takes_that_of_a_dead_one() -> None:
    claims = claims_of((CPU, CPU), "a", "b")
    assert claims.claim("c", "n", 9, ()) == (0, 1)
    assert claims.claim("c", "n", 9, (1,)) == CPU
    assert claims.holders() == {"a", "c"}


def test_claims_on_slots_that_are_taken_away_lapse() -> None:
    claims = claims_of((Slot("n", 0), Slot("n", 1)), "a", "b")
    claims.assign((Slot("n", 1),))
    assert claims.holders() == {"b"}


def test_of_equal_slots_the_oldest_holders_stay() -> None:
    claims = claims_of((CPU, CPU, CPU), "a", "b", "c")
    claims.assign((CPU,))
    assert claims.holders() == {"a"}
    claims.assign((CPU, CPU))
    assert claims.claim("d", "n", 9, ()) == CPU
    assert claims.holders() == {"a", "d"}


def test_a_replica_whose_slot_was_taken_away_does_not_get_it_back_by_reporting() -> None:
    claims = claims_of((CPU, CPU), "a", "b")
    claims.assign((CPU,))
    claims.adopt(Claim("b", 1, CPU))
    assert (claims.holders(), claims.slots) == ({"a"}, (CPU,))


def test_replicas_that_report_after_a_restart_bring_their_slots_along() -> None:
    claims = SlotClaims()
    claims.adopt(Claim("a", 1, CPU))
    claims.adopt(Claim("b", 2, CPU))
    assert (claims.holders(), claims.slots) == ({"a", "b"}, (CPU, CPU))
    claims.adopt(Claim("a", 1, CPU))
    assert claims.slots == (CPU, CPU)
