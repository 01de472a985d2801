"""Small trees of responses, with laws and costs of decoders by enumeration in NumPy and plain Python.

Nothing here knows how the decoders are written. A node is the tuple of its tokens.
"""

import dataclasses
import functools
import itertools
from collections.abc import Hashable, Iterable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from covlab.testing.statistics import chi_square_p
from tasks import Task

Node = tuple[int, ...]
Law = dict[Node, float]


@dataclasses.dataclass(frozen=True)
class TreeTask(Task):
    """A random tree over the tokens 1..symbols; with `ends`, token 1 ends a response, so leaves are at
    unequal depths. Only what decoders ask for is there.

    Attributes:
        depth: largest number of tokens.
        symbols: children of an inner node, some of which have base probability 0.
        ends: whether token 1 is an end token.
        seed: of the tables.
        reward_rate: about this share of the leaves has tau > 0.
        graded: tau takes values in (0, 1] instead of 1.
        guide_seed: None for exact values; else V^ of inner nodes is drawn from (0.1, 1), whatever V is.
    """

    depth: int = 3
    symbols: int = 3
    ends: bool = True
    seed: int = 0
    reward_rate: float = 0.5
    graded: bool = False
    guide_seed: int | None = None

    vocab_size = property(lambda self: self.symbols + 1)  # type: ignore[assignment]
    prompt_length = property(lambda self: 1)  # type: ignore[assignment]
    response_length = property(lambda self: self.depth)  # type: ignore[assignment]
    groups = property(lambda self: ("all",))  # type: ignore[assignment]
    group_probs = property(lambda self: (1.0,))  # type: ignore[assignment]
    end_token = property(lambda self: 1 if self.ends else None)  # type: ignore[assignment]

    def _absent(self, *arguments: Any, **named: Any) -> Any:
        raise NotImplementedError

    sample_group = log_prob = validity = enumerate = encode = decode = _absent

    def reference_log_probs(
        self, latent: Any, prefix: Int[Array, " response"], length: Int[Array, ""]
    ) -> Float[Array, " vocab"]:
        return jnp.log(jnp.asarray(tables(self)[0], jnp.float32)[self._index(prefix, length)])

    def value(self, latent: Any, prefix: Int[Array, " response"], length: Int[Array, ""]) -> Float[Array, ""]:
        return jnp.asarray(tables(self)[1], jnp.float32)[self._index(prefix, length)]

    def reward(self, latent: Any, response: Int[Array, " response"]) -> Float[Array, ""]:
        length = jnp.sum(response > 0)
        return jnp.asarray(tables(self)[2], jnp.float32)[self._index(response, length)]

    def _index(self, prefix: Array, length: Array) -> Array:
        places = jnp.where(jnp.arange(self.depth) < length, prefix, 0)
        return jnp.sum(places * (self.symbols + 1) ** jnp.arange(self.depth))


def index(task: TreeTask, node: Node) -> int:
    """The row of a node in the tables: its tokens as the digits of a number, padded with 0."""
    return sum(token * (task.symbols + 1) ** place for place, token in enumerate(node))


def is_leaf(task: TreeTask, node: Node) -> bool:
    """True at the largest depth, or after the end token."""
    return len(node) == task.depth or (task.ends and bool(node) and node[-1] == 1)


@functools.lru_cache
def nodes(task: TreeTask) -> tuple[Node, ...]:
    """Every node, the root first, level by level."""
    found: list[Node] = [()]
    for node in found:
        if not is_leaf(task, node):
            found += [(*node, token) for token in range(1, task.symbols + 1)]
    return tuple(found)


