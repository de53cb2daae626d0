from __future__ import annotations

import threading

from servables.request_log.record_queue import QueueLimits, RecordQueue


def queue(max_items: int = 100, max_bytes: int = 100) -> RecordQueue[str]:
    return RecordQueue(QueueLimits(max_items=max_items, max_bytes=max_bytes))


def test_keeps_the_order() -> None:
    waiting = queue()
    assert waiting.put("a", 1)
    assert waiting.put("b", 1)
    assert [waiting.take(), waiting.take(), waiting.take(0)] == ["a", "b", None]


def test_refuses_what_is_too_much_and_has_room_again_once_something_is_taken() -> None:
    for waiting in (queue(max_items=2), queue(max_bytes=20)):
        assert waiting.put("a", 10)
        assert waiting.put("b", 10)
        assert not waiting.put("c", 10)
        assert waiting.take() == "a"
        assert waiting.put("d", 10)
        assert [waiting.take(), waiting.take()] == ["b", "d"]


def test_one_that_is_larger_than_all_room_waits_alone() -> None:
    waiting = queue(max_bytes=20)
    assert waiting.put("large", 1000)
    assert not waiting.put("small", 1)
    assert waiting.take() == "large"
    assert waiting.put("small", 1)
    assert not waiting.put("large", 1000)


def test_a_closed_queue_takes_nothing_and_still_gives_what_waits() -> None:
    waiting = queue()
    waiting.put("a", 1)
    waiting.close()
    assert not waiting.put("b", 1)
    assert not waiting.ended
    assert waiting.take() == "a"
    assert waiting.ended
    assert waiting.take() is None


def test_a_nudge_wakes_who_waits_for_an_item() -> None:
    waiting = queue()
    taken: list[str | None] = []
    taker = threading.Thread(target=lambda: taken.append(waiting.take(30)))
    taker.start()
    waiting.nudge()
    taker.join(30)
    assert taken == [None]


def test_a_nudge_lets_what_waits_be_taken_first() -> None:
    waiting = queue()
    waiting.put("a", 1)
    waiting.nudge()
    assert [waiting.take(30), waiting.take(30)] == ["a", None]
