#!/usr/bin/env bash
# flax 0.12.8, jax 0.10.2, jaxlib 0.10.2, Python 3.11, CPU. Seen first on a GPU (flax 0.12.10, jax 0.11.2).
#
# flax.nnx.Embed(dtype=bfloat16) keeps its table in float32 and rounds it before the look-up, so that the gradient of
# the table is a scatter-add in bfloat16: the contributions of all uses of a token are summed with 8 bits, and the sum
# stops growing where one contribution is less than half of its last bit. A token that is used some thousand times a
# batch gets a quarter of its gradient. The gradient that arrives is float32 and finite, and the loss falls.
# flax.linen.Embed does the same. torch.autocast leaves an embedding alone.
#
# Guess before the first run: within 1 %, because parameters are float32.
# Source: the docstring of flax.nnx.Embed, "dtype: the dtype of the embedding vectors (default: same as embedding)",
# and "param_dtype: the dtype passed to parameter initializers (default: float32)".
#
# Who meets it: mixed precision as Flax's guide has it (param_dtype float32, dtype bfloat16) with a small vocabulary,
# that is with characters, bytes, actions or generated tasks; a comparison of frameworks in bfloat16. A remedy: look up
# in float32 and round the result, nnx.Embed(...)(tokens).astype(bfloat16).
#
# Seen, for 4 tokens that are used about 4,350 times each, with contributions of mean 1:
#   float32, rounded after the look-up: 4377 4436 4487 4402
#   nnx, dtype=bfloat16               : 1072 1040 1072 1048
#   linen, dtype=bfloat16             : 1072 1040 1072 1048
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q "jax==0.10.2" "jaxlib==0.10.2" "flax==0.12.8" "numpy==2.4.6"
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PY'
import sys

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen, nnx

rng = np.random.default_rng(0)
tokens = rng.integers(0, 4, (128, 136))
contributions = rng.normal(1, 1, (128, 136, 8)).astype("f")


def weighted(vectors):
    return jnp.sum(vectors.astype(jnp.float32) * contributions)


def of_nnx(dtype):
    def loss(module):
        return weighted(module(tokens).astype(jnp.bfloat16))

    gradient = nnx.grad(loss)(nnx.Embed(4, 8, dtype=dtype, rngs=nnx.Rngs(0)))
    (table,) = jax.tree.leaves(gradient)
    return np.asarray(table)


def of_linen(dtype):
    module = linen.Embed(4, 8, dtype=dtype)
    variables = module.init(jax.random.key(0), tokens)
    (table,) = jax.tree.leaves(jax.grad(lambda given: weighted(module.apply(given, tokens)))(variables))
    return np.asarray(table)


exact = of_nnx(jnp.float32)
found = {"nnx": of_nnx(jnp.bfloat16), "linen": of_linen(jnp.bfloat16)}
print("float32, rounded after the look-up:", *exact[0, :4].round().astype(int))
for name, table in found.items():
    print(f"{name + ', dtype=bfloat16':34}:", *table[0, :4].astype(int), table.dtype)
plain = np.stack([contributions[tokens == token].sum(axis=0) for token in range(4)])
right = np.allclose(exact, plain, rtol=0.01)
lost = all(table.dtype == np.float32 and np.all(table < plain / 3) for table in found.values())
sys.exit(not (right and lost))
PY
