#!/usr/bin/env bash
# orbax-checkpoint 0.12.8, jax 0.10.2, numpy 2.4.6, Python 3.11.
#
# StandardCheckpointer.restore(path, target) with its default strict=True gives an array back in the shape in which
# it was saved, without an error, where the target asks for another shape: for an array that was saved from NumPy
# (or from JAX, if the target is a NumPy array). With a jax.ShapeDtypeStruct without sharding as target, which the
# docstring names as the way to restore to NumPy, an array saved from JAX raises and one saved from NumPy does not.
#
# Guess before running: strict=True raises for every target with another shape.
# Source: docstring of StandardCheckpointer.restore ("strict: if False, restoration allows silent truncating/padding
# of arrays if the stored array shape does not match the target shape. Otherwise, raises an error.") and of
# ArrayRestoreArgs ("If True, enforces that the target global shape and the origin global shape ... are the same").
#
# Who meets it: a program that brings its state to the host before saving (several seeds or replicas in one array, a
# background writer) and restores into a model whose width, vocabulary or number of seeds has changed: the arrays
# come back in the old shape, and the mistake shows later, as a broadcast or not at all.
#
# Seen:
#   saved from numpy, target ShapeDtypeStruct: (1, 5) for (1, 3)
#   saved from numpy, target numpy           : (1, 5) for (1, 3)
#   saved from numpy, target with sharding   : ValueError
#   saved from jax, target ShapeDtypeStruct  : ValueError
#   saved from jax, target numpy             : (1, 5) for (1, 3)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q "orbax-checkpoint==0.12.8" "jax==0.10.2" "jaxlib==0.10.2" "numpy==2.4.6"
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - "$folder" <<'PY'
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

folder = pathlib.Path(sys.argv[1])
checkpointer = ocp.StandardCheckpointer()
checkpointer.save(folder / "numpy", {"w": np.zeros((1, 5), np.float32)})
checkpointer.save(folder / "jax", {"w": jnp.zeros((1, 5), jnp.float32)})
checkpointer.wait_until_finished()
device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
targets = {
    "ShapeDtypeStruct": jax.ShapeDtypeStruct((1, 3), np.float32),
    "numpy": np.zeros((1, 3), np.float32),
    "with sharding": jax.ShapeDtypeStruct((1, 3), np.float32, sharding=device),
}
found = {}
for saved in ("numpy", "jax"):
    for name, target in targets.items():
        try:
            found[saved, name] = str(checkpointer.restore(folder / saved, {"w": target})["w"].shape)
        except ValueError:
            found[saved, name] = "ValueError"
        print(f"saved from {saved}, target {name}: {found[saved, name]} for (1, 3)")
expected = {
    ("numpy", "ShapeDtypeStruct"): "(1, 5)",
    ("numpy", "numpy"): "(1, 5)",
    ("numpy", "with sharding"): "ValueError",
    ("jax", "ShapeDtypeStruct"): "ValueError",
    ("jax", "numpy"): "(1, 5)",
    ("jax", "with sharding"): "ValueError",
}
sys.exit(found != expected)
PY
