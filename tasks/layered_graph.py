"""Paths through layered graphs with shortcuts (Coverage Principle, arXiv 2510.15020, appendix C).

A layered DAG has L + 2 layers: the source, L intermediate layers of `width` nodes, the target. A node with an
outgoing edge is passable and is joined to all nodes of the next layer; other nodes are dead ends. A layer
with two passable nodes (one even, one odd) branches. The prompt is the edge list, the response a path.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, UInt32

from tasks import edge_list
from tasks.base import Enumeration, Example, Task
from tasks.checks import choice, distribution, flag, whole
from tasks.drawing import below, categorical_of, log_of, uniform
from tasks.graph_classes import CLASSES, GraphLatent, check_classes, hidden_labels, layer_bits
from tasks.graph_drawing import Drawing, draw_graph
from tasks.streams import IMPLEMENTATION, check_seed


@dataclasses.dataclass(frozen=True)
class LayeredGraph(Task):
    """The layered-graph mixture.

    Attributes:
        depth: number L of intermediate layers; responses have L + 2 nodes.
        width: nodes in an intermediate layer.
        branching: number of branching layers, at random positions, in classes of `CLASSES` that state none.
        uniform_branching: number of branching layers in class "uniform"; 4 in the paper.
        num_ids: node ids are drawn without replacement from 1..num_ids (m; not stated in the paper, whose
            example shows ids up to 86).
        mixture: probability of each class of `CLASSES`. Figure 1: fine-tuning takes {G1: 0.9, G2: 0.1},
            pre-training 1/3 each of G1, G2, G3. Figure 2: {chain: 0.94, xor: 0.05, uniform: 0.01}.
        edge_order: "shuffled", "by_layer" (nodes within a layer in random order) or "depth_first" (order of a
            depth-first search from the source); not stated in the paper.
        separators: write `|` between edges.
        fill: write `|` after the edges up to the length of the longest prompt, so that positions of edges and
            response do not depend on the number of branching layers. An integer >= 2 is a number of branching
            layers that prompts have room for, so that tasks with fewer have prompts of equal length.
        subset: definition of V', the half of the nodes whose XOR of parities determines the class: "rank" by
            (layer, rank of the id within the layer), |V'| = floor(|V|/2); "label" by a fixed half of the ids.
        subset_seed: seed of the half, and of the hidden labels of class "parities".
        max_enumerated: largest number of valid responses that is enumerated.
        given: what `log_prob` is conditional on. "prompt": pi_D(y|x) = sum_c P(c|x) pi_c(y|x); "class":
            pi_c(y|x) of the example's class c. Prompts and responses are drawn alike.

    Let k(x) be the number of branching layers and b(x) the XOR bit. All classes share the law of the graph
    given k and b, so the posterior P(c|x) is proportional to P(c) 1{k(x) = k_c} P(b(x)|c), with P(b|c) 1, 0
    or 1/2. Classes with `bit="any"` share the law of the graph given k alone. The two laws differ where a
    prompt does not tell its class.

    Raises:
        ValueError: in one line, for a field out of range, a mixture that is not a distribution, or a mixture
            of classes with and without a prescribed bit at equal k, whose posterior would require P(b).
    """

    depth: int = 8
    width: int = 4
    branching: int = 2
    uniform_branching: int = 4
    num_ids: int = 100
    mixture: Any = (("G1", 0.9), ("G2", 0.1))
    edge_order: edge_list.EdgeOrder = "shuffled"
    separators: bool = True
    fill: bool | int = False
    subset: Literal["rank", "label"] = "rank"
    subset_seed: int = 0
    max_enumerated: int = 64
    given: Literal["prompt", "class"] = "prompt"

    def __post_init__(self) -> None:
        lowest = {"depth": 1, "width": 1, "branching": 0, "uniform_branching": 0, "num_ids": 1}
        lowest |= {"max_enumerated": 0}
        for field, low in lowest.items():
            whole(f"task.{field}", getattr(self, field), low)
        check_seed("task.subset_seed", self.subset_seed)
        flag("task.separators", self.separators)
        # True equals 1, so that tasks with the one and the other would be equal, with prompts that are not.
        if not isinstance(self.fill, bool):
            whole("task.fill", self.fill, 2, self.depth, "true, false")
        choice("task.edge_order", self.edge_order, get_args(edge_list.EdgeOrder))
        choice("task.subset", self.subset, ("rank", "label"))
        choice("task.given", self.given, ("prompt", "class"))
        mixture = distribution("task.mixture", self.mixture, tuple(CLASSES))
        object.__setattr__(self, "mixture", tuple((name, p) for name, p in mixture if p > 0))
        check_classes(self.groups, self._branching_counts, self.branching, self.depth)
        if self._room and self.width < 2:
            raise ValueError(
                f"task.width: {self.width} leaves no even and odd node in a branching layer; need >= 2"
            )
        spare = 1 if self.subset == "label" else 0
        if self.num_ids < self.num_nodes + spare:
            raise ValueError(
                f"task.num_ids: {self.num_ids} ids are too few for {self.num_nodes} nodes (2 + depth x width)"
                f"{' and one spare, which subset=label needs' if spare else ''}; need >= "
                f"{self.num_nodes + spare}"
            )

    @property
    def num_nodes(self) -> int:
        """|V| = 2 + depth x width."""
        return 2 + self.depth * self.width

    @property
    def least_prompts(self) -> int:
        """Number of sets of node ids."""
        return math.comb(self.num_ids, self.num_nodes)

    @property
    def vocab_size(self) -> int:
        """Padding (0), the ids 1..m, and `|`, `/`, `=` as m+1, m+2, m+3."""
        return self.num_ids + 4

    @functools.cached_property
    def _branching_counts(self) -> tuple[int, ...]:
        """k_c of every class."""
        named = {"branching": self.branching, "uniform_branching": self.uniform_branching}
        named["half"] = self.depth // 2
        counts = (CLASSES[name].branching for name in self.groups)
        return tuple(named[count] if isinstance(count, str) else count for count in counts)

    @property
    def max_branching(self) -> int:
        """Largest number of branching layers of a class."""
        return max(self._branching_counts)

    @property
    def _room(self) -> int:
        """Number of branching layers of the longest prompt."""
        return max(self.max_branching, 0 if isinstance(self.fill, bool) else self.fill)

    @property
    def _max_edges(self) -> int:
        return edge_list.max_edges(self.depth, self.width, self._room)

    @property
    def prompt_length(self) -> int:
        """Tokens of the longest prompt: `u v` per edge, the separators, and `/ s t =`."""
        return edge_list.prompt_length(self._max_edges, self.separators)

    @property
    def response_length(self) -> int:
        """Number L + 2 of nodes of a path, source and target included."""
        return self.depth + 2

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the classes with positive probability."""
        return tuple(name for name, _ in self.mixture)

    @property
    def group_probs(self) -> tuple[float, ...]:
        """Class probabilities."""
        return tuple(p for _, p in self.mixture)

    @property
    def num_enumerated(self) -> int:
        """2^k for the class with most branching layers, 0 if that exceeds `max_enumerated`."""
        most = 2**self.max_branching
        return most if most <= self.max_enumerated else 0

    @functools.cached_property
    def _subset_positions(self) -> np.ndarray:
        """Mask of V' over (source, target, layer-major ranks), for subset=rank."""
        chosen = np.random.default_rng(self.subset_seed).permutation(self.num_nodes)[: self.num_nodes // 2]
        return np.isin(np.arange(self.num_nodes), chosen)

    @functools.cached_property
    def _subset_labels(self) -> np.ndarray:
        """Mask of V' over the ids 0..m (0 is not an id), for subset=label."""
        chosen = 1 + np.random.default_rng(self.subset_seed).permutation(self.num_ids)[: self.num_ids // 2]
        return np.isin(np.arange(self.num_ids + 1), chosen)

    @functools.cached_property
    def _hidden_labels(self) -> np.ndarray:
        return hidden_labels(self.depth, self.num_ids, self.subset_seed)

    @functools.cached_property
    def _layer_parity(self) -> np.ndarray:
        """Parities p(i) of the intermediate layers i = 2..L+1."""
        return np.arange(2, self.depth + 2) % 2

    def _bit(self, ends: Int[Array, " 2"], nodes: Int[Array, "depth width"]) -> Int[Array, ""]:
        if self.subset == "rank":
            values = jnp.concatenate([ends, jnp.sort(nodes, axis=1).reshape(-1)])
            member = jnp.asarray(self._subset_positions)
        else:
            values = jnp.concatenate([ends, nodes.reshape(-1)])
            member = jnp.asarray(self._subset_labels)[values]
        return jnp.sum(jnp.where(member, values % 2, 0)) % 2

    @property
    def _draws(self) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        """Paths below an example's key and shapes of what `_drawn` takes: keys of the bit, the graph and the
        path, and the numbers of the prompt."""
        prompt = edge_list.draws(self.depth, self.width, self.edge_order)
        return [((), (3,)), *(((3, part), shape) for part, shape in prompt.items())]

    def sample(self, key: PRNGKeyArray, probs: Sequence[float] | None = None) -> Example:
        """Draw as `Task.sample` does, class and example from one hash."""
        weights = log_of(self.group_probs if probs is None else probs)
        own = [((1, *path), shape) for path, shape in self._draws]
        of_group, *words = below(key, [((0,), weights.shape), *own])
        return self._drawn(words, categorical_of(of_group, weights))

    def sample_group(self, key: PRNGKeyArray, group: Int[Array, ""]) -> Example:
        """Draw the graph given the class's XOR bit (exactly, by rejection), then the path by the rule."""
        return self._drawn(below(key, self._draws), group)

    def _drawn(self, words: list[UInt32[Array, "*shape words"]], group: Int[Array, ""]) -> Example:
        bit_key, graph_key, path_key = jax.random.wrap_key_data(words[0], impl=IMPLEMENTATION)
        count, most = jnp.asarray(self._branching_counts)[group], self.max_branching

        def drawn(attempt: Int[Array, ""] | int) -> tuple[Drawing, Int[Array, ""]]:
            graph = draw_graph(graph_key, attempt, (self.depth, self.width), self.num_ids, count, most)
            return graph, self._bit(graph.ends, graph.nodes)

        if all(CLASSES[name].bit == "any" for name in self.groups):
            graph, bit = drawn(0)
        else:
            codes = {"fair": 2, "any": 3}
            bits = [CLASSES[name].bit for name in self.groups]
            code = jnp.asarray([codes[own] if isinstance(own, str) else own for own in bits])[group]
            wanted = code
            if "fair" in bits:
                wanted = jnp.where(code == 2, jax.random.bernoulli(bit_key).astype(code.dtype), code)
            # The first graph is drawn in the loop too, so that the program holds the drawing once.
            first = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(drawn, 0))
            _, graph, bit = jax.lax.while_loop(
                lambda carry: (carry[0] == 0) | ((carry[2] != wanted) & (wanted < 2)),
                lambda carry: (carry[0] + 1, *drawn(carry[0])),
                (jnp.asarray(0), *first),
            )

        latent = self._latent(graph, bit, group)
        response = self._path(latent, self._sample_opposition(path_key, latent))
        prompt, prompt_mask = edge_list.edge_list_prompt(
            dict(enumerate(map(uniform, words[1:]))),
            graph.ends,
            graph.nodes,
            graph.passable,
            self._max_edges,
            self.num_ids,
            self.edge_order,
            self.separators,
            bool(self.fill),
        )
        return Example(
            prompt=prompt,
            prompt_mask=prompt_mask,
            response=response,
            response_mask=jnp.ones((self.response_length,), bool),
            log_prob=self.log_prob(latent, response),
            group=group.astype(jnp.int32),
            latent=latent,
        )

    def _latent(self, graph: Drawing, bit: Int[Array, ""], group: Int[Array, ""]) -> GraphLatent:
        first = graph.nodes[:, 0]
        single = jnp.stack(
            [jnp.where(first % 2 == 0, first, -1), jnp.where(first % 2 == 1, first, -1)], axis=1
        )
        both = graph.nodes[:, :2] if self.width > 1 else single
        passable = jnp.where(graph.branching[:, None], both, single)
        parity = jnp.sum(passable[:, 1] >= 0) % 2
        return GraphLatent(graph.ends[0], graph.ends[1], passable, bit, parity, group.astype(jnp.int32))

    def _sample_opposition(self, key: PRNGKeyArray, latent: GraphLatent) -> Bool[Array, " depth"]:
        """True for layers where the path takes the node of the other parity if the layer branches."""
        same = fair = jnp.zeros((self.depth,), bool)
        if any(CLASSES[name].rule == "uniform" for name in self.groups):
            fair = jax.random.bernoulli(key, shape=(self.depth,))
        by_rule = {
            "follow": same,
            "oppose": ~same,
            "uniform": fair,
            "global": same | (latent.parity == 1),
        }
        sides = []
        for name in self.groups:
            side = by_rule.get(CLASSES[name].rule)
            sides.append(layer_bits(latent, CLASSES[name], self._hidden_labels) if side is None else side)
        return jnp.stack(sides)[latent.group]

    def _path(self, latent: GraphLatent, oppose: Bool[Array, " depth"]) -> Int[Array, " response"]:
        side = jnp.asarray(self._layer_parity) ^ oppose.astype(int)
        chosen = jnp.take_along_axis(latent.passable, side[:, None], axis=1)[:, 0]
        nodes = jnp.where(jnp.all(latent.passable >= 0, axis=1), chosen, jnp.max(latent.passable, axis=1))
        return jnp.concatenate([latent.source[None], nodes, latent.target[None]]).astype(jnp.int32)

    def _opposition(
        self, latent: GraphLatent, response: Int[Array, " response"]
    ) -> tuple[Bool[Array, ""], Bool[Array, " depth"], Bool[Array, " depth"]]:
        """(valid, branching, oppose): validity of the path, branching layers, and layers of other parity."""
        inner = response[1:-1]
        member = jnp.any(inner[:, None] == latent.passable, axis=1)
        valid = jnp.all(member) & (response[0] == latent.source) & (response[-1] == latent.target)
        branching = jnp.all(latent.passable >= 0, axis=1)
        return valid, branching, inner % 2 != jnp.asarray(self._layer_parity)

    def _class_log_probs(
        self, latent: GraphLatent, response: Int[Array, " response"]
    ) -> Float[Array, " groups"]:
        """ln pi_c(y|x) for every class c."""
        valid, branching, oppose = self._opposition(latent, response)
        follows = jnp.where(jnp.any(branching & oppose), -jnp.inf, 0.0)
        opposes = jnp.where(jnp.any(branching & ~oppose), -jnp.inf, 0.0)
        by_rule = {
            "follow": follows,
            "oppose": opposes,
            "uniform": -math.log(2.0) * jnp.sum(branching, dtype=float),
            "global": jnp.where(latent.parity == 1, opposes, follows),
        }

        def law(name: str) -> Float[Array, ""]:
            if (rule := CLASSES[name].rule) in by_rule:
                return by_rule[rule]
            own = layer_bits(latent, CLASSES[name], self._hidden_labels)
            return jnp.where(jnp.any(branching & (oppose != own)), -jnp.inf, 0.0)

        return jnp.where(valid, jnp.stack([law(name) for name in self.groups]), -jnp.inf)

    def _class_posterior(self, latent: GraphLatent) -> Float[Array, " groups"]:
        """ln P(c|x)."""
        log_prior = jnp.log(jnp.asarray(self.group_probs))
        count = jnp.sum(jnp.all(latent.passable >= 0, axis=1))
        likelihood = []
        for name, own in zip(self.groups, self._branching_counts, strict=True):
            bit = CLASSES[name].bit
            given = 0.5 if isinstance(bit, str) else (latent.bit == bit).astype(jnp.float32)
            likelihood.append(jnp.where(count == own, given, 0.0))
        return jax.nn.log_softmax(log_prior + jnp.log(jnp.stack(likelihood)))

    def log_prob(self, latent: GraphLatent, response: Int[Array, " response"]) -> Float[Array, ""]:
        """ln sum_c P(c|x) pi_c(y|x), or with `given="class"` ln pi_c(y|x) of the latent's class.

        In nats; -inf off the support.
        """
        if self.given == "class":
            return self._class_log_probs(latent, response)[latent.group]
        return jax.nn.logsumexp(self._class_posterior(latent) + self._class_log_probs(latent, response))

    def reward(self, latent: GraphLatent, response: Int[Array, " response"]) -> Float[Array, ""]:
        """1 if the class of the example can emit the path, else 0.

        A deterministic class emits one path, a uniform class every valid path.
        """
        return jnp.isfinite(self._class_log_probs(latent, response)[latent.group]).astype(jnp.float32)

    def validity(self, latent: GraphLatent, response: Int[Array, " response"]) -> Float[Array, ""]:
        """1 if the response goes from source to target through passable nodes only."""
        return self._opposition(latent, response)[0].astype(jnp.float32)

    def enumerate(self, latent: GraphLatent) -> Enumeration:
        """All 2^k valid paths of a graph with k branching layers, padded to `num_enumerated` rows.

        Candidate 0 follows the parity rule everywhere, the last candidate opposes the rule everywhere.

        A candidate opposes the rule in the j-th branching layer if the j-th of the last k binary digits of
        the index, most significant first, is 1.

        Raises:
            ValueError: if there may be more than `max_enumerated` paths.
        """
        if not self.num_enumerated:
            return super().enumerate(latent)
        most = self.max_branching
        branching = jnp.all(latent.passable >= 0, axis=1)
        count = jnp.sum(branching)
        index = np.arange(self.num_enumerated)
        digits = (index[:, None] >> np.arange(most)[::-1]) % 2 == 1
        digit = most - count + jnp.cumsum(branching) - 1
        oppose = (
            jnp.where(branching, jnp.take(jnp.asarray(digits), digit, axis=1, mode="clip"), False)
            if most
            else jnp.zeros((1, self.depth), bool)
        )
        responses = jax.vmap(self._path, in_axes=(None, 0))(latent, oppose)
        return Enumeration(responses, jnp.asarray(index) < 2**count)

    def encode(self, text: str) -> list[int]:
        """Tokens of `u1 v1 | u2 v2 | ... / s t =` or of a path.

        Raises:
            ValueError: for a word that is neither an id in 1..num_ids nor one of `|`, `/`, `=`.
        """
        return edge_list.encode(text, self.num_ids)

    def decode(self, tokens: Any) -> str:
        """Text of a prompt or response; padding is skipped."""
        return edge_list.decode(tokens, self.num_ids)
