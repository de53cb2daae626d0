from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cluster.client.examples import Feature, Kind, read_features
from cluster.core.errors import InvalidArgument


@pytest.mark.parametrize(
    ("value", "feature"),
    [
        (2, Feature(Kind.INT64, (2,), scalar=True)),
        (2.0, Feature(Kind.FLOAT, (2.0,), scalar=True)),
        (True, Feature(Kind.INT64, (1,), scalar=True)),
        ("ä", Feature(Kind.BYTES, ("ä".encode(),), scalar=True)),
        (np.float32(0.5), Feature(Kind.FLOAT, (0.5,), scalar=True)),
        (np.array(3), Feature(Kind.INT64, (3,), scalar=True)),
        ([1, 2.5], Feature(Kind.FLOAT, (1.0, 2.5))),
        ((1, False), Feature(Kind.INT64, (1, 0))),
        (["a", b"\xff"], Feature(Kind.BYTES, (b"a", b"\xff"))),
        (np.array([1.5, 2.0], np.float32), Feature(Kind.FLOAT, (1.5, 2.0))),
        (np.array(["a"]), Feature(Kind.BYTES, (b"a",))),
        ([], Feature(Kind.NONE, ())),
    ],
)
def test_puts_values_into_the_list_of_their_type(value: Any, feature: Feature) -> None:
    read = read_features({"f": value})["f"]
    assert read == feature
    assert [type(item) for item in read.values] == [type(item) for item in feature.values]


@pytest.mark.parametrize("value", [None, [None], [1, "a"], [[1], [2]], np.ones((2, 2)), 2**63, {"a": 1}, [1j]])
def test_refuses_what_no_feature_holds(value: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"^Feature: f "):
        read_features({"f": value})
