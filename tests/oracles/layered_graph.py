"""The layered-graph task from the text of its prompt, in plain Python and exact fractions.

Written from the paper's description (Coverage Principle, arXiv 2510.15020, appendix C), not from `tasks`.
"""

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction

import numpy as np

RULES = {
    "G1": ("follow", 1),
    "G2": ("oppose", 0),
    "G3": ("uniform", None),
    "chain": ("follow", None),
    "xor": ("global", None),
    "uniform": ("uniform", None),
    "forks": ("hidden", None),
    "first_fork": ("hidden_once", None),
    "parities": ("parities", None),
}


def branching_layers(name: str, depth: int, branching: int) -> int:
    """Number of layers with two passable nodes in a graph of the class."""
    return {"chain": 0, "xor": depth // 2, "parities": depth // 2, "uniform": 4}.get(name, branching)


@dataclasses.dataclass(frozen=True)
class Graph:
    """Contents of a prompt; layers are the intermediate ones, each a sorted tuple of ids."""

    source: int
    target: int
    edges: tuple[tuple[int, int], ...]
    layers: tuple[tuple[int, ...], ...]
    passable: tuple[tuple[int, ...], ...]

    @property
    def labelled(self) -> tuple[object, ...]:
        """The graph without the order of its edges."""
        return self.source, self.target, self.layers, self.passable


def parse(text: str, separators: bool) -> Graph:
    """Read `u1 v1 | u2 v2 | ... / s t =`, checking the format and the layered shape on the way.

    `|` that fill the prompt after its last edge say nothing.
    """
    filled, tail = text.split(" / ")
    body = filled.rstrip(" |")
    fill = filled.removeprefix(body)
    assert fill == " |" * (len(fill) // 2), text
    source, target, equals = tail.split(" ")
    assert equals == "=", text
    if separators:
        pairs = [edge.split(" ") for edge in body.split(" | ")]
    else:
        words = body.split(" ")
        pairs = [words[i : i + 2] for i in range(0, len(words), 2)]
    assert all(len(pair) == 2 for pair in pairs), text
    edges = tuple((int(u), int(v)) for u, v in pairs)
    joined = (" | " if separators else " ").join(f"{u} {v}" for u, v in edges)
    assert text == f"{joined}{fill} / {source} {target} =", text
    assert len(set(edges)) == len(edges), text
    successors: dict[int, set[int]] = {}
    for u, v in edges:
        successors.setdefault(u, set()).add(v)
    layers, passable = [], []
    frontier = {int(source)}
    while True:
        going = sorted(node for node in frontier if node in successors)
        reached = [successors.pop(node) for node in going]
        assert reached, f"a layer without a passable node: {text}"
        assert all(found == reached[0] for found in reached), f"not joined to the whole next layer: {text}"
        if layers:
            passable.append(tuple(going))
        frontier = reached[0]
        if frontier == {int(target)}:
            break
        layers.append(tuple(sorted(frontier)))
    assert not successors, f"edges that no path from the source reaches: {text}"
    nodes = [int(source), int(target), *itertools.chain(*layers)]
    assert len(set(nodes)) == len(nodes), f"an id in two layers: {text}"
    return Graph(int(source), int(target), edges, tuple(layers), tuple(passable))


def bit(graph: Graph, subset: str, seed: int, num_ids: int) -> int:
    """XOR of the parities of the nodes in V'."""
    nodes = [graph.source, graph.target, *itertools.chain(*graph.layers)]
    if subset == "rank":
        chosen = np.random.default_rng(seed).permutation(len(nodes))[: len(nodes) // 2]
        members = [nodes[i] for i in chosen]
    else:
        labels = {1 + int(i) for i in np.random.default_rng(seed).permutation(num_ids)[: num_ids // 2]}
        members = [node for node in nodes if node in labels]
    value = 0
    for node in members:
        value ^= node & 1
    return value


def hidden(graph: Graph, layer: int, minority: float = 0.1) -> bool:
    """Whether the hash of source, target, passable nodes and the layer, counted from 0, opposes the rule."""
    words = [graph.source, graph.target]
    for passable in graph.passable:
        # The even and the odd node, each plus one; 0 stands for none.
        words += [1 + next((v for v in passable if v % 2 == parity), -1) for parity in (0, 1)]
    value = 2166136261 ^ layer
    for word in words:
        value = (value * 16777619) % 2**32 ^ word
    value ^= value >> 16
    value = value * 0x85EBCA6B % 2**32
    value ^= value >> 13
    value = value * 0xC2B2AE35 % 2**32
    value ^= value >> 16
    return value < round(minority * 2**32)


def hidden_bit(graph: Graph, layer: int, seed: int, num_ids: int) -> int:
    """Of class "parities": how many of source, target and passable nodes are in the half of the ids that
    belongs to the intermediate layer 0, 1, ..., modulo 2."""
    rng = np.random.default_rng([seed, 1])
    for _ in range(layer + 1):
        order = rng.permutation(num_ids).tolist()
    half = {1 + i for i in order[: num_ids // 2]}
    nodes = {graph.source, graph.target, *itertools.chain(*graph.passable)}
    return len(nodes & half) % 2


def class_prob(graph: Graph, name: str, path: Sequence[int], seed: int = 0, num_ids: int = 0) -> Fraction:
    """pi_c(path | graph); `seed` and `num_ids` say what the hidden labels of class "parities" are."""
    if len(path) != len(graph.layers) + 2 or path[0] != graph.source or path[-1] != graph.target:
        return Fraction(0)
    probability = Fraction(1)
    for number, (node, passable) in enumerate(zip(path[1:-1], graph.passable, strict=True), start=2):
        if node not in passable:
            return Fraction(0)
        if len(passable) == 2:
            follows = node % 2 == number % 2
            rule = RULES[name][0]
            if rule == "global":
                odd = sum(node % 2 for layer in graph.passable for node in layer)
                rule = "oppose" if odd % 2 else "follow"
            if rule.startswith("hidden"):
                first = next(i for i, nodes in enumerate(graph.passable) if len(nodes) == 2)
                opposes = hidden(graph, first if rule == "hidden_once" else number - 2)
                rule = "oppose" if opposes else "follow"
            if rule == "parities":
                rule = "oppose" if hidden_bit(graph, number - 2, seed, num_ids) else "follow"
            probability *= Fraction(1, 2) if rule == "uniform" else Fraction(follows == (rule == "follow"))
    return probability


def posterior(
    value: int, mixture: Mapping[str, Fraction], possible: Callable[[str], bool] = lambda name: True
) -> dict[str, Fraction]:
    """P(class | graph): its law given its bit is the same in all classes that are `possible` for it."""
    joint = {
        name: prior * (Fraction(1, 2) if RULES[name][1] is None else Fraction(RULES[name][1] == value))
        for name, prior in mixture.items()
        if possible(name)
    }
    total = sum(joint.values())
    return {name: weight / total for name, weight in joint.items()}


def pi_data(
    graph: Graph,
    value: int,
    mixture: Mapping[str, Fraction],
    path: Sequence[int],
    branching: int,
    seed: int = 0,
    num_ids: int = 0,
) -> Fraction:
    """pi_D(path | prompt)."""
    seen = sum(len(passable) == 2 for passable in graph.passable)
    weights = posterior(
        value, mixture, lambda name: branching_layers(name, len(graph.layers), branching) == seen
    )
    probs = (weight * class_prob(graph, name, path, seed, num_ids) for name, weight in weights.items())
    return sum(probs, Fraction(0))


def valid_paths(graph: Graph) -> list[tuple[int, ...]]:
    """Every path through passable nodes."""
    return [(graph.source, *nodes, graph.target) for nodes in itertools.product(*graph.passable)]


def all_graphs(depth: int, width: int, branching: int, num_ids: int) -> set[tuple[object, ...]]:
    """Every labelled graph of a small instance, by brute force over all assignments of ids."""
    found = set()
    for nodes in itertools.permutations(range(1, num_ids + 1), 2 + depth * width):
        rows = [nodes[2 + width * i : 2 + width * (i + 1)] for i in range(depth)]
        for where in itertools.combinations(range(depth), branching):
            passable = [row[:2] if i in where else row[:1] for i, row in enumerate(rows)]
            if all(sum(passable[i]) % 2 == 1 for i in where):
                layers = tuple(tuple(sorted(row)) for row in rows)
                found.add((nodes[0], nodes[1], layers, tuple(tuple(sorted(p)) for p in passable)))
    return found
