"""Majority vote over whole responses (self-consistency)."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Int

from decoding.explore import Chains, Flags, Keys, Tree, at_leaf
from decoding.paths import PerChain, prefix_of, token_before
from decoding.whole import WholeResponses, draw, restart
from tasks import PAD
from tasks.checks import whole


class _Ballots(NamedTuple):
    """Number of responses `drawn` so far, with paths, lengths and answers of the candidates."""

    drawn: PerChain
    paths: Int[Array, "batch chains candidates response"]
    depths: Int[Array, "batch chains candidates"]
    answers: Int[Array, "batch chains candidates answer"]


@dataclasses.dataclass(frozen=True)
class MajorityVote(WholeResponses):
    """Of N = `candidates` responses from the base model, the first one with the most frequent answer.

    Ties between answers go to the answer that was drawn first. Given the winning answer, the response has the
    base model's law among the responses with this answer. Exact law: `majority_law`. As N grows the law tends
    to the most probable answer, right or wrong. Cost: no query, and N responses.

    Attributes:
        answer_length: null: the answer is the whole response. A number n: the last n tokens of the response,
            without the task's end token (self-consistency: the steps before do not vote).

    Source: self-consistency, Wang et al. 2023, arXiv 2203.11171.

    Raises:
        ValueError: a field out of range.
    """

    needs_values: ClassVar[bool] = False

    answer_length: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.answer_length is not None:
            whole("answer_length", self.answer_length, 1, other="null")

    @property
    def most_queries(self) -> int:
        """0: nothing is evaluated."""
        return 0

    @property
    def num_keys(self) -> int:
        """One key, for the token."""
        return 1

    def own_state(self, tree: Tree, state: Chains) -> _Ballots:
        """State before the first draw."""
        shape = (*state.depth.shape, self.candidates)
        answer = state.path.shape[-1] if self.answer_length is None else self.answer_length
        paths, answers = (jnp.full((*shape, size), PAD, jnp.int32) for size in (state.path.shape[-1], answer))
        return _Ballots(state.depth, paths, jnp.zeros(shape, jnp.int32), answers)

    def act(
        self, tree: Tree, state: Chains, own: _Ballots, which: Flags, keys: Keys
    ) -> tuple[Chains, _Ballots]:
        """Draw a token; at a leaf store the response and restart, or return the winner of the vote."""
        leaf = which & at_leaf(tree, state)
        state = draw(state, which & ~leaf, keys[0])
        here = (jnp.arange(self.candidates) == own.drawn[..., None]) & leaf[..., None]
        own = _Ballots(
            jnp.where(leaf, own.drawn + 1, own.drawn),
            jnp.where(here[..., None], state.path[:, :, None], own.paths),
            jnp.where(here, state.depth[..., None], own.depths),
            jnp.where(here[..., None], self._answer(tree, state)[:, :, None], own.answers),
        )
        over = leaf & (own.drawn >= self.candidates)
        same = jnp.all(own.answers[:, :, :, None] == own.answers[:, :, None], axis=-1)
        winner = jnp.argmax(same.sum(axis=-1), axis=-1)[..., None]
        path = jnp.take_along_axis(own.paths, winner[..., None], axis=2)[:, :, 0]
        depth = jnp.take_along_axis(own.depths, winner, axis=2)[..., 0]
        return restart(state, leaf & ~over).move(path, depth, over).stop(over, over), own

    def _answer(self, tree: Tree, state: Chains) -> Int[Array, "batch chains answer"]:
        """Answer of the current leaf, padded on the left."""
        if self.answer_length is None:
            return prefix_of(state.path, state.depth)
        end = state.depth
        if tree.task.end_token is not None:
            end = end - (token_before(state.path, state.depth) == tree.task.end_token).astype(end.dtype)
        place = end[..., None] - self.answer_length + jnp.arange(self.answer_length)
        tokens = jnp.take_along_axis(state.path, jnp.clip(place, 0, state.path.shape[-1] - 1), axis=-1)
        return jnp.where(place >= 0, tokens, PAD)