@functools.lru_cache
def tables(task: TreeTask) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """pi_ref (rows, vocab), V^ and tau (rows,); exact values by recursion from the leaves."""
    rng = np.random.default_rng(task.seed)
    size = (task.symbols + 1) ** task.depth
    reference, value, tau = np.zeros((size, task.symbols + 1)), np.zeros(size), np.zeros(size)
    for node in nodes(task):
        if is_leaf(task, node):
            amount = rng.uniform(0.3, 1) if task.graded else 1.0
            tau[index(task, node)] = amount * (rng.random() < task.reward_rate)
        else:
            weights = rng.dirichlet(np.full(task.symbols, 2.0))
            # Every third inner node has a child that is never drawn.
            if rng.random() < 1 / 3 and task.symbols > 2:
                weights[rng.integers(task.symbols)] = 0
            reference[index(task, node), 1:] = weights / weights.sum()
    for node in reversed(nodes(task)):
        row = index(task, node)
        children = [index(task, (*node, token)) for token in range(1, task.symbols + 1)]
        leaf = is_leaf(task, node)
        value[row] = tau[row] if leaf else reference[row, 1:] @ value[children]
    if task.guide_seed is not None:
        drawn = np.random.default_rng(task.guide_seed).uniform(0.1, 1, size)
        inner = [index(task, node) for node in nodes(task) if not is_leaf(task, node)]
        value[inner] = drawn[inner]
    return reference, value, tau


class Tree:
    """A task's tree with base probabilities and values as dictionaries. At leaves V^ = tau."""

    def __init__(self, task: TreeTask) -> None:
        reference, value, tau = tables(task)
        self.task = task
        self.nodes = nodes(task)
        self.leaves = tuple(node for node in self.nodes if is_leaf(task, node))
        self.tau = {node: float(tau[index(task, node)]) for node in self.leaves}
        self.value = {node: float(value[index(task, node)]) for node in self.nodes}
        self.chance = {
            (*node, token): float(reference[index(task, node), token])
            for node in self.nodes
            if not is_leaf(task, node)
            for token in range(1, task.symbols + 1)
        }
        self.mass = {(): 1.0}
        for node in self.nodes[1:]:
            self.mass[node] = self.mass[node[:-1]] * self.chance[node]

    def leaf(self, node: Node) -> bool:
        return is_leaf(self.task, node)

    def children(self, node: Node) -> list[Node]:
        """Children of positive base probability."""
        if self.leaf(node):
            return []
        below = [(*node, token) for token in range(1, self.task.symbols + 1)]
        return [child for child in below if self.chance[child] > 0]

    def tilted(self) -> Law:
        """pi*, prop. to pi_ref tau."""
        return normalised({leaf: self.mass[leaf] * self.tau[leaf] for leaf in self.leaves})


def normalised(weights: dict[Any, float]) -> dict[Any, float]:
    """Positive weights over their sum."""
    total = sum(weights.values())
    return {key: weight / total for key, weight in weights.items() if weight > 0}


def moves(tree: Tree, node: Node, num: int | None = None) -> Law:
    """One non-lazy step of VGB from `node`: probabilities of its neighbours, by enumeration of all K-tuples
    of drawn children where `num` is K. Empty where the walk cannot move; a tuple that leaves the root nowhere
    to go keeps it there."""
    back = {node[:-1]: tree.value[node]} if node else {}
    if tree.leaf(node) or num is None:
        weights = {child: tree.chance[child] * tree.value[child] for child in tree.children(node)}
        weights = {key: weight for key, weight in (weights | back).items() if weight > 0}
        return normalised(weights) if weights else {}
    law: dict[Node, float] = {}
    for drawn in itertools.product(tree.children(node), repeat=num):
        probability = float(np.prod([tree.chance[child] for child in drawn]))
        weights = dict.fromkeys(drawn, 0.0) | {key: num * weight for key, weight in back.items()}
        for child in drawn:
            weights[child] += tree.value[child]
        stay = {node: 1.0} if not sum(weights.values()) else normalised(weights)
        for key, share in stay.items():
            law[key] = law.get(key, 0.0) + probability * share
    return law


