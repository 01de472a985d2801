"""Shortening of texts in legends and axes, such that different texts stay different."""

from __future__ import annotations

from collections.abc import Callable, Sequence

_DOTS = "…"


def shortened(texts: Sequence[str], limit: int) -> list[str]:
    """The texts, cut to `limit` characters where they stay different, else to as few more as tell them apart.

    Parts that all texts share are cut before parts in which they differ.

    >>> shortened(["runs/of/monday/width=64", "runs/of/monday/width=128"], 13)
    ['runs…width=64', 'run…width=128']
    >>> shortened(["a long name", "short"], 6)
    ['a lon…', 'short']
    """
    different = list(dict.fromkeys(texts))
    for size in range(max(limit, 4), max(map(len, different), default=0)):
        for cut in (_around(different), _end, _middle):
            kept = {text: text if len(text) <= size else cut(text, size) for text in different}
            if len(set(kept.values())) == len(different):
                return [kept[text] for text in texts]
    return list(texts)


def _around(texts: Sequence[str]) -> Callable[[str, int], str]:
    """A cut of what all the texts begin and end with, that keeps what lies between."""
    start = _shared(texts)
    end = _shared([text[start:][::-1] for text in texts])

    def cut(text: str, size: int) -> str:
        between = text[start : len(text) - end]
        left = size - len(between) - 1
        if len(texts) == 1 or left < 0:
            return _end(text, size)
        if start <= left:
            return f"{text[: size - 1]}{_DOTS}"
        after = text[len(text) - end :] if end + 1 <= left else _DOTS if end else ""
        left = max(left - len(after), 0)
        return f"{text[:left]}{_DOTS}{between}{after}"

    return cut


def _shared(texts: Sequence[str]) -> int:
    """Number of characters that all texts begin with, in whole words, so that a value keeps its key."""
    first, last = min(texts), max(texts)
    length = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    return max(first.rfind(separator, 0, length) for separator in ", /") + 1


def _end(text: str, size: int) -> str:
    return f"{text[: size - 1]}{_DOTS}"


def _middle(text: str, size: int) -> str:
    first = (size - 1) // 2
    return f"{text[:first]}{_DOTS}{text[len(text) - (size - 1 - first) :]}"
