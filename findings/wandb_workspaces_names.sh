#!/usr/bin/env bash
# wandb-workspaces 0.4.13, wandb 0.31.0, pydantic 2.14.3, Python 3.11.
#
# A workspace whose name holds one of + < = > | ~ $ ^ is refused with "Emojis are not allowed". The check for emoji
# refuses the Unicode categories Sm, Sc and Sk (mathematical, currency and modifier symbols), to which these ASCII
# characters belong. wandb itself takes such names for runs and groups, and Hydra's names of sweep jobs
# (hydra.job.override_dirname, "lr=0.1,seed=3") always hold a "=".
#
# Guess before running: a name is any text, as in wandb.
# Source: wandb_workspaces/utils/validators.py, validate_no_emoji, in the wheel of 0.4.13.
#
# Who meets it: anyone who names a saved workspace after a sweep or a run whose name is made of overrides. The message
# sends them looking for an emoji.
#
# Seen:
#   'sweep lr 0.1'  : accepted
#   'sweep lr=0.1'  : refused: Emojis are not allowed
#   'KL < 0.5'      : refused: Emojis are not allowed
#   'a|b'           : refused: Emojis are not allowed
#   'cost in $'     : refused: Emojis are not allowed
#   'seed-3_of.4'   : accepted
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q "wandb-workspaces==0.4.13" "wandb==0.31.0" "pydantic==2.14.3"
cd "$folder"
WANDB_MODE=offline "$folder/venv/bin/python" - <<'PY'
import sys

import wandb_workspaces.workspaces as ws
from pydantic import ValidationError

expected = {
    "sweep lr 0.1": True,
    "sweep lr=0.1": False,
    "KL < 0.5": False,
    "a|b": False,
    "cost in $": False,
    "seed-3_of.4": True,
}
seen = {}
for name in expected:
    try:
        ws.Workspace(entity="somebody", project="lab", name=name)
        seen[name] = True
        said = "accepted"
    except ValidationError as error:
        seen[name] = "Emojis are not allowed" not in str(error)
        said = "refused: Emojis are not allowed" if not seen[name] else str(error)
    print(f"{name!r:16}: {said}")
sys.exit(0 if seen == expected else 1)
PY
