from __future__ import annotations

import pytest

from cluster.core.errors import Code
from cluster.core.retrier import Retrier


def test_one_attempt_and_as_many_retries_as_it_says() -> None:
    retrier = Retrier(max_num_retries=2, interval_s=60.0)
    assert [retrier.next_attempt(attempts, now=5.0) for attempts in (1, 2, 3)] == [65.0, 65.0, None]


def test_no_retries_is_one_attempt() -> None:
    assert Retrier(max_num_retries=0, interval_s=60.0).next_attempt(1, now=5.0) is None


def test_a_failure_that_lies_in_the_version_heals_by_other_files_alone() -> None:
    retrier = Retrier(max_num_retries=0, interval_s=60.0)
    assert retrier.healing_attempt(Code.DATA_LOSS, now=5.0) is None
    assert retrier.healing_attempt(Code.UNAVAILABLE, now=5.0) == 65.0


def test_what_may_pass_is_never_tried_without_a_pause() -> None:
    assert Retrier(max_num_retries=0, interval_s=-1.0).healing_attempt(Code.UNAVAILABLE, now=5.0) == 15.0


@pytest.mark.parametrize("interval_s", [0.0, -1.0])
def test_without_an_interval_the_next_attempt_is_at_once(interval_s: float) -> None:
    assert Retrier(max_num_retries=1, interval_s=interval_s).next_attempt(1, now=5.0) == 5.0
