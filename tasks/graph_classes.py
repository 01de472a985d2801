"""The classes of the layered-graph mixtures, and what a prompt of theirs means."""

from __future__ import annotations

import dataclasses
from typing import Literal, NamedTuple

from jaxtyping import Array, Int

Rule = Literal["follow", "oppose", "uniform"]


@dataclasses.dataclass(frozen=True)
class GraphClass:
    """A class of graphs and the law of its path.

    Attributes:
        rule: which passable node pi_D takes in the branching layer i. "follow": the one with the layer's
            parity, p(v) = p(i) with p(j) = j mod 2 and layers numbered from the source, 1; "oppose": the
            other one; "uniform": either, with probability 1/2.
        bit: XOR of the parities of the nodes in the subset V'; None draws it fairly.
    """

    rule: Rule
    bit: int | None = None


CLASSES: dict[str, GraphClass] = {
    "G1": GraphClass("follow", bit=1),
    "G2": GraphClass("oppose", bit=0),
    "G3": GraphClass("uniform"),
}
"""The classes of Figure 1 (appendix C.2)."""


class GraphLatent(NamedTuple):
    """What a prompt means: everything that pi_D(.|x) depends on, and the class that the example came from.

    `passable[l]` holds the even and the odd passable node of intermediate layer l, -1 where there is none.
    """

    source: Int[Array, ""]
    target: Int[Array, ""]
    passable: Int[Array, "depth 2"]
    bit: Int[Array, ""]
    group: Int[Array, ""]
