"""Layers of a transformer for accelerators, with gradients written by hand.

Values are those of `models.layers`, up to rounding. Activations have the dtype of their inputs, float32 or
bfloat16. Sums, norms and softmax are float32, and so are the gradients of parameters. The gradients keep the
inputs of a layer and a number per row, and compute the rest again: on an accelerator reading an array costs
more than that.
"""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Bool, Float

from models.target import platform

_HIDDEN = float(jnp.finfo(jnp.float32).min)


def einsum(axes: str, *factors: Array) -> Array:
    return jnp.einsum(axes, *factors, preferred_element_type=jnp.float32)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def product(axes: str, x: Array, kernel: Array, bias: Array) -> Array:
    """`einsum(axes, x, kernel)` plus bias, in the dtype of x, with sums and parameters in float32.

    The bias has those axes of the kernel that the result has, in the kernel's order.
    """
    return _product(axes, x, kernel, bias)


def _product(axes: str, x: Array, kernel: Array, bias: Array) -> Array:
    _, of_kernel, result = axes.replace("->", ",").split(",")
    sizes = dict(zip(of_kernel, kernel.shape, strict=True))
    # The kernel's axes come in the result's order, and the bias's with them.
    added = bias.reshape([sizes.get(axis, 1) for axis in result])
    return jnp.einsum(axes, x, kernel.astype(x.dtype)) + added.astype(x.dtype)


def _product_forward(axes: str, x: Array, kernel: Array, bias: Array) -> tuple[Array, tuple[Array, Array]]:
    return _product(axes, x, kernel, bias), (x, kernel)


def _product_backward(axes: str, saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array, Array]:
    x, kernel = saved
    of_x, of_kernel, result = axes.replace("->", ",").split(",")
    to_x = jnp.einsum(f"{result},{of_kernel}->{of_x}", gradient, kernel.astype(gradient.dtype))
    to_kernel = einsum(f"{of_x},{result}->{of_kernel}", x, gradient)
    of_bias = [place for place, axis in enumerate(result) if axis not in of_kernel]
    return to_x, to_kernel, jnp.sum(gradient.astype(jnp.float32), axis=tuple(of_bias))


product.defvjp(_product_forward, _product_backward)


@jax.custom_vjp
def normalised(
    x: Float[Array, "*batch width"], scale: Float[Array, " width"], bias: Float[Array, " width"]
) -> Float[Array, "*batch width"]:
    """(x - mean) / sqrt(variance + 1e-5) * scale + bias over the last axis, computed in float32."""
    return _normalised_forward(x, scale, bias)[0]


def _normalised_forward(x: Array, scale: Array, bias: Array) -> tuple[Array, tuple[Array, ...]]:
    mean = jnp.mean(x, axis=-1, keepdims=True, dtype=jnp.float32)
    centred = x.astype(jnp.float32) - mean
    rate = jax.lax.rsqrt(jnp.mean(jnp.square(centred), axis=-1, keepdims=True) + 1e-5)
    return (centred * rate * scale + bias).astype(x.dtype), (x, mean, rate, scale)


def _normalised_backward(saved: tuple[Array, ...], gradient: Array) -> tuple[Array, Array, Array]:
    """With y = r (x - mean), r = 1/std and g = scale dy: dx = r (g - mean(g) - y mean(y g))."""
    x, mean, rate, scale = saved
    y, gradient = (x.astype(jnp.float32) - mean) * rate, gradient.astype(jnp.float32)
    rows = tuple(range(x.ndim - 1))
    to_scale, to_bias = jnp.sum(gradient * y, axis=rows), jnp.sum(gradient, axis=rows)
    own = gradient * scale
    along = jnp.mean(own * y, axis=-1, keepdims=True)
    return (
        (rate * (own - jnp.mean(own, axis=-1, keepdims=True) - y * along)).astype(x.dtype),
        to_scale,
        to_bias,
    )


normalised.defvjp(_normalised_forward, _normalised_backward)


