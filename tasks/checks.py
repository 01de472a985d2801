"""Checks of settings: integers, finite numbers, truth values, lists of numbers, probabilities.

Every function takes the name of a field as the user writes it and a value, and returns the checked value. An
invalid value raises a ValueError of one line with the field, the value and the valid range. `True`, text and
NaN are not numbers; infinity is not finite.

Callers handle a default that is not a number, such as null or "auto", and name it in `other` for the message.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any

_TOLERANCE = 1e-6
"""Largest distance from 1 of the sum of probabilities."""


def whole(field: str, value: Any, low: int = 0, high: int | None = None, other: str = "") -> int:
    """An integer >= low, and <= high where `high` is given.

    Raises:
        ValueError: anything else.

    >>> whole("task.depth", 3, 1)
    3
    >>> whole("devices", 0, 1, other="auto")
    Traceback (most recent call last):
    ValueError: devices: 0 is neither auto nor an integer >= 1
    """
    if _is(value, Integral) and low <= value and (high is None or value <= high):
        return int(value)
    valid = f"an integer >= {low}" if high is None else f"an integer from {low} to {high}"
    raise _refusal(field, value, valid, other)


def real(
    field: str,
    value: Any,
    *,
    above: float | None = None,
    least: float | None = None,
    below: float | None = None,
    most: float | None = None,
    other: str = "",
) -> float:
    """A finite number within bounds: > above or >= least, and < below or <= most.

    Raises:
        ValueError: anything else.

    >>> real("objective.weight", 0, least=0)
    0.0
    >>> real("optimizer.beta1", 1.0, least=0, below=1)
    Traceback (most recent call last):
    ValueError: optimizer.beta1: 1.0 is not a number in [0, 1)
    """
    try:
        number = float(value) if _is(value, Real) else math.nan
    except OverflowError:
        number = math.inf
    if (
        math.isfinite(number)
        and (above is None or number > above)
        and (least is None or number >= least)
        and (below is None or number < below)
        and (most is None or number <= most)
    ):
        return number
    # The message says "finite" only for an infinity, which may lie within the range.
    finite = "finite " if math.isinf(number) else ""
    raise _refusal(field, value, _range(above, least, below, most, finite), other)


def flag(field: str, value: Any) -> bool:
    """True or False.

    Raises:
        ValueError: anything else, including numbers and text that denote a truth value.
    """
    if isinstance(value, bool):
        return value
    raise ValueError(f"{field}: {value!r} is not true or false")


def choice(field: str, value: Any, valid: Sequence[str]) -> None:
    """Refuse a text that is not one of `valid`.

    Raises:
        ValueError: in one line.
    """
    if value not in valid:
        raise ValueError(f"{field}: {value!r} is not one of {', '.join(valid)}")


def wholes(field: str, value: Any, low: int = 0, at_least: int = 1) -> tuple[int, ...]:
    """A list of distinct integers >= low, in increasing order.

    Raises:
        ValueError: anything else, or fewer than `at_least` integers.
    """
    items = _items(value)
    found = {int(item) for item in items if _is(item, Integral) and item >= low}
    if len(found) < len(items) or len(items) < at_least:
        raise ValueError(f"{field}: {value}; valid: at least {at_least} different integers >= {low}")
    return tuple(sorted(found))


def reals(field: str, value: Any, above: float, below: float, at_least: int = 1) -> tuple[float, ...]:
    """A list of distinct numbers strictly between `above` and `below`, in increasing order.

    Raises:
        ValueError: anything else, or fewer than `at_least` numbers.
    """
    items = _items(value)
    found = {real(field, item, above=above, below=below) for item in items}
    if len(found) < len(items) or len(items) < at_least:
        valid = f"at least {at_least} different numbers strictly between {above:g} and {below:g}"
        raise ValueError(f"{field}: {value}; valid: {valid}")
    return tuple(sorted(found))


def distribution(
    field: str, given: Any, names: Sequence[str], positive: bool = False
) -> tuple[tuple[str, float], ...]:
    """(class, probability) pairs that sum to 1, in the given order; with `positive`, no probability is 0.

    Args:
        given: a mapping from classes to probabilities, or pairs.
        names: the valid classes.

    Raises:
        ValueError: anything else.
    """
    pairs = list(given.items()) if isinstance(given, Mapping) else given
    if (
        isinstance(pairs, str)
        or not isinstance(pairs, Sequence)
        or any(len(_items(pair)) != 2 for pair in pairs)
    ):
        raise ValueError(f"{field}: {given!r} is not a mapping from classes to probabilities")
    for name, _ in pairs:
        if name not in names:
            raise ValueError(f"{field}: no class {name!r}; valid are {', '.join(names)}")
    found = tuple((str(name), _probability(f"{field}.{name}", p, positive)) for name, p in pairs)
    _require_one(f"{field}: probabilities {dict(found)}", [p for _, p in found])
    return found


def probabilities(field: str, given: Any, positive: bool = False) -> tuple[float, ...]:
    """A list of probabilities that sum to 1; with `positive`, no probability is 0.

    Raises:
        ValueError: anything else.
    """
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise ValueError(f"{field}: {given!r} is not a list of probabilities")
    found = tuple(_probability(field, p, positive) for p in given)
    _require_one(f"{field}: {list(found)}", found)
    return found


def _probability(field: str, value: Any, positive: bool) -> float:
    return real(field, value, above=0, most=1) if positive else real(field, value, least=0, most=1)


def _require_one(what: str, found: Sequence[float]) -> None:
    total = math.fsum(found)
    if abs(total - 1) > _TOLERANCE:
        raise ValueError(f"{what} sum to {total:.6g}, not to 1")


def _is(value: Any, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _items(value: Any) -> list[Any]:
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else []


def _range(
    above: float | None, least: float | None, below: float | None, most: float | None, finite: str
) -> str:
    low, high = above if least is None else least, below if most is None else most
    if above == 0 and high is None:
        return f"a {finite}positive number"
    number = f"a {finite}number"
    if low is not None and high is not None:
        if least is None and most is None:
            return f"{number} strictly between {low:g} and {high:g}"
        return f"{number} in {'(' if least is None else '['}{low:g}, {high:g}{')' if most is None else ']'}"
    if low is not None:
        return f"{number} {'>' if least is None else '>='} {low:g}"
    return number if high is None else f"{number} {'<' if most is None else '<='} {high:g}"


def _refusal(field: str, value: Any, valid: str, other: str) -> ValueError:
    return ValueError(f"{field}: {value!r} is {f'neither {other} nor' if other else 'not'} {valid}")
