"""Small Dyck languages, answered from the text of the prompt by the sampler's tree."""

from collections.abc import Sequence
from fractions import Fraction

from covlab.testing import Small
from oracles import brackets
from tasks import Dyck


def small(task: Dyck, low: int, high: int) -> Small:
    law = brackets.dyck_law(task.num_types, task.max_depth, low, high)

    def string(prompt: str, response: Sequence[int]) -> tuple[brackets.String, brackets.String]:
        words = brackets.words_of(response, task.num_types, end=True)
        while words and words[-1] == "_":
            words = words[:-1]
        return tuple(prompt.split()[1:]), words

    def probability(prompt: str, response: Sequence[int]) -> Fraction:
        prefix, rest = string(prompt, response)
        return brackets.given_prefix(law, prefix).get(rest, Fraction())

    def reward(prompt: str, group: str, response: Sequence[int]) -> bool:
        prefix, rest = string(prompt, response)
        whole = prefix + rest
        right = whole[-1:] == ("$",) and low <= len(whole) <= high and brackets.stack_of(whole[:-1]) == []
        return right and (not task.reward_depth or brackets.deepest(whole[:-1]) <= task.max_depth)

    return Small(task, probability, reward)


INSTANCES = (
    small(
        Dyck(num_types=1, max_depth=1, min_length=1, max_length=5, prefix_lengths=(0, 3), reward_depth=True),
        1,
        5,
    ),
    small(
        Dyck(
            max_depth=2,
            max_length=5,
            mixture={"drawn": 0.7, "cap": 0.3},
            prefix_lengths=(1, 3),
            max_enumerated=0,
        ),
        3,
        5,
    ),
)
