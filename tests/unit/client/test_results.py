from __future__ import annotations

import numpy as np
import pytest

from cluster.client import Class, Classifications, InvalidArgument, Prediction, Regressions


def test_a_prediction_with_one_output_is_its_array() -> None:
    prediction = Prediction({"y": np.array([1.5], np.float32)}, model_version=3)
    assert np.asarray(prediction).tolist() == [1.5]
    assert np.asarray(prediction, dtype=np.float64).dtype == np.float64
    assert (np.add(prediction, 1)).tolist() == [2.5]
    assert np.asarray(prediction) is prediction["y"]
    assert np.array(prediction, copy=True) is not prediction["y"]


def test_a_prediction_with_several_outputs_is_none_of_them() -> None:
    with pytest.raises(InvalidArgument, match="2 outputs: a, b"):
        _ = Prediction({"b": np.ones(1), "a": np.ones(1)}).array


def test_results_are_sequences_in_the_order_of_the_examples() -> None:
    classifications = Classifications(((Class("a", 0.5),), (Class("b", 0.5),)))
    assert [classes[0].label for classes in classifications] == ["a", "b"]
    regressions = Regressions((1.0, 2.0, 3.0))
    assert (len(regressions), regressions[-1], regressions[:2]) == (3, 3.0, (1.0, 2.0))
