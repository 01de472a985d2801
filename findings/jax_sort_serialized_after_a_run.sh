#!/usr/bin/env bash
# jax 0.10.2, jaxlib 0.10.2, numpy 2.4.6, Python 3.11, CPU.
#
# jax.experimental.serialize_executable.serialize(compiled) works for a program with a sort as long as that object
# has not been called. After its first call the same object cannot be serialised any more:
#   JaxRuntimeError: UNIMPLEMENTED: `LessThan` is not serializable.
# A program without a sort is serialised before and after.
#
# Guess before running: whether an executable can be serialised depends on the program and not on whether it has run.
# Source: docstring of jax.experimental.serialize_executable ("Pickling support for precompiled binaries"), which
# names no such order; met where a training program was saved in the background while its first steps ran.
#
# Who meets it: a program that stores what it has compiled, after the first step or beside it, in order not to delay
# the step. Top-k, quantiles, permutations and ranks all compile to a sort. Where the error is caught as "this one
# cannot be stored", nothing is ever stored, and whether it is depends on a race.
#
# Seen:
#   sort, before its first call   : serialised
#   sort, after its first call    : JaxRuntimeError
#   product, before its first call: serialised
#   product, after its first call : serialised
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q "jax==0.10.2" "jaxlib==0.10.2" "numpy==2.4.6"
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PY'
import sys

import jax
import jax.numpy as jnp
from jax.experimental import serialize_executable

x = jnp.arange(5.0)[::-1]
found = {}
for name, function in (("sort", jnp.sort), ("product", lambda x: 2 * x)):
    compiled = jax.jit(function).lower(x).compile()
    for when in ("before", "after"):
        try:
            serialize_executable.serialize(compiled)
            found[name, when] = "serialised"
        except jax.errors.JaxRuntimeError as error:
            assert "is not serializable" in str(error), error
            found[name, when] = "JaxRuntimeError"
        print(f"{name}, {when} its first call: {found[name, when]}")
        compiled(x).block_until_ready()
expected = {
    ("sort", "before"): "serialised",
    ("sort", "after"): "JaxRuntimeError",
    ("product", "before"): "serialised",
    ("product", "after"): "serialised",
}
sys.exit(found != expected)
PY
