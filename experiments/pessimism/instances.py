"""Finite sets of responses whose reward is overrated where the reference seldom goes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

GOOD, OVERRATED = 24, 24
"""Responses of reward 1, and overrated ones."""
TOP = (1.05, 1.45)
"""What overrated responses are thought to earn; everything else at most 1 + `SPREAD`."""
SPREAD = 0.02
CEILING = 1.5
"""R_max, a bound on every estimate."""


class Instance(NamedTuple):
    """One prompt: pi_ref, the true reward r in [0, 1] and its estimate r^ in [0, 1.5], response by response.

    Attributes:
        coverage: C = E_pi*[pi*/pi_ref] of pi*, pi_ref restricted to the responses of reward 1.
    """

    reference: Float[np.ndarray, " responses"]
    reward: Float[np.ndarray, " responses"]
    estimate: Float[np.ndarray, " responses"]
    coverage: float

    @property
    def error(self) -> float:
        """eps, the root of E_ref[(r^ - r)^2]."""
        return float(np.sqrt(self.reference @ (self.estimate - self.reward) ** 2))

    def regret(self, law: Float[np.ndarray, "*laws responses"]) -> Float[np.ndarray, "*laws"]:
        """J(pi*) - J(pi), J the expected true reward; J(pi*) = 1."""
        return 1.0 - law @ self.reward


def random_instance(rng: np.random.Generator, coverage: float, error: float, ordinary: int = 200) -> Instance:
    """`GOOD` responses of reward 1 with mass 1/C in all, `OVERRATED` ones with as much mass as makes
    eps = `error` about right, and `ordinary` ones with the rest, of rewards uniform on [0, 0.6].

    Overrated responses earn uniform on [0, 0.2] and are thought to earn uniform on `TOP`; elsewhere the
    estimate is off by uniform on +-`SPREAD`. Within its kind a response's mass is drawn from a flat Dirichlet
    distribution. The overrated ones' mass is error^2 over their mean squared error, less what the spread
    contributes, and nothing where that is all.

    Raises:
        ValueError: an error that leaves no mass for ordinary responses.
    """
    low, high = rng.uniform(0, 0.2, OVERRATED), rng.uniform(*TOP, OVERRATED)
    part = rng.dirichlet(np.ones(OVERRATED))
    wrong = max(error**2 - SPREAD**2 / 3, 0.0) / float(part @ (high - low) ** 2)
    rest = 1 - 1 / coverage - wrong
    if rest <= 0:
        raise ValueError(f"error: {error:g} leaves no ordinary responses at coverage {coverage:g}")
    reward = np.concatenate([np.ones(GOOD), low, rng.uniform(0, 0.6, ordinary)])
    estimate = reward + rng.uniform(-SPREAD, SPREAD, reward.size)
    estimate[GOOD : GOOD + OVERRATED] = high
    reference = np.concatenate(
        [rng.dirichlet(np.ones(GOOD)) / coverage, part * wrong, rng.dirichlet(np.ones(ordinary)) * rest]
    )
    return Instance(reference, reward, np.clip(estimate, 0, CEILING), coverage)
