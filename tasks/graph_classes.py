"""Classes of the layered-graph mixtures, and the latent of a prompt."""

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
        rule: choice of pi_D between the two passable nodes of a branching layer i. "follow": the node with
            p(v) = p(i), where p(j) = j mod 2 and the source is layer 1; "oppose": the other node; "uniform":
            either with probability 1/2; "global": p(v) = p(i) XOR g, with g the XOR of the parities of all
            passable nodes of all intermediate layers.
        bit: XOR of the parities of the nodes in the subset V': 0 or 1; "fair" draws the bit fairly and then a
            graph with that bit; "any" draws any graph.
        branching: number of branching layers, name of the task field with that number, or "half" for
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
    """All that pi_D(.|x) depends on, and the class of the example.

    `passable[l]` holds the even and the odd passable node of intermediate layer l, -1 where there is none;
    `bit` is the XOR over V' and `parity` the XOR over all passable nodes of the intermediate layers.
    """

    source: Int[Array, ""]
    target: Int[Array, ""]
    passable: Int[Array, "depth 2"]
    bit: Int[Array, ""]
    parity: Int[Array, ""]
    group: Int[Array, ""]
