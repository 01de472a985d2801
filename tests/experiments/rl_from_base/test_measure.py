"""Measurements of reinforcement learning from the base: a route, predictors and correlations by hand."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from covlab.claims.matrices import RunMatrices
from experiments.rl_from_base.figures import tick_labels
from experiments.rl_from_base.measure import (
    DISTIL,
    RL,
    TUNED_RL,
    Measurements,
    Route,
    Settings,
    changes_of,
    route_of,
)
from experiments.rl_from_base.runs import settings_of


def matrices(probabilities: np.ndarray, weights: np.ndarray) -> RunMatrices:
    """One response per prompt; (seeds, checkpoints, prompts)."""
    log_probs = np.log(probabilities)
    count = probabilities.shape[2]
    return RunMatrices(
        phase="train",
        steps=(0, 10),
        seeds=(4,),
        diverged=(),
        log_probs=log_probs,
        log_pi=np.zeros(count),
        weights=weights,
        groups=np.zeros(count, int),
        log_prob_correct=log_probs,
        prompt_weights=weights,
    )


WEIGHTS = np.array([0.5, 0.3, 0.2])
FIRST = matrices(np.array([[[0.5, 0.1, 0.9], [0.9, 0.05, 0.9]]]), WEIGHTS)
SECOND = matrices(np.array([[[0.2, 0.2, 0.2], [1.0, 0.2, 0.1]]]), WEIGHTS)


def test_a_route_by_hand() -> None:
    """k = 2: 1 - (1 - p)^2. Cov_4 counts p <= 1/4."""
    route = route_of([FIRST, SECOND], 2, 4.0)
    np.testing.assert_allclose(route.pass_1[0], [[0.46, 0.645], [0.2, 0.58]])
    first = [0.5 * 0.75 + 0.3 * 0.19 + 0.2 * 0.99, 0.5 * 0.99 + 0.3 * 0.0975 + 0.2 * 0.99]
    np.testing.assert_allclose(route.pass_k[0, 0], first)
    np.testing.assert_allclose(route.coverage[0], [[0.3, 0.3], [1.0, 0.5]])
    np.testing.assert_allclose(route.kl[0, 0, 0], -(WEIGHTS @ np.log([0.5, 0.1, 0.9])))
    np.testing.assert_allclose(route.rise_1[0], [0.185, 0.38])
    np.testing.assert_allclose(route.rise_k[0, 0], first[1] - first[0])


def test_coverage_lost_and_gained_by_hand() -> None:
    """k = 2. The last prompt's Pass@2 of .99 is decided and does not count."""
    lost, gained = changes_of(FIRST, 2)
    np.testing.assert_allclose(lost, [0.3 * (0.19 - 0.0975)])
    np.testing.assert_allclose(gained, [0.5 * (0.99 - 0.75)])


def test_a_task_that_does_not_enumerate_is_refused() -> None:
    sampled = dataclasses.replace(FIRST, log_prob_correct=None)
    with pytest.raises(ValueError, match=r"^task: rl_from_base needs a task that enumerates"):
        route_of([FIRST, sampled], 2, 4.0)


def results() -> Measurements:
    """Two seeds, three starts: the three numbers before are all different, and each another order."""

    def route(shift: float, after: list[float]) -> Route:
        def ends(before: list[float], later: list[float]) -> np.ndarray:
            return np.stack([np.tile(before, (2, 1)) + shift, np.tile(later, (2, 1))], axis=-1)

        return Route(
            np.array([0, 10]),
            ends([0.3, 0.2, 0.1], after),
            ends([0.1, 0.2, 0.3], after),
            ends([0.1, 0.3, 0.2], after),
            ends([1.0, 2.0, 3.0], after),
        )

    routes = {RL: route(0.0, [0.4, 0.5, 0.6]), TUNED_RL: route(0.4, [0.7, 0.8, 0.9])}
    lost, gained = np.tile([1.0, 1.0, 0.0], (2, 1)), np.tile([3.0, 1.0, 0.0], (2, 1))
    return Measurements(
        (1, 2), (1, 2, 3), (0.1, 0.5, 1.0), 8, 4.0, 0.8, routes | {DISTIL: routes[RL]}, lost, gained, 0.0
    )


def test_predictors_are_before_and_turned_so_that_higher_is_better() -> None:
    found = results().predictors(RL, TUNED_RL)
    assert list(found) == ["Pass@1", "Pass@8", "Cov_4", "KL"]
    np.testing.assert_allclose(found["Pass@1"][0], [0.3, 0.2, 0.1, 0.7, 0.6, 0.5])
    np.testing.assert_allclose(found["Cov_4"][0], [-0.1, -0.3, -0.2, -0.5, -0.7, -0.6])
    tuned = results().predictors(TUNED_RL)
    np.testing.assert_allclose(tuned["rho_8"][0], [-0.25, -0.5, -0.5])


def test_rank_correlations_by_hand() -> None:
    """Of three ranks: -1 reversed, 1 in order, and 1 - 6 (4 + 1 + 1)/24 = -.5 for 3, 1, 2."""
    each, over = results().correlations(RL)
    assert {name: round(own.estimate, 6) for name, own in each.items()} == {
        "Pass@1": -1.0, "Pass@8": 1.0, "Cov_4": -0.5, "KL": -1.0,
    }  # fmt: skip
    assert {name: round(own.estimate, 6) for name, own in over.items()} == {
        "Pass@1": 0.5, "Pass@8": -1.5, "KL": 0.5,
    }  # fmt: skip
    # Of both routes together the tuned starts' Cov_4 is worse, where they end higher: ranks 6, 4, 5, 3, 1, 2.
    both, _ = results().correlations(RL, TUNED_RL)
    assert both["Cov_4"].estimate == pytest.approx(1 - 6 * (25 + 4 + 4 + 1 + 16 + 16) / 210)
    # The gain of Pass@1 from the base: .1, .3, .5.
    gains, _ = results().correlations(RL, gain=True)
    assert gains["Pass@8"].estimate == pytest.approx(1)


def test_distillation_takes_over_what_it_does_not_state() -> None:
    given: dict[str, Any] = {
        "starts": (1, 2, 3), "k": 32, "n": 32.0, "target": {}, "tune": {"steps": 1},
        "rl": {"steps": 7, "objective": {"_target_": "A", "clip": 1}, "optimizer": {"a": 1, "b": 2}},
        "distil": {"objective": {"_target_": "B"}, "optimizer": {"b": 3}},
    }  # fmt: skip
    own = Settings(**given)
    assert settings_of(own, DISTIL) == {
        "steps": 7, "objective": {"_target_": "B"}, "optimizer": {"a": 1, "b": 3},
    }  # fmt: skip
    assert settings_of(own, RL) == settings_of(own, TUNED_RL) == given["rl"]


def test_labels_do_not_touch() -> None:
    assert tick_labels(np.array([1.0, 7.5, 10.0, 13.3, 100.0])) == ["1", "7.5", "", "13.3", "100"]
