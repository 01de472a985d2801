"""FLOP of matrix products: those of a traced program, with loops counted as often as they run, and those that
a training step of a transformer cannot avoid.

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


def necessary_flops(
    prompt_length: int,
    response_length: int,
    width: int,
    mlp_ratio: int,
    vocab_size: int,
    layers: int,
    batch_size: int,
    full_attention: bool = False,
) -> float:
    """Floating-point operations of the matrix products that one training step needs.

    With B sequences, R response tokens, Q = P - 1 prompt tokens before the last, T = Q + R inputs, width d,
    hidden width m d, vocabulary V and L layers (uses of blocks, where blocks are shared), and 2 operations
    for a multiplication and addition, the forward pass is

        L - 1 layers:  2 T (4 + 2 m) d^2  +  4 d T (T + 1) / 2
        last layer:    2 Q 2 d^2  +  2 R (4 + 2 m) d^2  +  4 d (R Q + R (R + 1) / 2)
        logits:        2 R d V

    The first term of a layer is queries, keys, values, output and feed-forward; the second is scores and
    weighted values of the pairs that causality leaves (with `full_attention` of all T^2, which plain
    implementations compute). The last layer computes outputs for the response only, and keys and values
    everywhere. Embeddings are look-ups and count nothing. The backward pass needs twice the forward: a
    product for the weights' or keys' gradient and one for the inputs'. So the step needs 3 B times the sum.
    """
    before, response = prompt_length - 1, response_length
    length = before + response
    dense = (4 + 2 * mlp_ratio) * width**2
    pairs = length**2 if full_attention else length * (length + 1) / 2
    last_pairs = response * length if full_attention else response * before + response * (response + 1) / 2
    layer = 2 * length * dense + 4 * width * pairs
    last = 2 * before * 2 * width**2 + 2 * response * dense + 4 * width * last_pairs
    logits = 2 * response * width * vocab_size
    return 3 * batch_size * ((layers - 1) * layer + last + logits)
