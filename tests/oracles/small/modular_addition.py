"""Small moduli, answered from the text of the prompt."""

from collections.abc import Sequence
from fractions import Fraction

from covlab.testing import Small
from tasks.modular_addition import ModularAddition


def small(task: ModularAddition) -> Small:
    def probability(prompt: str, response: Sequence[int]) -> Fraction:
        a, plus, b, equals = prompt.split()
        assert (plus, equals) == ("+", "=")
        return Fraction(list(response) == [1 + (int(a) + int(b)) % task.modulus])

    def reward(prompt: str, group: str, response: Sequence[int]) -> bool:
        return probability(prompt, response) == 1

    return Small(task, probability, reward)


INSTANCES = (
    small(ModularAddition(modulus=11)),
    small(ModularAddition(modulus=12, fraction=0.3, split_seed=1, commuted=True)),
)
