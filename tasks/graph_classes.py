"""Classes of the layered-graph mixtures, and the latent of a prompt."""

from __future__ import annotations

import dataclasses
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Int

Rule = Literal["follow", "oppose", "uniform", "global", "parities"]
Bit = Literal[0, 1, "fair", "any"]


@dataclasses.dataclass(frozen=True)
class GraphClass:
    """A class of graphs and the law of its path.

    Attributes:
        rule: choice of pi_D between the two passable nodes of a branching layer i. "follow": the node with
            p(v) = p(i), where p(j) = j mod 2 and the source is layer 1; "oppose": the other node; "uniform":
            either with probability 1/2; "global": p(v) = p(i) XOR g, with g the XOR of the parities of all
            passable nodes of all intermediate layers; "parities": p(v) = p(i) XOR g_i, with g_i the XOR over
            source, target and all passable nodes of the `hidden_labels` of layer i.
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
    "parities": GraphClass("parities", branching="half"),
}
"""G1, G2, G3 are the classes of Figure 1 (appendix C.2); chain, xor, uniform those of Figure 2 (C.3). In
class "xor" one bit decides all layers, so that the path shows it; in "parities", which is not the paper's,
each layer has a bit of its own."""


def hidden_labels(depth: int, num_ids: int, seed: int) -> Bool[np.ndarray, "depth ids"]:
    """For each intermediate layer a fixed half of the ids 0..num_ids (0 is not an id), drawn on its own.

    A deeper graph has the halves of a shallower one, and further ones. The XOR of the bits g_i of several
    layers is the parity of the XOR of their labels, as hidden as g_i itself unless nearly all ids agree in
    it: `tests/tasks/test_hidden_labels.py` looks at that for the sizes in use.
    """
    rng = np.random.default_rng([seed, 1])  # another stream than that of the subset V'
    labels = np.zeros((depth, num_ids + 1), bool)
    for row in labels:
        row[1 + rng.permutation(num_ids)[: num_ids // 2]] = True
    return labels


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