def transition(tree: Tree, laziness: float = 0.5, num: int | None = None) -> np.ndarray:
    """VGB's transition matrix over `tree.nodes`."""
    place = {node: i for i, node in enumerate(tree.nodes)}
    matrix = np.zeros((len(place), len(place)))
    for node, i in place.items():
        for other, probability in (moves(tree, node, num) or {node: 1.0}).items():
            matrix[i, place[other]] += probability
    return laziness * np.eye(len(place)) + (1 - laziness) * matrix


def lifted(tree: Tree, chi: float) -> tuple[list[tuple[Node, bool]], np.ndarray]:
    """States (node, going down?) and the non-lazy transition matrix of VGB with momentum, on the nodes that
    can be reached."""
    states = [(node, down) for node in tree.nodes for down in (True, False)]
    place = {state: i for i, state in enumerate(states)}
    matrix = np.zeros((len(states), len(states)))
    for (node, down), i in place.items():
        weights = {child: tree.chance[child] * tree.value[child] for child in tree.children(node)}
        forward, backward = sum(weights.values()), tree.value[node] if node else 0.0
        least = chi * min(forward, backward)
        ways: dict[tuple[Node, bool], float]
        if down:
            ways = {(child, True): weight for child, weight in weights.items()}
            ways[(node, False)] = backward - least
        else:
            ways = {(node[:-1], False): backward} if node else {}
            ways[(node, True)] = forward - least
        total = sum(ways.values())
        for state, weight in ways.items() if total else [((node, down), 1.0)]:
            matrix[i, place[state]] += weight / total if total else 1.0
    return states, matrix


def stationary(matrix: np.ndarray, start: int = 0) -> np.ndarray:
    """The stationary law of the chain's component that `start` reaches."""
    reached = np.linalg.matrix_power(np.eye(len(matrix)) + (matrix > 0), len(matrix))[start] > 0
    kept = matrix[np.ix_(reached, reached)]
    equations = np.vstack([kept.T - np.eye(len(kept)), np.ones(len(kept))])
    law = np.zeros(len(matrix))
    law[reached] = np.linalg.lstsq(equations, np.append(np.zeros(len(kept)), 1.0), rcond=None)[0]
    return law


def vgb_fixed(tree: Tree, steps: int, num: int | None = None) -> Law:
    """The leaf after `steps` steps, given that it is one."""
    after = np.linalg.matrix_power(transition(tree, num=num), steps)[0]
    return normalised({node: after[i] for i, node in enumerate(tree.nodes) if tree.leaf(node)})


def vgb_first_leaf(tree: Tree) -> Law:
    """The first leaf that the walk without an end reaches."""
    matrix = transition(tree)
    inner = [i for i, node in enumerate(tree.nodes) if not tree.leaf(node)]
    outer = [i for i, node in enumerate(tree.nodes) if tree.leaf(node)]
    absorbed = np.linalg.solve(
        np.eye(len(inner)) - matrix[np.ix_(inner, inner)], matrix[np.ix_(inner, outer)]
    )
    return normalised({tree.nodes[j]: p for j, p in zip(outer, absorbed[0], strict=True)})


def action_rejection(tree: Tree) -> Law:
    """Child prop. to pi_ref V^ at every node; () for chains that find all weights 0."""
    law: dict[Node, float] = {(): 1.0}
    found: dict[Node, float] = {}
    for node in tree.nodes:
        mass = law.get(node, 0.0)
        if tree.leaf(node):
            found[node] = mass
            continue
        weights = {child: tree.chance[child] * tree.value[child] for child in tree.children(node)}
        if not sum(weights.values()):
            found[()] = found.get((), 0.0) + mass
            continue
        for child, share in normalised(weights).items():
            law[child] = mass * share
    return {node: mass for node, mass in found.items() if mass > 0}