@jax.custom_vjp
def gelu(x: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """GELU by tanh, x (1 + t) / 2 with t = tanh(sqrt(2/pi) (x + 0.044715 x^3)), computed in float32."""
    return _gelu_forward(x)[0]


def _inner(x: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    return jnp.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x))


def _gelu_forward(x: Array) -> tuple[Array, Array]:
    wide = x.astype(jnp.float32)
    return (0.5 * wide * (1 + _inner(wide))).astype(x.dtype), x


def _gelu_backward(x: Array, gradient: Array) -> tuple[Array]:
    """(1 + t) / 2 + x (1 - t^2) sqrt(2/pi) (1 + 0.134145 x^2) / 2, in one pass over x and the gradient."""
    # With the barrier t is computed again. Without it the one of the forward pass is kept, in float32.
    wide = jax.lax.optimization_barrier(x).astype(jnp.float32)
    t = _inner(wide)
    slope = math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * wide * wide)
    slope = 0.5 * (1 + t + wide * (1 - t * t) * slope)
    result = (gradient.astype(jnp.float32) * slope).astype(x.dtype)
    # A GPU's compiler writes what several others read, the products and the bias, and would do so in float32.
    return (jax.lax.optimization_barrier(result) if platform() == "gpu" else result,)


gelu.defvjp(_gelu_forward, _gelu_backward)


@jax.custom_vjp
def attend_before(
    query: Float[Array, "batch heads asked head_dim"],
    key: Float[Array, "batch heads length head_dim"],
    value: Float[Array, "batch heads length head_dim"],
    mask: Bool[Array, "batch length"],
) -> Float[Array, "batch heads asked head_dim"]:
    """softmax(q k^T / sqrt(head_dim)) v of the last positions over themselves and those before.

    Padding is no key. Scores and softmax are float32. Queries at padding get numbers that mean nothing.
    """
    return _attend_forward(query, key, value, mask)[0]


def _scores(query: Array, key: Array, mask: Array) -> Float[Array, "batch heads asked length"]:
    asked, length = query.shape[2], key.shape[2]
    before = jnp.arange(length - asked, length)[:, None] >= jnp.arange(length)
    scores = einsum("bhqd,bhkd->bhqk", query, key) * (1 / math.sqrt(query.shape[3]))
    return jnp.where(before & mask[:, None, None, :], scores, _HIDDEN)


def _attend_forward(query: Array, key: Array, value: Array, mask: Array) -> tuple[Array, tuple[Array, ...]]:
    scores = _scores(query, key, mask)
    top = jnp.max(scores, axis=-1, keepdims=True)
    weights = jnp.exp(scores - top)
    total = jnp.sum(weights, axis=-1, keepdims=True)
    output = jnp.einsum("bhqk,bhkd->bhqd", (weights / total).astype(query.dtype), value)
    output = checkpoint_name(output, "attended")
    log_total = checkpoint_name(top + jnp.log(total), "log_total")
    return output, (query, key, value, mask, output, log_total)


def _attend_backward(saved: tuple[Array, ...], gradient: Array) -> tuple[Array, Array, Array, None]:
    """With p = exp(s - ln sum e^s), computed again (as FlashAttention, arXiv 2205.14135, does), and the
    output o: dv = p^T do, ds = p (do v^T - do . o), dq = ds k, dk = ds^T q."""
    query, key, value, mask, output, log_total = saved
    # With the barrier the scores are computed again, and not kept.
    query = jax.lax.optimization_barrier(query)
    dtype = query.dtype
    weights = jnp.exp(_scores(query, key, mask) - log_total)
    offset = jnp.sum(gradient.astype(jnp.float32) * output.astype(jnp.float32), axis=-1, keepdims=True)
    change = weights * (einsum("bhqd,bhkd->bhqk", gradient, value) - offset)
    change = (change * (1 / math.sqrt(query.shape[3]))).astype(dtype)
    return (
        jnp.einsum("bhqk,bhkd->bhqd", change, key),
        jnp.einsum("bhqk,bhqd->bhkd", change, query),
        jnp.einsum("bhqk,bhqd->bhkd", weights.astype(dtype), gradient),
        None,
    )


attend_before.defvjp(_attend_forward, _attend_backward)
