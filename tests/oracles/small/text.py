"""Windows of a small text of four letters, looked up in plain Python."""

from collections.abc import Sequence
from pathlib import Path

from covlab.testing import Small
from tasks.text import Text

FILE = Path(__file__).with_suffix(".txt")


def small(context: int, continuation: int, block: int) -> Small:
    text = " ".join(FILE.read_text().split())

    def follows(prompt: str) -> str:
        assert text.count(prompt) == 1
        place = text.index(prompt) + context
        assert place // block == (place - context) // block == (place + continuation - 1) // block
        return text[place : place + continuation]

    def probability(prompt: str, response: Sequence[int]) -> int:
        return int([" abcd".index(letter) + 1 for letter in follows(prompt)] == list(response))

    def reward(prompt: str, group: str, response: Sequence[int]) -> bool:
        return bool(probability(prompt, response))

    task = Text(source=str(FILE), context=context, continuation=continuation, block=block, held_out=0.2)
    return Small(task, probability, reward)


INSTANCES = (small(6, 3, 60), small(8, 1, 100))
"""No prompt of these overlaps with another copy of itself, which `str.count` would miss."""
