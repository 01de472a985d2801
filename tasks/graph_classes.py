"""Classes of the layered-graph mixtures, and the latent of a prompt."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

Rule = Literal["follow", "oppose", "uniform", "global", "hidden", "hidden_once", "parities"]
Bit = Literal[0, 1, "fair", "any"]


@dataclasses.dataclass(frozen=True)
class GraphClass:
    """A class of graphs and the law of its path.

    Attributes:
        rule: choice of pi_D between the two passable nodes of a branching layer i. "follow": the node with
            p(v) = p(i), where p(j) = j mod 2 and the source is layer 1; "oppose": the other node; "uniform":
            either with probability 1/2; "global": p(v) = p(i) XOR g, with g the XOR of the parities of all
            passable nodes of all intermediate layers; "hidden": p(v) = p(i) XOR h_i, with the hash h_i of
            `hidden_opposition`; "hidden_once": p(v) = p(i) XOR h_f, f the first branching layer; "parities":
            p(v) = p(i) XOR g_i, with g_i the XOR over source, target and all passable nodes of the
            `hidden_labels` of layer i.
        bit: XOR of the parities of the nodes in the subset V': 0 or 1; "fair" draws the bit fairly and then a
            graph with that bit; "any" draws any graph.
        branching: number of branching layers, name of the task field with that number, or "half" for
            depth // 2.
        minority: share of the hidden decisions that take the node of the other parity.
    """

    rule: Rule
    bit: Bit = "any"
    branching: int | Literal["branching", "uniform_branching", "half"] = "branching"
    minority: float = 0.1


CLASSES: dict[str, GraphClass] = {
    "G1": GraphClass("follow", bit=1),
    "G2": GraphClass("oppose", bit=0),
    "G3": GraphClass("uniform", bit="fair"),
    "chain": GraphClass("follow", branching=0),
    "xor": GraphClass("global", branching="half"),
    "uniform": GraphClass("uniform", branching="uniform_branching"),
    "forks": GraphClass("hidden"),
    "first_fork": GraphClass("hidden_once"),
    "parities": GraphClass("parities", branching="half"),
}
"""G1, G2, G3 are the classes of Figure 1 (appendix C.2); chain, xor, uniform those of Figure 2 (C.3). In
class xor one bit decides all layers, so that the path shows it.

The others are not the paper's. In forks every branching layer is a decision that nothing in the prompt tells,
in first_fork only the first. In parities each layer has a bit of its own, which the prompt tells by a parity.
"""


def check_classes(groups: Sequence[str], counts: Sequence[int], branching: int, depth: int) -> None:
    """Refuse a mixture whose posterior would need a probability that nothing states, or that has no room.

    Args:
        groups, counts: the classes, and their numbers of branching layers.
        branching, depth: as of `tasks.LayeredGraph`.

    Raises:
        ValueError: in one line.
    """
    if branching > depth:
        raise ValueError(f"task.branching: {branching} exceeds task.depth = {depth} layers")
    for name, count in zip(groups, counts, strict=True):
        if count > depth:
            raise ValueError(f"task.depth: {depth}; class {name} needs {count} branching layers")
    for one, other in itertools.combinations(range(len(groups)), 2):
        free = [CLASSES[groups[c]].bit == "any" for c in (one, other)]
        if counts[one] == counts[other] and free[0] != free[1]:
            raise ValueError(
                f"task.mixture: {groups[one]} and {groups[other]} both have {counts[one]} branching layers, "
                f"and one of them prescribes the bit of V': valid are mixtures of G1, G2, G3 or of other "
                f"classes"
            )


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


def hidden_opposition(latent: GraphLatent, minority: float) -> Bool[Array, " depth"]:
    """h_l of every intermediate layer: True where a 32-bit hash is below 2^32 `minority`.

    Hashed are the words l, source, target and 1 + `passable`, in this order, by FNV-1a with a word in the
    place of a byte and without its last multiplication. The rounds of MurmurHash3's finalizer mix the result,
    because the low bits of FNV-1a depend on the low bits of the words alone. Over graphs, h is 1 in a share
    `minority`, independently in all layers and of parities and positions, as far as the hash is a random
    function.
    """
    words = jnp.concatenate([latent.source[None], latent.target[None], 1 + latent.passable.reshape(-1)])
    value = np.uint32(2166136261) ^ jnp.arange(latent.passable.shape[0], dtype=jnp.uint32)
    for word in words.astype(jnp.uint32):
        value = (value * np.uint32(16777619)) ^ word
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
        value = (value ^ (value >> np.uint32(shift))) * np.uint32(factor)
    return value < np.uint32(round(minority * 2**32))


def layer_bits(
    latent: GraphLatent, own: GraphClass, labels: Bool[np.ndarray, "depth ids"]
) -> Bool[Array, " depth"]:
    """Layers where the path opposes the parity rule if the layer branches, of a class in which each layer has
    a bit of its own; `labels` are `hidden_labels`."""
    if own.rule == "parities":
        ends = jnp.stack([latent.source, latent.target])
        nodes = jnp.concatenate([ends, jnp.maximum(latent.passable, 0).reshape(-1)])
        return jnp.sum(jnp.asarray(labels)[:, nodes], axis=1) % 2 == 1
    hidden = hidden_opposition(latent, own.minority)
    first = jnp.argmax(jnp.all(latent.passable >= 0, axis=1))
    return hidden if own.rule == "hidden" else jnp.broadcast_to(hidden[first], hidden.shape)
