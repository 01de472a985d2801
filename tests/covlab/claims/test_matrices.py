"""Selections from a run's matrices."""

import dataclasses

import numpy as np
import pytest

from covlab.claims.matrices import RunMatrices


def test_seeds_are_selected_in_their_order() -> None:
    values = -np.arange(6.0).reshape(3, 1, 2)
    whole = RunMatrices(
        phase="train",
        steps=(0,),
        seeds=(4, 5, 7),
        diverged=(6,),
        log_probs=values,
        log_pi=np.zeros(2),
        weights=np.full(2, 0.5),
        groups=np.zeros(2, int),
        log_prob_correct=values - 1,
        prompt_weights=np.full(2, 0.5),
    )
    found = whole.of_seeds((7, 4))
    assert found.seeds == (7, 4)
    np.testing.assert_array_equal(found.log_probs, values[[2, 0]])
    np.testing.assert_array_equal(found.log_prob_correct, values[[2, 0]] - 1)
    assert dataclasses.replace(whole, log_prob_correct=None).of_seeds((5,)).log_prob_correct is None
    with pytest.raises(ValueError, match="not in"):
        whole.of_seeds((6,))
