"""Linear models, normalised token by token in plain Python from theta* and the features' definition."""

from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np

from covlab.testing import Small
from oracles import linear
from tasks import AutoregressiveLinear


def position(task: AutoregressiveLinear) -> Callable[[int], linear.Phi]:
    """B s_x y_h/(V - 1) e_h, by its formula."""

    def of_prompt(prompt: int) -> linear.Phi:
        scale = prompt / (task.num_prompts - 1) if task.num_prompts > 1 else 1.0

        def phi(prefix: tuple[int, ...]) -> np.ndarray:
            vector = np.zeros(task.horizon)
            vector[len(prefix) - 1] = task.bound * scale * prefix[-1] / (task.num_symbols - 1)
            return vector

        return phi

    return of_prompt


def random(task: AutoregressiveLinear) -> Callable[[int], linear.Phi]:
    """Features from the table, the only definition of random ones."""
    table = task.features.table()

    def of_prompt(prompt: int) -> linear.Phi:
        def phi(prefix: tuple[int, ...]) -> np.ndarray:
            before = prefix[-2] if len(prefix) > 1 else task.num_symbols
            return np.asarray(table[prompt, len(prefix) - 1, before, prefix[-1]])

        return phi

    return of_prompt


def small(task: AutoregressiveLinear) -> Small:
    of_prompt = {"position": position, "random": random}[task.family](task)

    def legal(prompt: str, group: str, response: Sequence[int]) -> bool:
        assert group in ("all", prompt)
        return all(1 <= token <= task.num_symbols for token in response)

    def probability(prompt: str, response: Sequence[int]) -> Fraction:
        if not legal(prompt, "all", response):
            return Fraction()
        phi = of_prompt(int(prompt.removeprefix("x")))
        tokens = [token - 1 for token in response]
        return Fraction(float(np.exp(linear.log_prob(phi, task.num_symbols, task.theta_star(), tokens))))

    return Small(task, probability, legal)


INSTANCES = (
    small(AutoregressiveLinear(horizon=3, num_prompts=2, seed=1, theta_seed=2)),
    small(
        AutoregressiveLinear(
            horizon=2, num_symbols=3, num_prompts=3, family="position", prompt_probs=(0.5, 0.3, 0.2),
            classes="prompts",
        )
    ),
)  # fmt: skip
