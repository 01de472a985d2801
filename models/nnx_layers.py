"""Layers of the transformer as `flax.nnx` modules, with the fast gradients of `models.gradients`."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from models.accelerated import normalised
from models.gradients import linear, standardise
from models.target import platform


class Norm(nnx.Module):
    """Layer normalisation with gain `scale` (1 at first) and `bias` (0), computed in float32.

    Args:
        width: size of the last axis.
        dtype: of the output.
    """

    def __init__(self, width: int, dtype: str) -> None:
        self.scale, self.bias = nnx.Param(jnp.ones((width,))), nnx.Param(jnp.zeros((width,)))
        self.dtype = dtype

    def __call__(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch width"]:
        """(x - mean) / sqrt(variance + 1e-5) * scale + bias."""
        if platform() != "cpu":
            return normalised(x.astype(self.dtype), self.scale[...], self.bias[...])
        normed = standardise(x.astype(jnp.float32)) * self.scale[...] + self.bias[...]
        return normed.astype(self.dtype)


class Dense(nnx.Module):
    """x W + b, with W normal of standard deviation `std` and b = 0 at first.

    Args:
        fan_in, fan_out: size of the last axis of the input and of the output.
        std: standard deviation of the initial kernel.
        dtype: of the product; the parameters are float32.
        key: for the kernel.
    """

    def __init__(self, fan_in: int, fan_out: int, std: float, dtype: str, key: PRNGKeyArray) -> None:
        self.kernel = nnx.Param(std * jax.random.normal(key, (fan_in, fan_out)))
        self.bias = nnx.Param(jnp.zeros((fan_out,)))
        self.dtype = dtype

    def __call__(self, x: Float[Array, "*batch fan_in"], first: int = 0) -> Float[Array, "*batch fan_out"]:
        """x W + b, from column `first` on.

        The product is one of rows: the kernel's gradient then contracts one axis, for which XLA on CPU copies
        no operand.
        """
        kernel, bias = self.kernel[...], self.bias[...]
        if first:
            kernel, bias = kernel[:, first:], bias[first:]
        kernel, bias = kernel.astype(self.dtype), bias.astype(self.dtype)
        return (linear(x.reshape(-1, x.shape[-1]), kernel) + bias).reshape(*x.shape[:-1], kernel.shape[1])


def in_heads(
    projected: Float[Array, "batch candidates length columns"], num_heads: int, head_dim: int
) -> tuple[Float[Array, "batch heads candidates length head_dim"], ...]:
    """Every `num_heads` * `head_dim` columns are one array, split into heads."""
    width = num_heads * head_dim
    shape = (*projected.shape[:-1], num_heads, head_dim)
    return tuple(
        jnp.transpose(part.reshape(shape), (0, 3, 1, 2, 4))
        for part in jnp.split(projected, projected.shape[-1] // width, axis=-1)
    )


def joined(
    heads: Float[Array, "batch heads candidates length head_dim"],
) -> Float[Array, "batch candidates length width"]:
    """The heads side by side: the inverse of `in_heads`."""
    rows = jnp.transpose(heads, (0, 2, 3, 1, 4))
    return rows.reshape(*rows.shape[:3], rows.shape[3] * rows.shape[4])
