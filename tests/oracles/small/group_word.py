"""Small word problems, answered from the text of the prompt: residues and permutations in plain Python."""

from collections.abc import Sequence
from fractions import Fraction
from itertools import permutations
from typing import Any

from covlab.testing import Small
from tasks.group_word import GroupWord


def elements(group: str) -> list[str]:
    """Names of the elements in the order of their tokens."""
    kind, size = group[0], int(group[1:])
    if kind == "z":
        return [str(i) for i in range(size)]
    every = ["".join(p) for p in permutations("12345"[:size])]
    return every if kind == "s" else [p for p in every if sign(p) == 1]


def sign(permutation: str) -> int:
    """(-1)^(points - cycles)."""
    left, cycles = set(permutation), 0
    while left:
        cycles += 1
        point = min(left)
        while point in left:
            left.remove(point)
            point = permutation[int(point) - 1]
    return (-1) ** (len(permutation) - cycles)


def times(group: str, first: str, then: str) -> str:
    """The product: residues added, permutations applied one after the other."""
    if group[0] == "z":
        return str((int(first) + int(then)) % int(group[1:]))
    return "".join(then[int(image) - 1] for image in first)


def running(group: str, prompt: str) -> list[str]:
    """All running products of the elements of a prompt."""
    words = prompt.removesuffix("=").split()
    products = words[:1]
    for word in words[1:]:
        products.append(times(group, products[-1], word))
    return products


def answer(task: GroupWord, prompt: str) -> list[int]:
    """Tokens of the right response, padded."""
    products = running(task.group, prompt)
    asked = products if task.answer == "running" else products[-1:]
    tokens = [1 + elements(task.group).index(name) for name in asked]
    return tokens + [0] * (task.response_length - len(tokens))


def small(**options: Any) -> Small:
    task = GroupWord(**options)
    noise = Fraction(task.noise).limit_denominator(1000)
    order = len(elements(task.group))

    def probability(prompt: str, response: Sequence[int]) -> Fraction:
        law = Fraction(1)
        for right, found in zip(answer(task, prompt), response, strict=True):
            if right == 0 or not 1 <= found <= order:
                law *= found == right
            else:
                law *= 1 - noise if found == right else noise / (order - 1)
        return law

    def reward(prompt: str, group: str, response: Sequence[int]) -> bool:
        return probability(prompt, response) > 0

    return Small(task, probability, reward)


INSTANCES = (
    small(group="s3", min_length=1, length=4, longer=()),
    small(group="z3", answer="running", min_length=1, length=4, longer=(), noise=0.1),
    small(group="a4", answer="running", min_length=2, length=3, longer=(), generators=True),
    small(group="z2", min_length=2, length=6, longer=(), noise=0.25),
)
