"""Small path-star graphs, answered from the text of the prompt."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from covlab.testing import Small
from tasks import PathStar


def successors(prompt: str) -> dict[str, list[str]]:
    """node -> the nodes that edges lead to."""
    body, _ = prompt.split(" / ")
    words = [word for word in body.split(" ") if word != "|"]
    edges: dict[str, list[str]] = {}
    for u, v in zip(words[::2], words[1::2], strict=True):
        edges.setdefault(u, []).append(v)
    return edges


def ends(prompt: str) -> tuple[str, str]:
    """Start and goal."""
    start, goal, equals = prompt.split(" / ")[1].split(" ")
    assert equals == "="
    return start, goal


def arms(prompt: str) -> list[list[int]]:
    """Every path from the start to a node that no edge leaves."""
    edges = successors(prompt)
    found = []
    for first in edges[ends(prompt)[0]]:
        path = [ends(prompt)[0], first]
        while path[-1] in edges:
            (following,) = edges[path[-1]]
            path.append(following)
        found.append([int(node) for node in path])
    return found


def answer(prompt: str, backwards: bool) -> list[int]:
    """The arm that ends in the goal."""
    (right,) = (arm for arm in arms(prompt) if arm[-1] == int(ends(prompt)[1]))
    return right[::-1] if backwards else right


def small(**options: Any) -> Small:
    task = PathStar(**options)

    def probability(prompt: str, response: Sequence[int]) -> Fraction:
        return Fraction(answer(prompt, task.reversed) == list(response))

    def reward(prompt: str, group: str, response: Sequence[int]) -> bool:
        return answer(prompt, task.reversed) == list(response)

    return Small(task, probability, reward)


INSTANCES = (
    small(arms=2, path_length=3, num_ids=6),
    small(arms=3, path_length=3, num_ids=7, separators=False, reversed=True),
)
