from __future__ import annotations

import numpy as np
import pytest

from cluster.core.errors import InvalidArgument
from scripts.validation import Margin, Score, decide, score

MARGIN = Margin(accuracy=0.01, log_loss=0.02, rows=100)
SERVED = Score(500, accuracy=0.80, log_loss=0.50)


def test_a_candidate_that_is_better_in_both_by_the_margin_is_published() -> None:
    verdict = decide(Score(500, 0.81, 0.48), SERVED, MARGIN)
    assert verdict.publish
    assert verdict.reason == ("better: accuracy +1.00 points (+1.00 or more wanted), log loss -0.020 (-0.020 or less wanted)")


@pytest.mark.parametrize(
    ("accuracy", "log_loss"),
    [
        pytest.param(0.80, 0.50, id="equal"),
        pytest.param(0.75, 0.60, id="worse"),
        pytest.param(0.8099, 0.30, id="hardly more accurate"),
        pytest.param(0.90, 0.4801, id="hardly less loss"),
        pytest.param(0.90, 0.70, id="more accurate, and more often certain when it is wrong"),
        pytest.param(0.70, 0.30, id="less loss, and less accurate"),
    ],
)
def test_any_other_is_not_better(accuracy: float, log_loss: float) -> None:
    verdict = decide(Score(500, accuracy, log_loss), SERVED, MARGIN)
    assert not verdict.publish
    assert verdict.reason.startswith("not better: accuracy ")


@pytest.mark.parametrize("served", [SERVED, None])
def test_too_few_rows_decide_nothing(served: Score | None) -> None:
    verdict = decide(Score(99, 1.0, 0.0), served, MARGIN)
    assert not verdict.publish
    assert verdict.reason == "too little data: 99 held-back rows, 100 are needed"


def test_the_first_version_has_none_to_beat() -> None:
    assert decide(Score(100, 0.4, 1.0), None, MARGIN).publish


def test_a_score_counts_right_rows_and_punishes_false_certainty() -> None:
    probabilities = np.array([[0.5, 0.25, 0.25], [0.0, 0.5, 0.5], [0.0, 0.0, 1.0], [0.25, 0.5, 0.25]], np.float32)
    told = score(probabilities, np.array([0, 2, 2, 0]))
    assert told.rows == 4
    assert told.accuracy == 0.5  # of equal ones the first is the answer
    assert told.log_loss == pytest.approx((np.log(2) + np.log(2) + 0.0 + np.log(4)) / 4)
    certain_and_wrong = score(np.array([[1.0, 0.0, 0.0]]), np.array([1]))
    assert certain_and_wrong.log_loss == pytest.approx(16.1, abs=0.1)


@pytest.mark.parametrize(
    ("probabilities", "message"),
    [
        pytest.param([[0.5, 0.5]], "not one for each class", id="a class too few"),
        pytest.param([[0.3, 0.3, 0.4]] * 2, "not one for each class", id="a row too many"),
        pytest.param([0.3, 0.3, 0.4], "not one for each class", id="no rows"),
        pytest.param([[2.0, -3.0, 5.0]], "must add up to 1", id="logits"),
        pytest.param([[1.5, -0.5, 0.0]], "must add up to 1", id="negative"),
        pytest.param([[np.nan, 0.5, 0.5]], "must add up to 1", id="nan"),
    ],
)
def test_what_is_no_probabilities_is_not_scored(probabilities: list[list[float]], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        score(np.array(probabilities), np.array([2]))
