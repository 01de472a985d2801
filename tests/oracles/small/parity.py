"""Blocks of even parity."""

from collections.abc import Sequence
from fractions import Fraction

from covlab.testing import Small
from tasks.parity import Parity


def small(length: int, block: int) -> Small:
    def reward(prompt: str, group: str, response: Sequence[int]) -> bool:
        blocks = [response[first : first + block] for first in range(0, length, block)]
        return set(response) <= {1, 2} and all(list(each).count(2) % 2 == 0 for each in blocks)

    def probability(prompt: str, response: Sequence[int]) -> Fraction:
        assert prompt == "="
        return Fraction(reward(prompt, "all", response), 2 ** (length - length // block))

    return Small(Parity(length=length, block=block), probability, reward)


INSTANCES = (small(4, 2),)
