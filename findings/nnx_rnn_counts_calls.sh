#!/usr/bin/env bash
# flax 0.12.8, jax 0.10.2, numpy 2.4.6, Python 3.11.
#
# A call of flax.nnx.RNN without initial_carry changes the module's state: it draws random streams from the module's own
# Rngs to initialise the carry, one for a GRU and two for an LSTM, although the carry is initialised by zeros (the
# default) and no random number is used. Outputs of two calls are equal and the states are not: nnx.split before and
# after a forward pass differ. With initial_carry given nothing is counted.
#
# Guess before running: a layer whose carry starts at zero leaves its state alone in a forward pass.
# Source: flax.nnx.RNN.__call__ and RNNCellBase.initialize_carry, whose default initializer is zeros.
#
# Who meets it: code that treats an nnx module as a pure function (nnx.split once, merge inside jax.jit, vmap or scan),
# that compares states in order to refuse layers which change (BatchNorm, Dropout), or that expects equal checkpoints
# before and after an evaluation.
#
# Seen:
#   GRU, zero carry: count 0 -> 1, outputs of two calls equal
#   GRU, given carry: count 2 -> 2
#   LSTM, zero carry: count 0 -> 2, outputs of two calls equal
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q "flax==0.12.8" "jax==0.10.2" "jaxlib==0.10.2" "numpy==2.4.6"
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PY'
import sys

import jax.numpy as jnp
import numpy as np
from flax import nnx

x = jnp.ones((1, 4, 2))


def count(rnn):
    return int(rnn.rngs.count[...])


found = []
for name, cell in (("GRU", nnx.GRUCell), ("LSTM", nnx.OptimizedLSTMCell)):
    rnn = nnx.RNN(cell(2, 3, rngs=nnx.Rngs(0)))
    before = count(rnn)
    first = rnn(x)
    after = count(rnn)
    equal = bool(np.array_equal(first, rnn(x)))
    found.append((name, "zero carry", before, after, equal))
    print(f"{name}, zero carry: count {before} -> {after}, outputs of two calls {'equal' if equal else 'differ'}")
    if name == "GRU":
        before = count(rnn)
        rnn(x, initial_carry=jnp.zeros((1, 3)))
        found.append((name, "given carry", before, count(rnn), True))
        print(f"{name}, given carry: count {before} -> {count(rnn)}")
expected = [
    ("GRU", "zero carry", 0, 1, True),
    ("GRU", "given carry", 2, 2, True),
    ("LSTM", "zero carry", 0, 2, True),
]
sys.exit(found != expected)
PY
