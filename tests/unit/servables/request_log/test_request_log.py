from __future__ import annotations

import pytest

from servables.request_log.request_log import is_sampled


@pytest.mark.parametrize(
    ("sampling_rate", "chance", "sampled"),
    [
        (0.0, 0.0, False),
        (1.0, 0.9999999999999999, True),
        (0.25, 0.2499, True),
        (0.25, 0.25, False),
    ],
)
def test_a_request_is_sampled_by_chance_alone(sampling_rate: float, chance: float, sampled: bool) -> None:
    assert is_sampled(sampling_rate, chance) is sampled
