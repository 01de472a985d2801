"""Writes `out/` and `lab.npz` from the run of README.md in `runs/`, where lm-eval is installed."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
from lm_eval.__main__ import cli_evaluate

from covlab.launch import lm_eval_model  # noqa: F401
from covlab.launch.lm_eval_task import write_task
from tracking import load_log_probs

RUN = Path("runs/train/dyck")
LIMIT = 24
KEPT = ("results", "n-samples", "config", "configs")

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
write_task(RUN, "tasks")
held = load_log_probs(RUN, "train_held_out")["train_held_out"]
steps = sorted(int(path.stem) for path in (RUN / "checkpoints" / "parameters" / "train").glob("*.npz"))
for step in steps:
    line = (
        f"lm-eval run --model covlab --model_args path={RUN},revision=train:{step} --tasks held_out "
        f"--include_path tasks --output_path out --log_samples --limit {LIMIT}"
    )
    sys.argv = line.split()
    cli_evaluate()
scores = [load_log_probs(RUN, f"train_{step:08}")[f"train_{step:08}"]["log_prob"][0, :, 0] for step in steps]
rows = [json.loads(text) for text in Path("tasks/held_out.jsonl").read_text().splitlines()]
arrays = {
    "targets": np.array([row["target"] for row in rows[:LIMIT]]),
    "log_probs": np.array(scores)[:, :LIMIT],
    "log_pi": held["log_pi"][:LIMIT, 0],
}
np.savez("lab.npz", steps=steps, **arrays)
for file in Path("out").rglob("results_*.json"):
    content = json.loads(file.read_text())
    kept = {key: content[key] for key in KEPT if key in content}
    kept["config"] = {key: content["config"][key] for key in ("model", "model_args")}
    kept["configs"] = {
        task: {"filter_list": each.get("filter_list")} for task, each in content["configs"].items()
    }
    file.write_text(json.dumps(kept, indent=1) + "\n")
