"""Finite groups by name, with computed multiplication tables."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

_ORDERS = {"z": (2, 1000), "s": (2, 5), "a": (3, 5)}
"""Smallest and largest n of Z_n, S_n and A_n."""
VALID = "z<n> with n from 2 to 1000, s<n> with n from 2 to 5, a<n> with n from 3 to 5"


class FiniteGroup(NamedTuple):
    """A group whose elements are numbered from 0, the identity.

    Attributes:
        names: text of each element: the residue in Z_n; in S_n and A_n the images of 1..n ("213" swaps 1, 2).
        table: number of the product g h, row g, column h. Products of permutations apply g first, then h.
        generators: numbers of a generating set.
    """

    names: tuple[str, ...]
    table: Int[np.ndarray, "order order"]
    generators: tuple[int, ...]

    @property
    def order(self) -> int:
        """Number of elements."""
        return len(self.names)


@functools.cache
def finite_group(name: str) -> FiniteGroup:
    """The cyclic group Z_n (`z<n>`), the symmetric group S_n (`s<n>`) or the alternating group A_n (`a<n>`).

    Permutations are in lexicographic order. Generators: 1 of Z_n; a swap of the first two points and the
    cycle of all points of S_n; the cycles (1 2 k) of A_n.

    Raises:
        ValueError: another name.

    >>> finite_group("s3").names
    ('123', '132', '213', '231', '312', '321')
    >>> finite_group("z3").table.tolist()
    [[0, 1, 2], [1, 2, 0], [2, 0, 1]]
    """
    kind, size = _parsed("group", name)
    if kind == "z":
        numbers = np.arange(size)
        return FiniteGroup(tuple(map(str, range(size))), (numbers[:, None] + numbers) % size, (1,))
    elements = [p for p in itertools.permutations(range(size)) if kind == "s" or not _odd(p)]
    number = {element: i for i, element in enumerate(elements)}
    table = np.array([[number[tuple(h[i] for i in g)] for h in elements] for g in elements])
    names = tuple("".join(str(i + 1) for i in element) for element in elements)
    if kind == "s":
        cycles: list[Sequence[int]] = [(0, 1), range(size)]
    else:
        cycles = [(0, 1, k) for k in range(2, size)]
    found = sorted({number[_cycle(points, size)] for points in cycles})
    return FiniteGroup(names, table, tuple(found))


def check_group(field: str, name: Any) -> str:
    """The name of a group of `finite_group`.

    Raises:
        ValueError: anything else, in one line that names the field.
    """
    _parsed(field, name)
    return str(name)


def _parsed(field: str, name: Any) -> tuple[str, int]:
    found = re.fullmatch(r"([zsa])([1-9][0-9]{0,3})", name) if isinstance(name, str) else None
    if found is not None:
        kind, size = found[1], int(found[2])
        low, high = _ORDERS[kind]
        if low <= size <= high:
            return kind, size
    raise ValueError(f"{field}: {name!r} is no group; valid: {VALID}")


def _odd(permutation: Sequence[int]) -> bool:
    """True for an odd number of inversions."""
    return sum(a > b for a, b in itertools.combinations(permutation, 2)) % 2 == 1


def _cycle(points: Sequence[int], size: int) -> tuple[int, ...]:
    """The permutation that sends each of `points` to the next one and fixes the others."""
    images = list(range(size))
    for here, there in zip(points, [*points[1:], points[0]], strict=True):
        images[here] = there
    return tuple(images)
