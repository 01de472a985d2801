"""Writing a W&B workspace for runs: python -m experiments.dashboard runs/sweep/*.

An argument without `key=` is a run directory, a folder of them (searched to any depth) or a pattern, as in
`experiments.compare`. The runs must have been mirrored to W&B, within one project; `wandb.json` has their
ids. The workspace has a section a quantity, with the N as lines of one panel, and for several runs a table
of the settings in which they differ. It is written to `workspace.json` in the folder `out`. With a key for
W&B it is also sent, as a new view of the project; `tracking.wandb=offline` sends nothing.
`tracking.project` and `tracking.entity` name another project than that of `wandb.json`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from covlab.launch.differences import causes, setting_order, short_names, texts, together
from covlab.launch.found_runs import Head, Problem, find_runs, read_heads
from covlab.launch.run_arguments import (
    asked_runs,
    choose_metrics,
    command_on_runs,
    many,
    usual_metrics,
)
from covlab.report.workspace import MirroredRun, require_workspaces, workspace
from tracking.atomic import atomic_write
from tracking.metric_names import better, natural
from tracking.quick import read_columns
from tracking.wandb_options import MODES, resolve_mode

_OPTIONS = ("hydra", "metric", "out", "root", "runs", "title", "tracking", "x")


def dashboard(config: DictConfig, runs: Sequence[str] = (), arguments: Sequence[str] = ()) -> int:
    """Read the runs, write the workspace, and send it if there is a key."""
    asked = asked_runs(config, runs, "experiments.dashboard")
    if config.x not in ("global_step", "step"):
        raise ValueError(f"x: {config.x!r}; valid: global_step or step")
    if config.tracking.wandb not in MODES:
        raise ValueError(f"tracking.wandb: {config.tracking.wandb!r} is not one of {', '.join(MODES)}")
    require_workspaces(str(config.title))
    heads, mirrors, problems = _mirrored(asked, config)
    for problem in problems:
        print(f"left out: {problem.what}: {problem.why}")
    if not heads:
        why = f"{problems[0].what}: {problems[0].why}" if problems else "no run"
        raise ValueError(f"runs: nothing to show in {', '.join(asked[:3])}: {why}")
    project, entity = (_common(mirrors, field, config.tracking[field]) for field in ("project", "entity"))
    names = short_names(list(together(heads, causes(heads))))
    columns = {key: texts(heads, key) for key in names}
    shown = [
        _run(head, mirror, {key: column[index] for key, column in columns.items()})
        for index, (head, mirror) in enumerate(zip(heads, mirrors, strict=True))
    ]
    shown.sort(key=lambda run: [setting_order(text) for text in run.settings.values()])
    there = sorted(set[str]().union(*(head.metrics for head in heads)), key=natural)
    metrics = choose_metrics(many(config.metric), there) if config.metric is not None else None
    made = workspace(shown, names, project or "covlab", entity or "", str(config.title), config.x, metrics)
    file = _write(made, Path(str(config.out)))
    print(file)
    if resolve_mode(config.tracking.wandb) == "online":
        print(_send(made))
    elif config.tracking.wandb in ("auto", "online"):
        print("not sent, as no key is configured: `wandb login`, then the same command")
    return 0


def _mirrored(
    asked: Sequence[str], config: DictConfig
) -> tuple[list[Head], list[dict[str, Any]], list[Problem]]:
    """The runs that have ids of W&B runs, with the contents of `wandb.json`."""
    folders, problems = find_runs(asked)
    heads, more = read_heads(folders, config.tracking.progress)
    problems += more
    kept, mirrors = [], []
    for head in heads:
        try:
            mirror = json.loads((head.path / "wandb.json").read_bytes())
            ids = mirror["ids"]
        except (OSError, ValueError, KeyError, TypeError):
            ids = {}
        if ids:
            kept.append(head)
            mirrors.append(mirror)
        else:
            why = f"W&B has no such run; python -m tracking.wandb_mirror {head.path} makes one"
            problems.append(Problem(head.name, why))
    return kept, mirrors, problems


def _common(mirrors: Sequence[dict[str, Any]], field: str, given: str | None) -> str | None:
    """The project or entity that all runs share, or the given one."""
    found = list(dict.fromkeys(mirror.get(field) for mirror in mirrors))
    if given is not None or len(found) == 1:
        return given if given is not None else found[0]
    raise ValueError(
        f"tracking.{field}: the runs are in {', '.join(map(str, found))}; a workspace shows one {field}: "
        f"give fewer runs, or tracking.{field}"
    )


def _run(head: Head, mirror: dict[str, Any], settings: dict[str, str]) -> MirroredRun:
    listed = usual_metrics(sorted(head.metrics, key=natural))
    columns = read_columns(head.path / "metrics.jsonl", listed)
    seeds = sorted(set(columns.seed.tolist()))
    numbers = {}
    for name in listed:
        by_seed = [columns.values[name][columns.seed == seed] for seed in seeds]
        by_seed = [values[~np.isnan(values)] for values in by_seed]
        by_seed = [values for values in by_seed if values.size]
        if by_seed:
            best = np.max if better(name) == "higher" else np.min
            numbers[f"best {_with_direction(name)}"] = float(np.median([best(v) for v in by_seed]))
            numbers[f"final {_with_direction(name)}"] = float(np.median([v[-1] for v in by_seed]))
    ids = tuple(str(id) for id in mirror["ids"].values())
    return MirroredRun(head.name, ids, len(seeds), head.metrics, settings, numbers)


def _with_direction(name: str) -> str:
    direction = better(name)
    return name if direction is None else f"{name}, {direction} is better"


def _write(made: Any, folder: Path) -> Path:
    """`workspace.json`: what the library sends."""
    if (folder / "metrics.jsonl").exists() or (folder / "config.yaml").exists():
        raise ValueError(f"out: {folder}: holds a run; valid: a folder of its own, such as runs/dashboard")
    view = made._to_model()
    text = view.spec.model_dump_json(by_alias=True, exclude_none=True)
    content = {"entity": made.entity, "project": made.project, "name": made.name, "spec": json.loads(text)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        atomic_write(folder / "workspace.json", json.dumps(content, indent=1).encode() + b"\n")
    except OSError as error:
        raise ValueError(f"out: {folder}: {error.strerror}: choose a folder that can be written") from None
    return folder / "workspace.json"


def _send(made: Any) -> str:
    """Send the workspace as a new view; its address."""
    import wandb

    try:
        made.entity = made.entity or wandb.Api().default_entity
        return str(made.save().url)
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(f"W&B: {reason[:300]}: workspace.json has the workspace") from None


main = command_on_runs("dashboard", _OPTIONS, dashboard)

if __name__ == "__main__":
    main()
