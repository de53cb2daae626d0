from __future__ import annotations

from servables.run_metrics import MeasuredServable
from servables.servable import Servable


def test_a_measured_servable_hides_nothing_of_the_one_in_it() -> None:
    """What it did not pass on would be answered by the base class, and nobody would notice."""
    passed_on = {name for name in vars(Servable) if not name.startswith("_")}
    assert passed_on <= vars(MeasuredServable).keys()
    assert "profile" in passed_on
