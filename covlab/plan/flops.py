"""FLOP of a traced program: those of its matrix products, with loops counted as often as they run.

A product of a (m, k) and a (k, n) matrix has 2 m k n FLOP, m k n multiplications and as many additions. No
other operation counts: their work is bound by memory and not by the units for products.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

from jax.extend.core import ClosedJaxpr, Jaxpr


def product_flops(jaxpr: ClosedJaxpr | Jaxpr) -> Counter[str]:
    """FLOP of the matrix products and convolutions of a jaxpr on one device, by the operands' dtype.

    The body of a `scan` counts as often as it runs. That of a `while` counts once, because the number of
    iterations may depend on data: a chunk of training so counts as one step. Of the branches of a `cond` the
    largest counts. Inside a `shard_map` shapes are those of one device.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> x = jax.ShapeDtypeStruct((2, 3), jnp.float32)
        >>> product_flops(jax.make_jaxpr(lambda x: x @ x.T)(x))
        Counter({'float32': 24})
    """
    total: Counter[str] = Counter()
    for equation in (jaxpr.jaxpr if isinstance(jaxpr, ClosedJaxpr) else jaxpr).eqns:
        name = equation.primitive.name
        if name in ("dot_general", "conv_general_dilated"):
            operands: Any = [operand.aval for operand in (*equation.invars[:2], equation.outvars[0])]
            left, right, output = operands
            outputs = math.prod(output.shape)
            if name == "dot_general":
                (contracted, _), _ = equation.params["dimension_numbers"]
                terms = math.prod(left.shape[axis] for axis in contracted)
            else:
                kernel = equation.params["dimension_numbers"].rhs_spec
                terms = math.prod(right.shape) // right.shape[kernel[0]]
            total[str(left.dtype)] += 2 * terms * outputs
        elif name == "cond":
            branches = [product_flops(branch) for branch in equation.params["branches"]]
            widest = max(branches, key=lambda each: each.total())
            total += widest
        else:
            runs = equation.params["length"] if name == "scan" else 1
            for inner in _inside(equation.params):
                total.update({dtype: runs * value for dtype, value in product_flops(inner).items()})
    return total


def _inside(params: dict[str, Any]) -> Iterator[ClosedJaxpr | Jaxpr]:
    """The jaxprs among an equation's parameters."""
    for value in params.values():
        for each in value if isinstance(value, tuple | list) else (value,):
            if isinstance(each, ClosedJaxpr | Jaxpr):
                yield each
