"""Stack states of bracket strings: after a prompt, and at every token of a response."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from tasks.base import PAD
from tasks.bracket_text import BracketText


class BracketLatent(NamedTuple):
    """Stack of open brackets after a prompt, which is a prefix of the string.

    `prefix` is padded on the right, `length` is the number of brackets in the prefix, and `depth` the number
    of open ones. For every level of depth, `stack` is the type (0..k-1) of the open bracket and `opened` the
    position of that bracket in the string; both are -1 above `depth`.
    """

    prefix: Int[Array, " prefix"]
    length: Int[Array, ""]
    depth: Int[Array, ""]
    stack: Int[Array, " levels"]
    opened: Int[Array, " levels"]
    group: Int[Array, ""]


class Parsed(NamedTuple):
    """States of a response; entry j is the state before token j, the last entry the state at the end.

    `top` and `opened` are type and position in the string of the innermost open bracket, -1 if there is none.
    `legal` is True if all earlier tokens are brackets and every close bracket matches an open one.
    """

    depth: Int[Array, " states"]
    top: Int[Array, " states"]
    opened: Int[Array, " states"]
    legal: Bool[Array, " states"]


def matches(
    latent: BracketLatent,
    is_open: Bool[Array, " response"],
    depth: Int[Array, " states"],
    types: Int[Array, " response"],
) -> tuple[Int[Array, " states"], Int[Array, " states"]]:
    """(type, position in the string) of the innermost open bracket in every state, -1 where there is none.

    The innermost open bracket is the last one that raised the depth to its present value. All states are
    looked up at once, in O(R (R + levels)) comparisons and without a loop.
    """
    held = jnp.arange(latent.stack.size)
    level = jnp.concatenate([jnp.where(held < latent.depth, held + 1, -1), depth[1:]])
    opens = jnp.concatenate([held < latent.depth, is_open])
    kind = jnp.concatenate([latent.stack, types])
    place = jnp.concatenate([latent.opened, latent.length + jnp.arange(is_open.size)])
    rank = jnp.arange(level.size)
    before = rank[None, :] - held.size < jnp.arange(depth.size)[:, None]
    fits = before & opens[None, :] & (level[None, :] == depth[:, None])
    found = jnp.max(jnp.where(fits, rank[None, :], -1), axis=1)
    return jnp.where(found < 0, -1, kind[found]), jnp.where(found < 0, -1, place[found])


def depths(
    first: Int[Array, ""], is_open: Bool[Array, " response"], is_close: Bool[Array, " response"]
) -> Int[Array, " states"]:
    """Depth before every token and at the end, starting from depth `first`."""
    moves = is_open.astype(jnp.int32) - is_close.astype(jnp.int32)
    return first + jnp.concatenate([jnp.zeros((1,), jnp.int32), jnp.cumsum(moves)])


def parse(text: BracketText, latent: BracketLatent, response: Int[Array, " response"]) -> Parsed:
    """Parse a response to the prompt of `latent`."""
    is_open, is_close, types = text.kinds(response)
    depth = depths(latent.depth, is_open, is_close)
    top, opened = matches(latent, is_open, depth, types)
    fits = is_open | (is_close & (types == top[:-1]))
    wrong = jnp.concatenate([jnp.zeros((1,), jnp.int32), jnp.cumsum(~fits)])
    return Parsed(depth, top, opened, wrong == 0)


def empty_stack(levels: int) -> BracketLatent:
    """The latent of an empty prompt."""
    none = jnp.full((levels,), -1, jnp.int32)
    zero = jnp.asarray(0, jnp.int32)
    return BracketLatent(jnp.zeros((0,), jnp.int32), zero, zero, none, none, zero)


def latent_of(
    text: BracketText,
    tokens: Int[Array, " tokens"],
    length: Int[Array, ""],
    group: Int[Array, ""],
    longest: int,
    levels: int,
) -> BracketLatent:
    """Stack after the first `length` tokens, for at most `longest` brackets and `levels` levels."""
    is_open, is_close, types = text.kinds(tokens)
    depth = depths(jnp.asarray(0, jnp.int32), is_open, is_close)
    place, level = jnp.arange(tokens.size), jnp.arange(levels)
    raises = is_open & (place < length) & (depth[1:] == level[:, None] + 1)
    opened = jnp.where(level < depth[length], jnp.max(jnp.where(raises, place, -1), axis=1), -1)
    return BracketLatent(
        prefix=jnp.where(place < length, tokens, PAD)[:longest].astype(jnp.int32),
        length=length.astype(jnp.int32),
        depth=depth[length],
        stack=jnp.where(opened >= 0, types[opened], -1).astype(jnp.int32),
        opened=opened.astype(jnp.int32),
        group=group.astype(jnp.int32),
    )


def first_tokens(prefix: Int[Array, " response"], length: Int[Array, ""]) -> Int[Array, " response"]:
    """`prefix` with padding from position `length` on."""
    return jnp.where(jnp.arange(prefix.size) < length, prefix, PAD)
