"""The chunks of the delta rule in turn, with a gradient written by hand, for CPU.

A chunk of all heads of a batch stays in the processor's cache while its products are computed. The notation
is that of `models.delta_rule.delta_chunked`, with the transposed state M = S^T, a (key, value) matrix.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

_BLOCK = 8
"""Size of the diagonal blocks that `inverse` inverts row by row."""

State = Float[Array, "heads key value"]
Queries = Float[Array, "chunks heads tokens key"]
Keys = Float[Array, "chunks heads rows key"]
Values = Float[Array, "chunks heads rows value"]
Betas = Float[Array, "chunks heads rows 1"]
Outputs = Float[Array, "chunks heads tokens value"]


class Saved(NamedTuple):
    """Arrays of a chunk that the gradient reads.

    Attributes:
        state: M before the chunk.
        inverse: T = (I + diag(beta) tril(K K^T, -1))^-1.
        added: U = T diag(beta) E, with E = V - K M.
        seen: A = Q K^T at the steps of a token and before, else 0.
    """

    state: Float[Array, "heads key value"]
    inverse: Float[Array, "heads rows rows"]
    added: Float[Array, "heads rows value"]
    seen: Float[Array, "heads tokens rows"]


@jax.custom_vjp
def scan_chunks(
    state: State, queries: Queries, keys: Keys, values: Values, betas: Betas
) -> tuple[State, Outputs]:
    """M after all chunks, and the outputs of their tokens.

    Row r of a chunk is a step, and rows r of equal floor(r tokens / rows) are the steps of one token.
    """
    state, (outputs, _) = _scan(state, queries, keys, values, _positive(betas))
    return state, outputs


def _positive(betas: Betas) -> Betas:
    """`betas` with a number that changes no result in place of 0, because the gradient divides by them."""
    return jnp.where(betas == 0, 1e-30, betas)


def _scan(
    state: State, queries: Queries, keys: Keys, values: Values, betas: Betas
) -> tuple[State, tuple[Outputs, Saved]]:
    rows = keys.shape[2]
    lower, visible = _masks(queries.shape[2], rows)

    def chunk(state: Array, own: tuple[Array, ...]) -> tuple[Array, tuple[Array, Saved]]:
        query, key, value, beta = own
        both = jnp.concatenate([key, query], axis=1)
        overlaps, seen = _split(_product(both, key, 2, 2), rows)
        overlaps, seen = jnp.where(lower, overlaps, 0.0), jnp.where(visible, seen, 0.0)
        solved = inverse(beta * overlaps)
        recalled, outputs = _split(_product(both, state), rows)
        added = _product(solved, beta * (value - recalled))
        saved = Saved(state, solved, added, seen)
        return state + _product(key, added, 1, 1), (outputs + _product(seen, added), saved)

    return jax.lax.scan(chunk, state, (queries, keys, values, betas))


def _forward(
    state: State, queries: Queries, keys: Keys, values: Values, betas: Betas
) -> tuple[tuple[State, Outputs], tuple[Array, Array, Array, Saved]]:
    betas = _positive(betas)
    state, (outputs, saved) = _scan(state, queries, keys, values, betas)
    return (state, outputs), (queries, keys, betas, saved)


def _backward(
    kept: tuple[Array, Array, Array, Saved], gradients: tuple[Array, Array]
) -> tuple[Array, Array, Array, Array, Array]:
    """With dO of the outputs, dM of the state after a chunk, R = diag(beta) E, and B = [-dE; dO] below
    [K; Q]:

        dU = A^T dO + K dM,   dR = T^T dU,   dE = diag(beta) dR = dV,
        dbeta_r = dR_r . (E - tril(K K^T, -1) U)_r = dR_r . U_r / beta_r,
        d(diag(beta) tril(K K^T, -1)) = -T^T dT T^T = -dR U^T,   dA = dO U^T,
        dM before = dM + [K; Q]^T B,   d[K; Q] = B M^T and the parts from K K^T, Q K^T and K^T U.
    """
    queries, keys, betas, saved = kept
    rows = keys.shape[2]
    lower, visible = _masks(queries.shape[2], rows)

    def chunk(
        to_state: Array, own: tuple[Array, Array, Array, Saved, Array]
    ) -> tuple[Array, tuple[Array, Array, Array, Array]]:
        query, key, beta, of, to_outputs = own
        both = jnp.concatenate([key, query], axis=1)
        to_added = _product(of.seen, to_outputs, 1, 1) + _product(key, to_state)
        to_right = _product(of.inverse, to_added, 1, 1)
        to_value = beta * to_right
        scores, to_seen = _split(
            _product(jnp.concatenate([to_right, to_outputs], axis=1), of.added, 2, 2), rows
        )
        scores = -jnp.where(lower, scores, 0.0)
        to_scores = jnp.concatenate([beta * scores, jnp.where(visible, to_seen, 0.0)], axis=1)
        below = jnp.concatenate([-to_value, to_outputs], axis=1)
        to_key, to_query = _split(_product(below, of.state, 2, 2) + _product(to_scores, key), rows)
        to_key += _product(of.added, to_state, 2, 2) + _product(to_scores, both, 1, 1)
        to_beta = jnp.sum(to_right * of.added, axis=-1, keepdims=True) / beta
        return to_state + _product(both, below, 1, 1), (to_query, to_key, to_value, to_beta)

    last, outputs = gradients
    chunks = queries, keys, betas, saved, outputs
    first, (to_queries, to_keys, to_values, to_betas) = jax.lax.scan(chunk, last, chunks, reverse=True)
    return first, to_queries, to_keys, to_values, to_betas


scan_chunks.defvjp(_forward, _backward)


def inverse(below: Float[Array, "matrices row row"]) -> Float[Array, "matrices row row"]:
    """T = (I + L)^-1 for matrices L with zeros on and above the diagonal.

    Diagonal blocks of `_BLOCK` rows are inverted first, row by row. Blocks of twice the size then follow from
    two inverses A^-1, B^-1 and the part C of L between them:

        [[A, 0], [C, B]]^-1 = [[A^-1, 0], [-B^-1 C A^-1, B^-1]].

    T is not computed from powers of L, as in a Neumann series: for equal keys they are huge although T is
    not.
    """
    matrices, size = below.shape[0], below.shape[-1]
    blocks = 1 << (-(-size // _BLOCK) - 1).bit_length()
    whole, half = blocks * _BLOCK, _BLOCK
    below = jnp.pad(below, ((0, 0), (0, whole - size), (0, whole - size)))
    solved = _block_inverses(below, blocks)
    while half < whole:
        starts = range(0, whole, 2 * half)
        between = jnp.stack(
            [below[:, start + half : start + 2 * half, start : start + half] for start in starts], axis=1
        )
        pairs = solved.reshape(matrices, -1, 2, half, half)
        first, second, between = (
            each.reshape(-1, half, half) for each in (pairs[:, :, 0], pairs[:, :, 1], between)
        )
        left = -_product(second, _product(between, first))
        upper = jnp.concatenate([first, jnp.zeros_like(first)], axis=2)
        solved = jnp.concatenate([upper, jnp.concatenate([left, second], axis=2)], axis=1)
        half *= 2
    return solved.reshape(matrices, whole, whole)[:, :size, :size]


def _block_inverses(below: Array, blocks: int) -> Array:
    """The inverses of all diagonal blocks. Blocks are the last axis meanwhile, so that a row of all blocks is
    one array."""
    places = [slice(first, first + _BLOCK) for first in range(0, blocks * _BLOCK, _BLOCK)]
    stacked = jnp.stack([below[:, place, place] for place in places], axis=1)
    entries = stacked.reshape(-1, _BLOCK**2).T.reshape(_BLOCK, _BLOCK, -1)
    rows: list[Array] = []
    for row, unit in enumerate(np.eye(_BLOCK, dtype=np.float32)):
        solved = jnp.broadcast_to(jnp.asarray(unit)[:, None], entries.shape[1:])
        for before in range(row):
            solved = solved - entries[row, before] * rows[before]
        rows.append(solved)
    return jnp.stack(rows).reshape(_BLOCK**2, -1).T.reshape(-1, _BLOCK, _BLOCK)


def _masks(tokens: int, rows: int) -> tuple[Bool[np.ndarray, "rows rows"], Bool[np.ndarray, "tokens rows"]]:
    """Pairs of a step and a step before it; pairs of a token and its steps and those before."""
    token = np.arange(rows) // (rows // tokens)
    return np.tri(rows, k=-1, dtype=bool), token <= np.arange(tokens)[:, None]


def _product(a: Array, b: Array, over_a: int = 2, over_b: int = 1) -> Array:
    """Products of two stacks of matrices, summed over axis `over_a` of a and `over_b` of b."""
    axes = (((over_a,), (over_b,)), ((0,), (0,)))
    return jax.lax.dot_general(a, b, axes, precision=jax.lax.Precision.HIGHEST)


def _split(stacked: Array, rows: int) -> tuple[Array, Array]:
    return stacked[:, :rows], stacked[:, rows:]
