"""Layers of the transformer as `flax.nnx` modules, with the fast gradients of `models.gradients`."""

from __future__ import annotations

import collections

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from models.accelerated import normalised
from models.gradients import linear, standardise
from models.target import platform


class Normals:
    """Normal initial parameters of a module: array i is std_i times `jax.random.normal(keys[i], shape_i)`.

    `draw` computes all of them, after the last was asked for. On CPU arrays of one standard deviation are
    drawn in a loop, because each that is drawn on its own takes a fifth of a second to compile. Number j of a
    key does not depend on how many are drawn, so that every key draws as many as the largest array has.
    """

    def __init__(self, keys: PRNGKeyArray) -> None:
        self._keys = keys
        self._asked: list[tuple[nnx.Param[Array], float]] = []

    def __call__(self, std: float, shape: tuple[int, ...]) -> nnx.Param[Array]:
        """The next array, zeros until `draw`."""
        param = nnx.Param(jnp.zeros(shape))
        self._asked.append((param, std))
        return param

    def draw(self) -> None:
        """Give every array its values."""
        groups = collections.defaultdict(list)
        for index, (param, std) in enumerate(self._asked):
            groups[std, self._drawn_with(param.size, std, index)].append(index)
        for (std, _), members in groups.items():
            params = [self._asked[index][0] for index in members]
            most = max(param.size for param in params)
            keys = self._keys[jnp.asarray(members)]
            # The factor stands next to the draw: XLA makes one constant of it and the draw's own.
            drawn = jax.lax.map(lambda key, std=std, most=most: std * jax.random.normal(key, (most,)), keys)
            for row, param in zip(drawn, params, strict=True):
                param[...] = row[: param.size].reshape(param.shape)

    def _drawn_with(self, size: int, std: float, index: int) -> int:
        """A number that arrays which are drawn together share."""
        sizes = [param.size for param, other in self._asked if other == std]
        if platform() != "cpu":
            return index
        return 0 if len(sizes) * max(sizes) <= 2 * sum(sizes) else size


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
        normals: draws the kernel.
    """

    def __init__(self, fan_in: int, fan_out: int, std: float, dtype: str, normals: Normals) -> None:
        self.kernel = normals(std, (fan_in, fan_out))
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