def blocks(tree: Tree, length: int, candidates: int, best: bool) -> Law:
    """Block Best-of-N (`best`) or block rejection, by enumeration of all tuples of candidates; () for chains
    whose candidates all have value 0."""
    found: dict[Node, float] = {}

    def ends(node: Node, left: int) -> dict[Node, float]:
        if not left or tree.leaf(node):
            return {node: 1.0}
        law: dict[Node, float] = {}
        for child in tree.children(node):
            for end, share in ends(child, left - 1).items():
                law[end] = law.get(end, 0.0) + tree.chance[child] * share
        return law

    def go_on(node: Node, mass: float) -> None:
        if tree.leaf(node):
            found[node] = found.get(node, 0.0) + mass
            return
        law = ends(node, length)
        after: dict[Node, float] = {}
        for drawn in itertools.product(law, repeat=candidates):
            probability = mass * float(np.prod([law[end] for end in drawn]))
            values = np.array([tree.value[end] for end in drawn])
            if not values.any():
                found[()] = found.get((), 0.0) + probability
                continue
            kept = np.eye(candidates)[int(values.argmax())] if best else values / values.sum()
            for end, share in zip(drawn, kept, strict=True):
                after[end] = after.get(end, 0.0) + probability * share
        for end, share in after.items():
            go_on(end, share)

    go_on((), 1.0)
    return {node: mass for node, mass in found.items() if mass > 0}


def backtracking(
    tree: Tree, quota: int, stride: int, threshold: float, greedy: bool
) -> dict[Hashable, float]:
    """(leaf, queries) of tokenwise rejection with backtracking, by propagation of probabilities."""
    states: dict[tuple[Node, int, int, int], float] = {((), quota, 0, 0): 1.0}
    found: dict[Hashable, float] = {}
    while states:
        after: dict[tuple[Node, int, int, int], float] = {}
        for (node, left, forced, queries), mass in states.items():
            if tree.leaf(node):
                found[node, queries] = found.get((node, queries), 0.0) + mass
                continue
            law = {child: tree.chance[child] for child in tree.children(node)}
            if forced:
                law = {max(law, key=law.__getitem__): 1.0}
            for child, share in law.items():
                state = child, left, max(forced - 1, 0), queries
                if left and (not forced or tree.leaf(child)):
                    state = child, left, max(forced - 1, 0), queries + 1
                    if tree.value[child] < threshold:
                        back = min(stride, len(child))
                        state = child[: len(child) - back], left - 1, back if greedy else 0, queries + 1
                after[state] = after.get(state, 0.0) + mass * share
        states = after
    return found


def fit_p(observed: Iterable[Hashable], law: dict[Any, float]) -> float:
    """p-value of the chi-square test, cells that expect fewer than 5 draws taken together."""
    drawn = list(observed)
    rare = {outcome for outcome, share in law.items() if share * len(drawn) < 5}
    together = sum(law[outcome] for outcome in rare)
    if together * len(drawn) < 5 and rare:
        least = min((outcome for outcome in law if outcome not in rare), key=law.__getitem__)
        rare, together = rare | {least}, together + law[least]
    cells: dict[Hashable, float] = {outcome: share for outcome, share in law.items() if outcome not in rare}
    if rare:
        cells["rare"] = together
    if set(drawn) - set(law):
        return 0.0
    return chi_square_p(["rare" if outcome in rare else outcome for outcome in drawn], cells)


def costs(tree: Tree, stood: Iterable[Node], enumerated: bool) -> tuple[int, int]:
    """(queries, tokens) of a chain that stood at these nodes one after the other, when it keeps the numbers
    of the nodes that it last paid for on one path: to stand at an inner node it pays for every node from the
    root to there that it does not have, a token each, and a query a child if those are enumerated; what it
    has beside that path is then lost."""
    have: set[Node] = set()
    queries = tokens = 0
    for node in stood:
        if tree.leaf(node):
            continue
        for depth in range(len(node) + 1):
            step = node[:depth]
            if step not in have:
                have = {other for other in have if step[: len(other)] == other} | {step}
                tokens += 1
                queries += len(tree.children(step)) if enumerated else 0
    return queries, tokens
