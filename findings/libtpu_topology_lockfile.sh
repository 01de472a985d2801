#!/usr/bin/env bash
# jax 0.10.2, jaxlib 0.10.2, libtpu 0.0.42.1, Python 3.11, Linux without a TPU.
#
# Two processes that only ask for the description of a TPU topology, in order to compile ahead of time, exclude each
# other: the second ends with an error that asks for `sudo rm /tmp/libtpu_lockfile`, while the first is at work. With
# ALLOW_MULTIPLE_LIBTPU_LOAD=1 both are answered.
#
# Guess before running: the lock protects a chip, and is not taken where no chip is opened.
# Source: docs of ahead-of-time compilation for TPUs (jax.experimental.topologies), which name no lock.
#
# Who meets it: anybody who compiles for TPUs on a machine without one, twice at a time: parallel tests, two users of
# one machine, a plan for two chips. Deleting the file, as the message says, is not needed.
#
# Seen:
#   second process                              : ABORTED, names the lockfile
#   second process, ALLOW_MULTIPLE_LIBTPU_LOAD=1: described
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q "jax==0.10.2" "jaxlib==0.10.2" "libtpu==0.0.42.1" "numpy==2.4.6"
export TPU_SKIP_MDS_QUERY=1 TPU_ACCELERATOR_TYPE=v5e-4 TPU_WORKER_HOSTNAMES=localhost JAX_PLATFORMS=cpu
cat >"$folder/ask.py" <<'PY'
import sys
import time

from jax.experimental import topologies

try:
    topologies.get_topology_desc("v5e:2x2", platform="tpu")
except Exception as error:
    print("ABORTED, names the lockfile" if "lockfile" in str(error) else f"another error: {error}")
else:
    print("described")
sys.stdout.flush()
time.sleep(float(sys.argv[1]))
PY
"$folder/venv/bin/python" "$folder/ask.py" 600 >"$folder/first" 2>/dev/null &
first=$!
trap 'kill "$first" 2>/dev/null || true; rm -rf "$folder"' EXIT
until grep -q . "$folder/first"; do sleep 1; done
second=$("$folder/venv/bin/python" "$folder/ask.py" 0)
allowed=$(ALLOW_MULTIPLE_LIBTPU_LOAD=1 "$folder/venv/bin/python" "$folder/ask.py" 0)
echo "first process                               : $(cat "$folder/first")"
echo "second process                              : $second"
echo "second process, ALLOW_MULTIPLE_LIBTPU_LOAD=1: $allowed"
[[ "$(cat "$folder/first")" == described && "$second" == "ABORTED, names the lockfile" && "$allowed" == described ]]
