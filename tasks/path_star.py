"""Path-star graphs: one choice at the start, then a path to follow (Bachmann, Nagarajan, arXiv 2403.06963).

G(d, l) has d arms that leave one start node; every arm is a path of l nodes, the start included. The prompt
is the shuffled edge list and `/ start goal =`. The goal is the last node of one arm, and the response is that
arm.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from tasks import edge_list
from tasks.base import Enumeration, Example, Task
from tasks.checks import flag, whole
from tasks.ordering import lowest


class PathStarLatent(NamedTuple):
    """Arms of a graph as responses, and the index of the arm that ends in the goal."""

    arms: Int[Array, "arms path_length"]
    goal: Int[Array, ""]


@dataclasses.dataclass(frozen=True)
class PathStar(Task):
    """G(d, l) with one class of prompts and a deterministic pi_D: the arm to the goal has probability 1.

    Attributes:
        arms: d, number of arms.
        path_length: l, number of nodes from the start to the end of an arm, both counted.
        num_ids: node ids are drawn without replacement from 1..num_ids.
        separators: write `|` between edges.
        reversed: write the response from the goal to the start. Every token is then a look-up of the edge
            into the token before; from the start to the goal, the second token depends on the whole arm.

    The valid responses to a prompt are the d arms. "Clever Hans" (section 4 of the paper): a model that
    follows edges and chooses an arm at random puts 1/d on every arm. Its cross-entropy is ln d nats, Cov_N is
    1 for N <= d and 0 beyond, and Pass@N = 1 - (1 - 1/d)^N (derived).

    Raises:
        ValueError: in one line, for a field out of range.
    """

    arms: int = 2
    path_length: int = 5
    num_ids: int = 50
    separators: bool = True
    reversed: bool = False

    def __post_init__(self) -> None:
        for field, low in (("arms", 2), ("path_length", 2), ("num_ids", 1)):
            whole(f"task.{field}", getattr(self, field), low)
        for field in ("separators", "reversed"):
            flag(f"task.{field}", getattr(self, field))
        if self.num_ids < self.num_nodes:
            raise ValueError(
                f"task.num_ids: {self.num_ids} ids are too few for {self.num_nodes} nodes (1 + arms x "
                f"(path_length - 1)); need >= {self.num_nodes}"
            )

    @property
    def num_nodes(self) -> int:
        """|V| = 1 + d (l - 1)."""
        return 1 + self.arms * (self.path_length - 1)

    @property
    def least_prompts(self) -> int:
        """Number of sets of node ids."""
        return math.comb(self.num_ids, self.num_nodes)

    @property
    def vocab_size(self) -> int:
        """Padding (0), the ids 1..m, and `|`, `/`, `=` as m+1, m+2, m+3."""
        return self.num_ids + 4

    @property
    def prompt_length(self) -> int:
        """Tokens of a prompt: `u v` for d (l - 1) edges, the separators, and `/ start goal =`."""
        return edge_list.prompt_length(self.num_nodes - 1, self.separators)

    @property
    def response_length(self) -> int:
        """Number l of nodes of an arm, the start included."""
        return self.path_length

    @property
    def response_tokens(self) -> tuple[int, ...]:
        """The node ids."""
        return tuple(range(1, self.num_ids + 1))

    @property
    def groups(self) -> tuple[str, ...]:
        """One class."""
        return ("path_star",)

    @property
    def group_probs(self) -> tuple[float, ...]:
        """Probability 1."""
        return (1.0,)

    @property
    def num_enumerated(self) -> int:
        """Number d of arms."""
        return self.arms

    def sample_group(self, key: PRNGKeyArray, group: Int[Array, ""]) -> Example:
        """Draw uniform ids, a uniform arm of the goal, and a uniform order of the edges."""
        ids_key, goal_key, edge_key = jax.random.split(key, 3)
        ids = 1 + lowest(jax.random.uniform(ids_key, (self.num_ids,)), self.num_nodes)
        start = jnp.broadcast_to(ids[0], (self.arms, 1))
        paths = jnp.concatenate([start, ids[1:].reshape(self.arms, -1)], axis=1).astype(jnp.int32)
        goal = jax.random.randint(goal_key, (), 0, self.arms)
        order = jnp.argsort(jax.random.uniform(edge_key, (self.num_nodes - 1,)))
        source, target = paths[:, :-1].reshape(-1)[order], paths[:, 1:].reshape(-1)[order]
        prompt, prompt_mask = edge_list.edge_tokens(
            source,
            target,
            jnp.ones(source.shape, bool),
            jnp.stack([paths[goal, 0], paths[goal, -1]]),
            self.num_ids,
            self.separators,
        )
        latent = PathStarLatent(paths[:, ::-1] if self.reversed else paths, goal)
        response = latent.arms[goal]
        return Example(
            prompt=prompt,
            prompt_mask=prompt_mask,
            response=response,
            response_mask=jnp.ones((self.response_length,), bool),
            log_prob=self.log_prob(latent, response),
            group=jnp.asarray(group, jnp.int32),
            latent=latent,
        )

    def _is_arm(self, latent: PathStarLatent, response: Int[Array, " response"]) -> Bool[Array, " arms"]:
        """True for the arm that equals the response."""
        return jnp.all(latent.arms == response, axis=1)

    def log_prob(self, latent: PathStarLatent, response: Int[Array, " response"]) -> Float[Array, ""]:
        """0 for the arm to the goal, else -inf, in nats."""
        return jnp.where(self._is_arm(latent, response)[latent.goal], 0.0, -jnp.inf)

    def reward(self, latent: PathStarLatent, response: Int[Array, " response"]) -> Float[Array, ""]:
        """1 for the arm to the goal, else 0."""
        return self._is_arm(latent, response)[latent.goal].astype(jnp.float32)

    def validity(self, latent: PathStarLatent, response: Int[Array, " response"]) -> Float[Array, ""]:
        """1 for every arm, that is for a path along edges between the start and the end of an arm, else 0."""
        return jnp.any(self._is_arm(latent, response)).astype(jnp.float32)

    def enumerate(self, latent: PathStarLatent) -> Enumeration:
        """The d arms, in an order independent of the goal."""
        return Enumeration(latent.arms, jnp.ones((self.arms,), bool))

    def encode(self, text: str) -> list[int]:
        """Tokens of `u1 v1 | u2 v2 | ... / start goal =` or of a path.

        Raises:
            ValueError: for a word that is neither an id in 1..num_ids nor one of `|`, `/`, `=`.
        """
        return edge_list.encode(text, self.num_ids)

    def decode(self, tokens: Any) -> str:
        """Text of a prompt or response; padding is skipped."""
        return edge_list.decode(tokens, self.num_ids)
