"""Counts over the responses of decoders."""

import numpy as np

from metrics.answers import Answers, distinct_correct, summaries

ANSWERS = Answers(
    responses=np.array([[[1, 2], [1, 2], [2, 1], [3, 3]], [[1, 1], [1, 1], [1, 1], [1, 1]]]),
    finished=np.array([[True, True, True, False], [True, True, True, True]]),
    reward=np.array([[1.0, 1.0, 1.0, 0.0], [1.0, 0.0, 1.0, 1.0]]),
    queries=np.array([[4, 8, 10, 16], [2, 2, 2, 12]]),
    tokens=np.array([[2, 4, 5, 8], [2, 2, 2, 6]]),
)


def test_different_correct_responses_are_counted_once() -> None:
    assert distinct_correct(ANSWERS).tolist() == [2, 1]
    found = summaries(ANSWERS)
    assert found["accuracy"].tolist() == [0.75, 0.75]
    assert found["finished"].tolist() == [0.75, 1.0]
    assert found["queries"].tolist() == [9.5, 4.5]
    assert found["tokens"].tolist() == [4.75, 3.0]


def test_a_smaller_budget_leaves_those_that_needed_no_more() -> None:
    small = ANSWERS.within(8)
    assert small.finished.tolist() == [[True, True, False, False], [True, True, True, False]]
    assert small.reward.tolist() == [[1, 1, 0, 0], [1, 0, 1, 0]]
    assert small.correct.tolist() == [[True, True, False, False], [True, False, True, False]]
    assert small.queries.tolist() == [[4, 8, 8, 8], [2, 2, 2, 8]]
    assert distinct_correct(small).tolist() == [1, 1]
    assert ANSWERS.within(16).correct.tolist() == ANSWERS.correct.tolist()


def test_a_chain_that_is_cut_has_spent_tokens_in_proportion_rounded_up() -> None:
    # 5 * 9/10, 8 * 9/16 and 6 * 9/12 are 4.5.
    assert ANSWERS.within(9).tokens.tolist() == [[2, 4, 5, 5], [2, 2, 2, 5]]
