"""Short bit strings, tilted in plain Python from their text."""

import itertools
import math
from collections.abc import Sequence
from fractions import Fraction

from covlab.testing import Small
from tasks.delay import Delay


def small(length: int, tilt: float | None) -> Small:
    def tau(response: Sequence[int]) -> Fraction:
        if len(response) != length or set(response) - {1, 2}:
            return Fraction()
        ones = sum(token == 2 for token in response)
        return Fraction(ones, length) if tilt is None else Fraction(math.exp(-tilt * (length - ones)))

    total = sum((tau(each) for each in itertools.product((1, 2), repeat=length)), Fraction())

    def probability(prompt: str, response: Sequence[int]) -> Fraction:
        assert prompt == "="
        return tau(response) / total

    def reward(prompt: str, group: str, response: Sequence[int]) -> Fraction:
        return tau(response)

    return Small(Delay(length=length, tilt=tilt), probability, reward)


INSTANCES = (small(4, 1.5), small(3, None))
