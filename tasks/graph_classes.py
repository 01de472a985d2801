"""The classes of the layered-graph mixtures, and what a prompt of theirs means."""

from __future__ import annotations

import dataclasses
from typing import Literal, NamedTuple

from jaxtyping import Array, Int

Rule = Literal["follow", "oppose", "uniform", "global"]
Bit = Literal[0, 1, "fair", "any"]


@dataclasses.dataclass(frozen=True)
class GraphClass:
    """A class of graphs and the law of its path.

    Attributes:
        rule: which passable node pi_D takes in the branching layer i. "follow": the one with the layer's
            parity, p(v) = p(i) with p(j) = j mod 2 and layers numbered from the source, 1; "oppose": the
            other one; "uniform": either, with probability 1/2; "global": p(v) = p(i) XOR g, g the XOR of the
            parities of all passable nodes of all intermediate layers.
        bit: XOR of the parities of the nodes in the subset V': 0 or 1; "fair" tosses a coin and then draws a
            graph with that bit; "any" draws any graph.
        branching: number of branching layers, the name of the task's field that states it, or "half" for
            depth // 2.
    """

    rule: Rule
    bit: Bit = "any"
    branching: int | Literal["branching", "uniform_branching", "half"] = "branching"


CLASSES: dict[str, GraphClass] = {
    "G1": GraphClass("follow", bit=1),
    "G2": GraphClass("oppose", bit=0),
    "G3": GraphClass("uniform", bit="fair"),
    "chain": GraphClass("follow", branching=0),
    "xor": GraphClass("global", branching="half"),
    "uniform": GraphClass("uniform", branching="uniform_branching"),
}
"""G1, G2, G3 are the classes of Figure 1 (appendix C.2); chain, xor, uniform those of Figure 2 (C.3)."""


class GraphLatent(NamedTuple):
    """What a prompt means: everything that pi_D(.|x) depends on, and the class that the example came from.

    `passable[l]` holds the even and the odd passable node of intermediate layer l, -1 where there is none;
    `bit` is the XOR over V' and `parity` the XOR over all passable nodes of the intermediate layers.
    """

    source: Int[Array, ""]
    target: Int[Array, ""]
    passable: Int[Array, "depth 2"]
    bit: Int[Array, ""]
    parity: Int[Array, ""]
    group: Int[Array, ""]
