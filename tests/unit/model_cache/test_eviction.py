"""Which versions leave the cache."""

from __future__ import annotations

from cluster.model_cache.eviction import HeldVersion, Room, Shortage, evictions, shortage

OLD = HeldVersion("old", 10, 1.0)
MIDDLE = HeldVersion("middle", 20, 2.0)
NEW = HeldVersion("new", 30, 3.0)


def test_nothing_leaves_while_there_is_room() -> None:
    assert evictions([NEW, OLD], 0) == []


def test_the_longest_unused_leave_until_there_is_room() -> None:
    assert evictions([NEW, OLD, MIDDLE], 5) == [OLD]
    assert evictions([NEW, OLD, MIDDLE], 10) == [OLD]
    assert evictions([NEW, OLD, MIDDLE], 11) == [OLD, MIDDLE]


def test_all_leave_when_that_is_not_enough() -> None:
    assert evictions([NEW, OLD], 1000) == [OLD, NEW]


def test_a_limited_cache_lacks_what_exceeds_its_limit() -> None:
    room = Room(max_bytes=100, used_bytes=80, free_bytes=10_000, disk_bytes=100_000)
    assert shortage(20, room).wanted <= 0
    assert shortage(30, room) == Shortage(needed=10, wanted=10)


def test_a_limited_cache_on_a_full_disk_lacks_what_exceeds_the_disk() -> None:
    room = Room(max_bytes=1000, used_bytes=80, free_bytes=10, disk_bytes=100_000)
    assert shortage(30, room) == Shortage(needed=20, wanted=20)


def test_a_cache_without_a_limit_spares_some_of_its_disk_if_it_can() -> None:
    room = Room(max_bytes=0, used_bytes=500, free_bytes=60, disk_bytes=1000)
    assert shortage(10, room).wanted <= 0
    assert shortage(30, room) == Shortage(needed=0, wanted=20)
    assert shortage(70, room) == Shortage(needed=10, wanted=60)
