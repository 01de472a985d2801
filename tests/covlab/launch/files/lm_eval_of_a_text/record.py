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

RUN = Path("runs/train/text")
LIMIT = int(sys.argv[1]) if len(sys.argv) > 1 else 32
KEPT = ("results", "n-samples", "config", "configs")

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
write_task(RUN, "tasks", group="held_out", repeats=8)
held = load_log_probs(RUN, "train_held_out")["train_held_out"]
steps = [400, 800, 1600]
for step in steps:
    line = (
        f"lm-eval run --model covlab --model_args path={RUN},revision=train:{step} "
        "--tasks held_out,held_out_sampled "
        f"--include_path tasks --output_path out --log_samples --limit {LIMIT} --batch_size 64"
    )
    sys.argv = line.split()
    cli_evaluate()
rows = [json.loads(text) for text in Path("tasks/held_out.jsonl").read_text().splitlines()]
own = held["groups"] == 1
scores = [
    load_log_probs(RUN, f"train_{step:08}")[f"train_{step:08}"]["log_prob"][0, own, 0] for step in steps
]
arrays = {
    "targets": np.array([row["target"] for row in rows[:LIMIT]]),
    "log_probs": np.array(scores)[:, :LIMIT],
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
