"""The delta rule of linear recurrent networks: one token at a time, and whole sequences in chunks.

A head's state S is a (value, key) matrix that maps keys to values. Each token makes n_h steps, in order:

    S <- S (I - beta k k^T) + beta v k^T

and then gives S q. With |k| = 1 a step has the eigenvalue 1 - beta for k and 1 elsewhere. beta = 1 replaces
the value that S has for k by v. beta = 2 is a Householder reflection. DeltaNet has n_h = 1
(arXiv 2406.06484), DeltaProduct more (arXiv 2502.10297).

Everything is float32, and matrix products are not rounded to fewer bits on accelerators: a recurrence with
eigenvalues near -1 or 1 keeps every error to the end of the sequence.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from models.delta_scan import inverse, scan_chunks
from models.target import platform

SMALLEST_NORM = 1e-3
"""Norm below which `normalise` divides by this number, so that its gradient is at most 1 over it."""


def _matmul(a: Array, b: Array) -> Array:
    """Products of two stacks of matrices, as one stack: XLA on CPU (jaxlib 0.10.2) fails to compile products
    of small matrices with several batch axes whose order in memory it has changed."""
    stacks = (x.reshape(-1, *x.shape[-2:]) for x in (a, b))
    product = jnp.matmul(*stacks, precision=jax.lax.Precision.HIGHEST)
    return product.reshape(*a.shape[:-1], b.shape[-1])


@jax.custom_vjp
def _product(a: Float[Array, "*batch row inner"], b: Float[Array, "*batch inner column"]) -> Array:
    """Matrix products a b of two stacks of one shape."""
    return _matmul(a, b)


def _transpose(x: Float[Array, "*batch row column"]) -> Float[Array, "*batch column row"]:
    """x^T as an array of its own: XLA on CPU multiplies small transposed matrices up to four times slower."""
    transposed = jnp.swapaxes(x, -1, -2)
    return jax.lax.optimization_barrier(transposed) if jax.default_backend() == "cpu" else transposed


def _product_forward(a: Array, b: Array) -> tuple[Array, tuple[Array, Array]]:
    return _matmul(a, b), (a, b)


def _product_backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    """da = g b^T, db = a^T g."""
    a, b = saved
    return _matmul(gradient, jnp.swapaxes(b, -1, -2)), _matmul(_transpose(a), gradient)


_product.defvjp(_product_forward, _product_backward)


def normalise(x: Float[Array, "*batch key"]) -> Float[Array, "*batch key"]:
    """x / max(|x|, `SMALLEST_NORM`) over the last axis: of norm 1, or shorter for a vector near 0.

    Unlike x / sqrt(|x|^2 + eps), the norm is 1 up to rounding, so that beta = 2 is a reflection.
    """
    squares = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
    return x / jnp.sqrt(jnp.maximum(squares, SMALLEST_NORM**2))


def delta_step(
    state: Float[Array, "*batch value key"],
    query: Float[Array, "*batch key"],
    keys: Float[Array, "*batch steps key"],
    values: Float[Array, "*batch steps value"],
    betas: Float[Array, "*batch steps"],
) -> tuple[Float[Array, "*batch value key"], Float[Array, "*batch value"]]:
    """The state after the steps of one token, and its output S q.

    >>> e = jnp.eye(2)
    >>> state, output = delta_step(jnp.zeros((2, 2)), e[0], e[:1], 3 * e[1:], jnp.ones(1))
    >>> output.tolist()
    [0.0, 3.0]
    """
    for step in range(keys.shape[-2]):
        key, value, beta = keys[..., step, :], values[..., step, :], betas[..., step, None]
        error = value - _product(state, key[..., None])[..., 0]
        state = state + (beta * error)[..., None] * key[..., None, :]
    return state, _product(state, query[..., None])[..., 0]


def delta_chunked(
    state: Float[Array, "batch heads value key"],
    query: Float[Array, "batch heads length key"],
    keys: Float[Array, "batch heads length steps key"],
    values: Float[Array, "batch heads length steps value"],
    betas: Float[Array, "batch heads length steps"],
    chunk_size: int,
) -> tuple[Float[Array, "batch heads value key"], Float[Array, "batch heads length value"]]:
    """The state after a sequence, and the outputs of its tokens: what `delta_step` gives, chunk by chunk.

    The n_h steps of each of a chunk's `chunk_size` tokens are one sequence of steps r. From the state S
    before the chunk, step r adds u_r k_r^T with u_r = beta_r (v_r - S_{r-1} k_r). Rows u_r form the matrix

        U = T diag(beta) (V - K S^T),   T = (I + diag(beta) tril(K K^T, -1))^-1,

    the WY representation of the product of the steps (arXiv 2406.06484, section 3.2). With
    W = T diag(beta) K and Y = T diag(beta) V, which need no state,

        state after the chunk = S + U^T K = S (I - W^T K) + Y^T K
        outputs = Q S^T + A U = (Q - A W) S^T + A Y,   A = Q K^T at the steps of a token and before, else 0.

    So a scan over chunks multiplies states by one small matrix, and everything else is computed for all
    chunks at once.

    The length need not be a multiple of `chunk_size`: a step with beta = 0 changes nothing. On CPU everything
    is computed chunk by chunk instead, with as many tokens in a chunk as make about `chunk_size` steps.
    """
    length, steps = keys.shape[2], keys.shape[3]
    in_turn = platform() == "cpu"
    tokens = min(max(chunk_size // steps, 1) if in_turn else chunk_size, length)
    q, k, v = (_in_chunks(each, tokens) for each in (query, keys, values))
    beta = _in_chunks(betas[..., None], tokens)
    final, outputs = (_chunks_in_turn if in_turn else _chunks_at_once)(state, q, k, v, beta)
    return final, outputs.reshape(*query.shape[:2], -1, values.shape[-1])[:, :, :length]


def _in_chunks(x: Array, tokens: int) -> Array:
    """(batch, heads, length, ..., size) as (batch, heads, chunks, rows, size), with zeros at the end."""
    count = -(-x.shape[2] // tokens)
    more = count * tokens - x.shape[2]
    padded = jnp.pad(x, [(0, more if axis == 2 else 0) for axis in range(x.ndim)])
    return padded.reshape(*x.shape[:2], count, -1, x.shape[-1])


def _chunks_in_turn(state: Array, *chunks: Array) -> tuple[Array, Array]:
    """`scan_chunks` with the heads of all sequences on one axis, behind that of the chunks."""
    rows = (jnp.moveaxis(x.reshape(-1, *x.shape[2:]), 1, 0) for x in chunks)
    transposed = jnp.swapaxes(state, -1, -2)
    final, outputs = scan_chunks(transposed.reshape(-1, *transposed.shape[2:]), *rows)
    return jnp.swapaxes(final.reshape(transposed.shape), -1, -2), jnp.moveaxis(outputs, 0, 1)


def _chunks_at_once(state: Array, q: Array, k: Array, v: Array, beta: Array) -> tuple[Array, Array]:
    """A scan that multiplies states by one matrix, and all else for all chunks at once."""
    chunk_size, steps = q.shape[3], k.shape[3] // q.shape[3]
    key_size, transposed = k.shape[-1], _transpose(k)
    below = jnp.tril(beta * _product(k, transposed), -1)
    wy = _product(_inverse(below), beta * jnp.concatenate([k, v], axis=-1))
    factor, added = jnp.split(_product(_transpose(wy), k), [key_size], axis=-2)
    factor = jnp.eye(key_size, dtype=k.dtype) - factor

    def advance(state: Array, chunk: tuple[Array, Array]) -> tuple[Array, Array]:
        return _product(state, chunk[0]) + chunk[1], state

    final, states = jax.lax.scan(advance, state, (jnp.moveaxis(factor, 2, 0), jnp.moveaxis(added, 2, 0)))
    token = jnp.arange(chunk_size * steps) // steps
    seen = token <= jnp.arange(chunk_size)[:, None]
    a = jnp.where(seen, _product(q, transposed), 0.0)
    aw, ay = jnp.split(_product(a, wy), [key_size], axis=-1)
    outputs = _product(q - aw, _transpose(jnp.moveaxis(states, 0, 2))) + ay
    return final, outputs


@jax.custom_vjp
def _inverse(below: Float[Array, "*batch row row"]) -> Float[Array, "*batch row row"]:
    """`delta_scan.inverse`, with its gradient."""
    return inverse(below.reshape(-1, *below.shape[-2:])).reshape(below.shape)


def _inverse_forward(below: Array) -> tuple[Array, Array]:
    solved = _inverse(below)
    return solved, solved


def _inverse_backward(solved: Array, gradient: Array) -> tuple[Array]:
    """dL = -T^T dT T^T."""
    transposed = _transpose(solved)
    return (-_matmul(transposed, _matmul(gradient, transposed)),)


_inverse.defvjp(_inverse_forward, _inverse_backward)
