"""Words of two letters."""

from collections.abc import Sequence
from fractions import Fraction

from covlab.testing import Small
from tasks.perturbation import Perturbation

LENGTH = 3


def reward(prompt: str, group: str, response: Sequence[int]) -> bool:
    return set(response) <= {1, 2}


def probability(prompt: str, response: Sequence[int]) -> Fraction:
    assert prompt == "="
    return Fraction(reward(prompt, "all", response), 2**LENGTH)


INSTANCES = (Small(Perturbation(length=LENGTH), probability, reward),)
