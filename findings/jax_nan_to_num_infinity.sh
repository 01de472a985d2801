#!/usr/bin/env bash
# jax 0.10.2, jaxlib 0.10.2, numpy 2.4.6, Python 3.11, CPU.
#
# jnp.nan_to_num(x, nan=jnp.inf) does not put an infinity where a NaN is: JAX replaces NaN first and infinities
# after it, so that the new infinity becomes the largest finite number. numpy.nan_to_num finds the infinities of the
# argument before it replaces anything, and keeps the one that was asked for. `nan=-jnp.inf` alike.
#
# Guess before running: the same as NumPy's, whose documentation JAX's refers to.
# Source: the docstring of jax.numpy.nan_to_num ("JAX implementation of numpy.nan_to_num", `nan`: "value to substitute
# for NaN entries"), which names no difference.
#
# Who meets it: code that turns an undefined score into "worst of all" before a maximum, a minimum or a comparison
# with infinity, as for log-probabilities of impossible responses: exp(-3.4e38) is still 0, but `isinf` and `isneginf`
# are False, and a mean over the batch is finite where it should not be.
#
# Seen:
#   numpy: [nan -> inf, inf -> 3.4028235e+38, 1 -> 1]
#   jax  : [nan -> 3.4028235e+38, inf -> 3.4028235e+38, 1 -> 1]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q "jax==0.10.2" "jaxlib==0.10.2" "numpy==2.4.6"
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PY'
import sys

import jax.numpy as jnp
import numpy as np

given = np.array([np.nan, np.inf, 1.0], np.float32)
numpy = np.nan_to_num(given, nan=np.inf)
jax = np.asarray(jnp.nan_to_num(jnp.asarray(given), nan=jnp.inf))
negative = np.asarray(jnp.nan_to_num(jnp.asarray(given), nan=-jnp.inf))
print("numpy:", numpy)
print("jax  :", jax)
largest = np.finfo(np.float32).max
same = (
    numpy.tolist() == [np.inf, largest, 1.0]
    and jax.tolist() == [largest, largest, 1.0]
    and negative.tolist() == [-largest, largest, 1.0]
)
sys.exit(not same)
PY
