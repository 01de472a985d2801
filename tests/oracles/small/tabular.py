"""Random trees, summed in plain Python from the tables of the base model and of the leaves."""

import functools
import itertools
from collections.abc import Sequence
from fractions import Fraction

from covlab.testing import Small
from tasks.tabular import Tabular


def small(**options: object) -> Small:
    task = Tabular(**options)  # type: ignore[arg-type]
    reference, values = task.tables()
    size, length = task.num_symbols, task.length
    inner = [()] + [n for h in range(1, length) for n in itertools.product(range(1, size + 1), repeat=h)]
    leaves = list(itertools.product(range(1, size + 1), repeat=length))

    def tau(prompt: str, response: Sequence[int]) -> Fraction:
        tree = int(prompt.removeprefix("tree"))
        if tuple(response) not in leaves:
            return Fraction()
        return Fraction(float(values[tree, len(inner) + leaves.index(tuple(response))]))

    def joint(prompt: str, response: Sequence[int]) -> Fraction:
        tree, product = int(prompt.removeprefix("tree")), tau(prompt, response)
        for h, token in enumerate(response if product else ()):
            product *= Fraction(float(reference[tree, inner.index(tuple(response[:h])), token - 1]))
        return product

    @functools.cache
    def total(prompt: str) -> Fraction:
        return sum((joint(prompt, each) for each in leaves), Fraction())

    def probability(prompt: str, response: Sequence[int]) -> Fraction:
        return joint(prompt, response) / total(prompt)

    return Small(task, probability, lambda prompt, group, response: tau(prompt, response))


INSTANCES = (
    small(length=3, num_symbols=2, num_prompts=3, seed=1, density=0.6),
    small(length=2, num_symbols=3, num_prompts=2, seed=2, rewards="graded", concentration=0.5),
)
