"""Small languages of one length, answered from the text of the prompt by the sampler's tree."""

from collections.abc import Sequence
from fractions import Fraction

from covlab.testing import Small
from oracles import brackets
from tasks import FixedDyck


def small(task: FixedDyck) -> Small:
    probs = tuple(Fraction(p).limit_denominator(1000) for p in task.type_probs)
    law = brackets.fixed_law(probs, task.max_depth, task.length)

    def string(prompt: str, response: Sequence[int]) -> tuple[brackets.String, brackets.String]:
        words = brackets.words_of(response, task.num_types, end=False)
        while words and words[-1] == "_":
            words = words[:-1]
        return tuple(prompt.split()[1:]), words

    def probability(prompt: str, response: Sequence[int]) -> Fraction:
        prefix, rest = string(prompt, response)
        return brackets.given_prefix(law, prefix).get(rest, Fraction())

    def reward(prompt: str, group: str, response: Sequence[int]) -> bool:
        prefix, rest = string(prompt, response)
        whole = prefix + rest
        right = len(whole) == task.length and brackets.stack_of(whole) == []
        return right and (not task.reward_depth or brackets.deepest(whole) <= task.max_depth)

    return Small(task, probability, reward)


INSTANCES = (
    small(
        FixedDyck(
            length=6,
            max_depth=2,
            prefix="( )",
            prefix_lengths=(2, 4),
            mixture={"drawn": 0.7, "cap": 0.2, "given": 0.1},
            max_enumerated=0,
            reward_depth=True,
        )
    ),
    small(FixedDyck(length=6, max_depth=2, type_probs=(0.3, 0.7), mixture={"given": 1.0}, prefix="[ (")),
)
