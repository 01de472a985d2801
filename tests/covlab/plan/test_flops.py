"""FLOP of a jaxpr against products counted by hand."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from covlab.plan.flops import product_flops
from training import Grid, Layout
from training.mesh import EVERYWHERE, PER_EXAMPLE

X = jax.ShapeDtypeStruct((4, 8), jnp.float32)
W = jax.ShapeDtypeStruct((8, 8), jnp.float32)
ONE = 2 * 4 * 8 * 8
"""FLOP of X W."""


def flops(function, *arguments) -> int:
    return product_flops(jax.make_jaxpr(function)(*arguments)).total()


def test_a_product_and_its_two_gradients() -> None:
    assert flops(lambda x, w: x @ w, X, W) == ONE
    assert flops(jax.grad(lambda x, w: jnp.sum(x @ w), (0, 1)), X, W) == 3 * ONE


def test_dtypes_are_counted_apart() -> None:
    half = jax.ShapeDtypeStruct(X.shape, jnp.bfloat16)
    found = product_flops(jax.make_jaxpr(lambda x, y, w: (x @ w, y @ y.T))(X, half, W))
    assert found == {"float32": ONE, "bfloat16": 2 * 4 * 4 * 8}


def test_axes_of_a_batch_count_once() -> None:
    x = jax.ShapeDtypeStruct((5, 4, 8), jnp.float32)
    assert flops(lambda x: jnp.einsum("bik,bjk->bij", x, x), x) == 5 * 2 * 4 * 4 * 8


def test_nested_scans_multiply_and_a_while_counts_once() -> None:
    def inner(x, w):
        return jax.lax.fori_loop(0, 3, lambda _, x: x @ w, x)

    def outer(x, w, n):
        x = jax.lax.scan(lambda x, _: (inner(x, w), None), x, length=7)[0]
        return jax.lax.fori_loop(0, n, lambda _, x: x @ w, x)

    assert flops(outer, X, W, jax.ShapeDtypeStruct((), jnp.int32)) == (3 * 7 + 1) * ONE


def test_the_largest_branch_counts_and_functions_with_gradients_of_their_own_once() -> None:
    @jax.custom_vjp
    def linear(x, w):
        return x @ w

    linear.defvjp(lambda x, w: (x @ w, (x, w)), lambda saved, g: (g @ saved[1].T, saved[0].T @ g))

    def branched(x, w):
        return jax.lax.cond(x[0, 0] > 0, lambda x: x @ w @ w, lambda x: x @ w, linear(x, w))

    assert flops(branched, X, W) == 3 * ONE


def test_a_convolution_counts_its_windows() -> None:
    image, kernel = (
        jax.ShapeDtypeStruct((1, 3, 10), jnp.float32),
        jax.ShapeDtypeStruct((6, 3, 4), jnp.float32),
    )
    found = flops(lambda x, k: jax.lax.conv(x, k, (1,), "VALID"), image, kernel)
    assert found == 2 * (6 * 7) * (3 * 4)


def test_a_device_of_a_mesh_counts_its_share() -> None:
    grid = Grid(Layout(1, 2), local=True)
    spread = grid.shard(lambda x, w: x @ w, (PER_EXAMPLE, EVERYWHERE), PER_EXAMPLE)
    assert flops(spread, X, W) == ONE / 2
