"""Paths through layered graphs with shortcuts (Coverage Principle, arXiv 2510.15020, appendix C).

A layered DAG has L + 2 layers: the source, L intermediate layers of `width` nodes, the target. A node with an
outgoing edge is passable and is joined to all nodes of the next layer; the others are dead ends. A layer with
two passable nodes (one even, one odd) branches. The prompt is the edge list, the response a path.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from tasks.base import PAD, Enumeration, Example, Task
from tasks.graph_classes import CLASSES, GraphLatent


class _Draw(NamedTuple):
    """One labelled graph: slots 0 and 1 of a branching layer are its even and odd passable nodes; slot 0 of
    any other layer is its passable node."""

    ends: Int[Array, " 2"]
    nodes: Int[Array, "depth width"]
    branching: Bool[Array, " depth"]
    bit: Int[Array, ""]


def _choice(field: str, value: object, valid: Sequence[str]) -> None:
    if value not in valid:
        raise ValueError(f"task.{field}: {value!r} is not one of {', '.join(valid)}")


@dataclasses.dataclass(frozen=True)
class LayeredGraph(Task):
    """The layered-graph mixture.

    Attributes:
        depth: number L of intermediate layers; responses have L + 2 nodes.
        width: nodes in an intermediate layer.
        branching: number of intermediate layers, placed at random, with two passable nodes.
        num_ids: node ids are drawn without replacement from 1..num_ids (m; unstated in the paper, whose
            example shows ids up to 86).
        mixture: probability of each class of `CLASSES`; fine-tuning takes {G1: 0.9, G2: 0.1}, pre-training
            1/3 each.
        edge_order: "shuffled" or "by_layer" (nodes within a layer in random order); unstated in the paper.
        separators: write `|` between edges.
        subset: how V', the half of the nodes whose XOR of parities names the class, is fixed: "rank" by
            (layer, rank of the id within its layer), |V'| = floor(|V|/2); "label" by a fixed half of the ids.
        subset_seed: which half.

    pi_D(y|x) is conditional on the prompt alone. Writing b(x) for the XOR bit, the posterior of class c is
    proportional to P(c) P(b(x)|c), P(b|c) being 1, 0 or 1/2, because all classes share the law of the graph
    given its bit; pi_D(y|x) = sum_c P(c|x) pi_c(y|x).
    """

    depth: int = 8
    width: int = 4
    branching: int = 2
    num_ids: int = 100
    mixture: Any = (("G1", 0.9), ("G2", 0.1))
    edge_order: Literal["shuffled", "by_layer"] = "shuffled"
    separators: bool = True
    subset: Literal["rank", "label"] = "rank"
    subset_seed: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.mixture, Mapping):
            object.__setattr__(self, "mixture", tuple(self.mixture.items()))
        object.__setattr__(self, "mixture", tuple((str(name), float(p)) for name, p in self.mixture))
        for field, low in (("depth", 1), ("width", 1), ("branching", 0), ("num_ids", 1), ("subset_seed", 0)):
            value = getattr(self, field)
            if not isinstance(value, int) or isinstance(value, bool) or value < low:
                raise ValueError(f"task.{field}: {value!r} is not an integer >= {low}")
        _choice("edge_order", self.edge_order, ("shuffled", "by_layer"))
        _choice("subset", self.subset, ("rank", "label"))
        for name, p in self.mixture:
            if name not in CLASSES:
                raise ValueError(f"task.mixture: no class {name!r}; valid are {', '.join(CLASSES)}")
            if not 0 <= p <= 1:
                raise ValueError(f"task.mixture.{name}: {p} is not a probability in [0, 1]")
        object.__setattr__(self, "mixture", tuple((name, p) for name, p in self.mixture if p > 0))
        total = math.fsum(p for _, p in self.mixture)
        if abs(total - 1) > 1e-6:
            raise ValueError(f"task.mixture: probabilities {dict(self.mixture)} sum to {total:.6g}, not to 1")
        if self.branching > self.depth:
            raise ValueError(f"task.branching: {self.branching} exceeds task.depth = {self.depth} layers")
        if self.branching and self.width < 2:
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
    def vocab_size(self) -> int:
        """Padding (0), the ids 1..m, and `|`, `/`, `=` as m+1, m+2, m+3."""
        return self.num_ids + 4

    @property
    def max_edges(self) -> int:
        """Edges of the largest graph: the branching layers are those whose nodes have `width` successors
        first."""
        inner = min(self.branching, self.depth - 1)
        return self.width + (self.depth - 1 + inner) * self.width + 1 + (self.branching - inner)

    @property
    def prompt_length(self) -> int:
        """Tokens of the longest prompt: `u v` for each edge, the separators, and `/ s t =`."""
        return (3 * self.max_edges - 1 if self.separators else 2 * self.max_edges) + 4

    @property
    def response_length(self) -> int:
        """The path's L + 2 nodes, source and target included."""
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
        """2^branching valid paths."""
        return 2**self.branching

    @functools.cached_property
    def _subset_positions(self) -> np.ndarray:
        """V' for subset=rank, as a mask over (source, target, layer-major ranks)."""
        chosen = np.random.default_rng(self.subset_seed).permutation(self.num_nodes)[: self.num_nodes // 2]
        return np.isin(np.arange(self.num_nodes), chosen)

    @functools.cached_property
    def _subset_labels(self) -> np.ndarray:
        """V' for subset=label, as a mask over the ids 0..m (0 is no id)."""
        chosen = 1 + np.random.default_rng(self.subset_seed).permutation(self.num_ids)[: self.num_ids // 2]
        return np.isin(np.arange(self.num_ids + 1), chosen)

    @functools.cached_property
    def _layer_parity(self) -> np.ndarray:
        """p(i) of the intermediate layers i = 2..L+1."""
        return np.arange(2, self.depth + 2) % 2

    def _bit(self, ends: Int[Array, " 2"], nodes: Int[Array, "depth width"]) -> Int[Array, ""]:
        if self.subset == "rank":
            values = jnp.concatenate([ends, jnp.sort(nodes, axis=1).reshape(-1)])
            member = jnp.asarray(self._subset_positions)
        else:
            values = jnp.concatenate([ends, nodes.reshape(-1)])
            member = jnp.asarray(self._subset_labels)[values]
        return jnp.sum(jnp.where(member, values % 2, 0)) % 2

    def _draw(self, key: PRNGKeyArray) -> _Draw:
        """A graph uniform over all labelled ones whose branching layers have an even and an odd passable
        node."""
        layers_key, chosen_key, ids_key = jax.random.split(key, 3)
        rank = jnp.argsort(jax.random.uniform(layers_key, (self.depth,)))
        branching = rank < self.branching
        # The constrained slots' ids are drawn on their own: were they taken off a permutation by parity, the
        # parities of what is left would not be exchangeable any more.
        draws = (
            jax.random.uniform(chosen_key, (2, (self.num_ids + 1) // 2)).at[0, self.num_ids // 2 :].set(-1.0)
        )
        chosen = 2 * jax.lax.top_k(draws, self.branching)[1] + jnp.asarray([[2], [1]])
        priority = jax.random.uniform(ids_key, (self.num_ids,)).at[chosen.reshape(-1) - 1].set(2.0)
        rest = 1 + jnp.argsort(priority)
        constrained = branching[:, None] & (jnp.arange(self.width) < 2)
        free = jnp.cumsum(~constrained.reshape(-1)).reshape(self.depth, self.width)
        ends, nodes = rest[:2], rest[1 + free]
        if self.branching:
            own = chosen[:, jnp.minimum(rank, self.branching - 1)].T
            nodes = nodes.at[:, :2].set(jnp.where(branching[:, None], own, nodes[:, :2]))
        return _Draw(ends, nodes, branching, self._bit(ends, nodes))

    def sample_group(self, key: PRNGKeyArray, group: Int[Array, ""]) -> Example:
        """Draw the graph given the class's XOR bit (by rejection, exactly), then the path by the class's
        rule."""
        bit_key, graph_key, path_key, edge_key = jax.random.split(key, 4)
        bits = jnp.asarray([-1 if CLASSES[name].bit is None else CLASSES[name].bit for name in self.groups])
        wanted = bits[group]
        wanted = jnp.where(wanted < 0, jax.random.bernoulli(bit_key).astype(wanted.dtype), wanted)

        def redraw(carry: tuple[Array, _Draw]) -> tuple[Array, _Draw]:
            attempt, _ = carry
            return attempt + 1, self._draw(jax.random.fold_in(graph_key, attempt))

        first = (jnp.asarray(1), self._draw(jax.random.fold_in(graph_key, 0)))
        _, draw = jax.lax.while_loop(lambda carry: carry[1].bit != wanted, redraw, first)

        latent = self._latent(draw, group)
        oppose = self._sample_opposition(path_key, group)
        response = self._path(latent, oppose)
        prompt, prompt_mask = self._prompt(edge_key, draw)
        return Example(
            prompt=prompt,
            prompt_mask=prompt_mask,
            response=response,
            response_mask=jnp.ones((self.response_length,), bool),
            log_prob=self.log_prob(latent, response),
            group=group.astype(jnp.int32),
            latent=latent,
        )

    def _latent(self, draw: _Draw, group: Int[Array, ""]) -> GraphLatent:
        first = draw.nodes[:, 0]
        single = jnp.stack(
            [jnp.where(first % 2 == 0, first, -1), jnp.where(first % 2 == 1, first, -1)], axis=1
        )
        both = draw.nodes[:, :2] if self.width > 1 else single
        passable = jnp.where(draw.branching[:, None], both, single)
        return GraphLatent(draw.ends[0], draw.ends[1], passable, draw.bit, group.astype(jnp.int32))

    def _sample_opposition(self, key: PRNGKeyArray, group: Int[Array, ""]) -> Bool[Array, " depth"]:
        """For each layer, whether the path would take the node of the other parity if the layer branches."""
        rules = [CLASSES[name].rule for name in self.groups]
        always = jnp.asarray([rule == "oppose" for rule in rules])[group]
        uniform = jnp.asarray([rule == "uniform" for rule in rules])[group]
        return jnp.where(uniform, jax.random.bernoulli(key, shape=(self.depth,)), always)

    def _path(self, latent: GraphLatent, oppose: Bool[Array, " depth"]) -> Int[Array, " response"]:
        side = jnp.asarray(self._layer_parity) ^ oppose.astype(int)
        chosen = jnp.take_along_axis(latent.passable, side[:, None], axis=1)[:, 0]
        nodes = jnp.where(jnp.all(latent.passable >= 0, axis=1), chosen, jnp.max(latent.passable, axis=1))
        return jnp.concatenate([latent.source[None], nodes, latent.target[None]]).astype(jnp.int32)

    def _prompt(self, key: PRNGKeyArray, draw: _Draw) -> tuple[Int[Array, " prompt"], Bool[Array, " prompt"]]:
        slot_key, edge_key = jax.random.split(key)
        passable = jnp.zeros((self.depth, self.width), bool).at[:, 0].set(True)
        if self.branching:
            passable = passable.at[:, 1].set(draw.branching)
        # Slots are shuffled within their layer: in layer order, position would otherwise tell passable from
        # dead.
        shuffle = jnp.argsort(jax.random.uniform(slot_key, (self.depth, self.width)), axis=1)
        nodes = jnp.take_along_axis(draw.nodes, shuffle, axis=1)
        passable = jnp.take_along_axis(passable, shuffle, axis=1)
        sources = [
            jnp.repeat(draw.ends[:1], self.width),
            jnp.repeat(nodes[:-1].reshape(-1), self.width),
            nodes[-1],
        ]
        targets = [
            nodes[0],
            jnp.repeat(nodes[1:], self.width, axis=0).reshape(-1),
            jnp.repeat(draw.ends[1:], self.width),
        ]
        exists = [
            jnp.ones((self.width,), bool),
            jnp.repeat(passable[:-1].reshape(-1), self.width),
            passable[-1],
        ]
        source, target, exist = (jnp.concatenate(parts) for parts in (sources, targets, exists))
        if self.edge_order == "shuffled":
            priority = jax.random.uniform(edge_key, exist.shape)
        else:
            priority = jnp.arange(exist.shape[0]) / exist.shape[0]
        order = jnp.argsort(jnp.where(exist, priority, -1.0))[-self.max_edges :]
        columns = [source[order], target[order]]
        if self.separators:
            columns.append(jnp.full_like(order, self.num_ids + 1))
        edges = jnp.stack(columns, axis=1)
        edge_mask = jnp.broadcast_to(exist[order][:, None], edges.shape).reshape(-1)
        tokens = edges.reshape(-1)[: -1 if self.separators else None]
        tail = jnp.stack(
            [jnp.asarray(self.num_ids + 2), draw.ends[0], draw.ends[1], jnp.asarray(self.num_ids + 3)]
        )
        mask = jnp.concatenate([edge_mask[: tokens.shape[0]], jnp.ones((4,), bool)])
        return jnp.where(mask, jnp.concatenate([tokens, tail]), PAD).astype(jnp.int32), mask

    def _opposition(
        self, latent: GraphLatent, response: Int[Array, " response"]
    ) -> tuple[Bool[Array, ""], Bool[Array, " depth"], Bool[Array, " depth"]]:
        """(valid, branching, oppose): whether the response is a valid path, and how it goes through the
        graph."""
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
        }
        return jnp.where(valid, jnp.stack([by_rule[CLASSES[name].rule] for name in self.groups]), -jnp.inf)

    def _class_posterior(self, latent: GraphLatent) -> Float[Array, " groups"]:
        """ln P(c|x)."""
        log_prior = jnp.log(jnp.asarray(self.group_probs))
        bits = [CLASSES[name].bit for name in self.groups]
        likelihood = [
            jnp.asarray(0.5) if bit is None else (latent.bit == bit).astype(jnp.float32) for bit in bits
        ]
        return jax.nn.log_softmax(log_prior + jnp.log(jnp.stack(likelihood)))

    def log_prob(self, latent: GraphLatent, response: Int[Array, " response"]) -> Float[Array, ""]:
        """ln pi_D(y|x) = ln sum_c P(c|x) pi_c(y|x), in nats; -inf for a path that no possible class emits."""
        return jax.nn.logsumexp(self._class_posterior(latent) + self._class_log_probs(latent, response))

    def reward(self, latent: GraphLatent, response: Int[Array, " response"]) -> Float[Array, ""]:
        """1 if the example's own class can emit the path: THE path for G1 and G2, any valid path for G3."""
        return jnp.isfinite(self._class_log_probs(latent, response)[latent.group]).astype(jnp.float32)

    def validity(self, latent: GraphLatent, response: Int[Array, " response"]) -> Float[Array, ""]:
        """1 if the response goes from source to target through passable nodes only."""
        return self._opposition(latent, response)[0].astype(jnp.float32)

    def enumerate(self, latent: GraphLatent) -> Enumeration:
        """All 2^branching valid paths; candidate 0 follows the parity rule everywhere, the last opposes it
        everywhere.

        The k-th binary digit of a candidate's index, most significant first, says whether it opposes the rule
        in the k-th branching layer.
        """
        choices = np.asarray(list(itertools.product((False, True), repeat=self.branching)), bool)
        choices = choices.reshape(self.num_enumerated, self.branching)
        branching = jnp.all(latent.passable >= 0, axis=1)
        digit = jnp.cumsum(branching) - 1
        oppose = (
            jnp.where(branching, jnp.take(jnp.asarray(choices), digit, axis=1, mode="clip"), False)
            if self.branching
            else (jnp.zeros((1, self.depth), bool))
        )
        responses = jax.vmap(self._path, in_axes=(None, 0))(latent, oppose)
        return Enumeration(responses, jnp.ones((self.num_enumerated,), bool))

    @functools.cached_property
    def _specials(self) -> dict[str, int]:
        return {"|": self.num_ids + 1, "/": self.num_ids + 2, "=": self.num_ids + 3}

    def encode(self, text: str) -> list[int]:
        """Tokens of `u1 v1 | u2 v2 | ... / s t =` or of a path.

        Raises:
            ValueError: for a word that is neither an id in 1..num_ids nor one of `|`, `/`, `=`.
        """
        tokens = []
        for word in text.split():
            if word in self._specials:
                tokens.append(self._specials[word])
            elif word.isdecimal() and 1 <= int(word) <= self.num_ids:
                tokens.append(int(word))
            else:
                raise ValueError(f"text: {word!r} is neither an id in 1..{self.num_ids} nor one of | / =")
        return tokens

    def decode(self, tokens: Any) -> str:
        """Text of a prompt or response; padding is skipped."""
        names = {token: text for text, token in self._specials.items()}
        return " ".join(
            names.get(int(token), str(int(token))) for token in np.asarray(tokens) if int(token) != PAD
        )
