"""Clever Hans: a model that takes one of d arms at random, from closed form to the project's own metrics.

Derived from the path-star task of Bachmann and Nagarajan, arXiv 2403.06963: cross-entropy ln d, Cov_N = 1 for
N <= d and 0 beyond, Pass@N = 1 - (1 - 1/d)^N.
"""

import itertools
import math

import numpy as np
import pytest

from experiments.path_star.measure import clever_hans
from metrics import coverage_profile, cross_entropy, kl, log_density_ratio, pass_at_n, pass_at_n_unbiased
from metrics.evaluators import DistributionEvaluator, make_held_out
from tasks import PathStar

PASS_NS = (1, 2, 4, 12)


@pytest.mark.long
@pytest.mark.parametrize("arms", [2, 5])
def test_metrics_of_a_random_arm_are_the_closed_form(arms: int) -> None:
    task = PathStar(arms=arms, path_length=3, num_ids=2 * arms + 4)
    held_out = make_held_out(task, 40, 40, 0)
    ns = (1, arms / 1.001, arms, arms * 1.001, 10 * arms)
    scores = {
        "log_prob": np.full(held_out.log_pi.shape, -math.log(arms), np.float32),
        "greedy": np.eye(arms, dtype=bool)[np.zeros(40, int)],
    }
    found = dict(DistributionEvaluator(ns, PASS_NS).reduce(scores, held_out))
    closed = clever_hans(arms, ns, PASS_NS)
    assert closed.cross_entropy == math.log(arms)
    assert list(closed.cov.values()) == [1, 1, 1, 0, 0]
    assert found["ce"] == found["kl"] == pytest.approx(math.log(arms), abs=1e-6)
    assert [value for key, value in found.items() if key.startswith("cov/")] == [1, 1, 1, 0, 0]
    for n in PASS_NS:
        assert found[f"pass/{n}"] == pytest.approx(1 - (1 - 1 / arms) ** n, abs=1e-6)
        assert closed.passes[n] == 1 - (1 - 1 / arms) ** n
    assert found["validity"] == pytest.approx(1, abs=1e-6)
    # Always the first of the arms: right where the goal happens to be there.
    assert found["accuracy"] == pytest.approx(held_out.correct[:, 0].mean())


@pytest.mark.parametrize("arms", [2, 3])
def test_closed_form_equals_every_sequence_of_draws_counted_out(arms: int) -> None:
    # Arm 0 is right; each of N draws takes any arm.
    for n in (1, 2, 4):
        draws = list(itertools.product(range(arms), repeat=n))
        hit = sum(0 in each for each in draws) / len(draws)
        assert clever_hans(arms, (1,), (n,)).passes[n] == pytest.approx(hit, abs=1e-12)
        log_prob = np.log(np.full(3, 1 / arms))
        assert pass_at_n(log_prob, (n,))[0, 0] == pytest.approx(hit, abs=1e-12)
        of_samples = [pass_at_n_unbiased(n, np.array(each.count(0)), (n,))[0] for each in draws]
        assert np.mean(of_samples) == pytest.approx(hit, abs=1e-12)
    log_ratio = log_density_ratio(np.zeros(3), np.log(np.full(3, 1 / arms)))
    assert coverage_profile(log_ratio, (arms, arms + 0.01)).tolist() == [1, 0]
    assert kl(log_ratio) == cross_entropy(np.log(np.full(3, 1 / arms))) == pytest.approx(math.log(arms))
