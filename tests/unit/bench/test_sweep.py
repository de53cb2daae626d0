from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.bench.sweep import MAX_POINTS, parse_sweep, parse_whole_sweep
from cluster.core.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("8", (8,)),
        ("1,8, 32", (1, 8, 32)),
        ("1:64:x2", (1, 2, 4, 8, 16, 32, 64)),
        ("1:50:x2", (1, 2, 4, 8, 16, 32)),
        ("100:1000:300", (100, 400, 700, 1000)),
        ("5:5:1", (5,)),
        ("1,10:30:10", (1, 10, 20, 30)),
    ],
)
def test_reads_numbers_lists_and_ranges(text: str, values: tuple[float, ...]) -> None:
    assert parse_sweep("--concurrency", text) == values


def test_the_last_value_of_steps_with_fractions_is_not_lost_to_rounding() -> None:
    assert len(parse_sweep("--request_rate", "0.1:1:0.1")) == 10
    assert len(parse_sweep("--request_rate", "1:2:x1.1")) == 8


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a number, a list"),
        ("many", "expected a number, a list"),
        ("1:64", "expected a number, a list"),
        ("1:64:*2", "expected a number, a list"),
        ("64:1:x2", "1 is below 64"),
        ("0", "0 is not above zero"),
        ("-3", "-3 is not above zero"),
        ("nan", "nan is not above zero"),
        ("1:inf:x2", "inf is not above zero"),
        ("1:8:x1", "the factor must be above 1"),
        ("1:8:0", "0 is not above zero"),
        ("1:1000:1", f"more than {MAX_POINTS} values"),
    ],
)
def test_a_wrong_sweep_is_told_with_its_flag(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^--request_rate={text.replace('*', '[*]')}: {message}"):
        parse_sweep("--request_rate", text)


def test_what_is_counted_has_no_fractions() -> None:
    assert parse_whole_sweep("--concurrency", "1:4:x2") == (1, 2, 4)
    with pytest.raises(ConfigError, match=r"^--concurrency=1.5: 1.5 is not a whole number$"):
        parse_whole_sweep("--concurrency", "1.5")


@given(first=st.integers(1, 50), steps=st.integers(0, 40), step=st.integers(1, 1000))
def test_a_range_goes_up_by_its_step_to_its_end(first: int, steps: int, step: int) -> None:
    values = parse_whole_sweep("--concurrency", f"{first}:{first + steps * step}:{step}")
    assert values == tuple(range(first, first + steps * step + 1, step))
