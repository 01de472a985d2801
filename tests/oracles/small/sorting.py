"""Short strings, sorted by Python."""

from collections.abc import Sequence
from fractions import Fraction

from covlab.testing import Small
from tasks.sorting import Sorting


def answer(prompt: str, size: int) -> list[int]:
    """Tokens of the sorted string, padded: symbol i is token i."""
    found = sorted(int(word) for word in prompt.removesuffix("=").split())
    return found + [0] * (size - len(found))


def small(task: Sorting) -> Small:
    def probability(prompt: str, response: Sequence[int]) -> Fraction:
        return Fraction(answer(prompt, task.response_length) == list(response))

    def reward(prompt: str, group: str, response: Sequence[int]) -> bool:
        return probability(prompt, response) == 1

    return Small(task, probability, reward)


INSTANCES = (
    small(Sorting(min_length=1, length=5, longer=(), num_symbols=3)),
    small(Sorting(min_length=3, length=3, longer=(), num_symbols=11)),
)
