"""FLOP of a traced program: those of its matrix products, with loops counted as often as they run.

A product of a (m, k) and a (k, n) matrix has 2 m k n FLOP, m k n multiplications and as many additions. No
other operation counts: their work is bound by memory and not by the units for products.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from jax.extend.core import ClosedJaxpr, Jaxpr


def product_flops(jaxpr: ClosedJaxpr | Jaxpr) -> float:
    """FLOP of the matrix products and convolutions of a jaxpr on one device.

    The body of a `scan` counts as often as it runs. That of a `while` counts once, because the number of
    iterations may depend on data: a chunk of training so counts as one step. Of the branches of a `cond` the
    largest counts. Inside a `shard_map` shapes are those of one device.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> x = jax.ShapeDtypeStruct((2, 3), jnp.float32)
        >>> product_flops(jax.make_jaxpr(lambda x: x @ x.T)(x))
        24.0
    """
    total = 0.0
    for equation in (jaxpr.jaxpr if isinstance(jaxpr, ClosedJaxpr) else jaxpr).eqns:
        name, shape = equation.primitive.name, equation.outvars[0].aval if equation.outvars else None
        if name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            inner = math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
            total += 2.0 * inner * math.prod(shape.shape)
        elif name == "conv_general_dilated":
            kernel = equation.invars[1].aval.shape
            outputs = equation.params["dimension_numbers"].rhs_spec[0]
            total += 2.0 * math.prod(shape.shape) * math.prod(kernel) / kernel[outputs]
        elif name == "cond":
            total += max(product_flops(branch) for branch in equation.params["branches"])
        else:
            runs = equation.params["length"] if name == "scan" else 1
            total += runs * sum(map(product_flops, _inside(equation.params)))
    return total


def _inside(params: dict[str, Any]) -> Iterator[ClosedJaxpr | Jaxpr]:
    """The jaxprs among an equation's parameters."""
    for value in params.values():
        for each in value if isinstance(value, tuple | list) else (value,):
            if isinstance(each, ClosedJaxpr | Jaxpr):
                yield each
