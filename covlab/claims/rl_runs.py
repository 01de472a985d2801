"""Runs of reinforcement learning from a base run's checkpoints, as parts of a claim."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from covlab.launch.base_model import BASE_KEYS, rl_config
from covlab.launch.build import PHASE_KEYS, plain

_NOT_SHARED = (
    *("task", "model", "objective", "source", "phases"),
    *("class_proposal", "dataset_size", "averaging"),
)
"""Settings of the base run that reinforcement learning from it has of its own, or not at all."""


def base_config(config: DictConfig, own_keys: Sequence[str], name: str) -> DictConfig:
    """The base run of a claim as a configuration of experiments.train: without the claim's own keys."""
    own = OmegaConf.create({key: value for key, value in config.items() if key not in own_keys})
    OmegaConf.set_struct(own, False)
    own.name = name
    return own


def rl_run_config(
    config: DictConfig, base: Path, checkpoint: str, name: str, overrides: Sequence[Mapping[str, Any] | None]
) -> DictConfig:
    """One run from a checkpoint of the run at `base`, as a configuration of experiments.train.

    Args:
        config: of the base run; what it says of seeds, evaluation, checkpoints and tracking holds here too.
        base, checkpoint: where to start: a run directory and `last` or `<phase>:<step>`.
        name: of the new run.
        overrides: in order, settings of conf/train_rl.yaml.

    Raises:
        ValueError: as `rl_config`.
    """
    own = OmegaConf.create({key: value for key, value in config.items() if key not in _NOT_SHARED})
    OmegaConf.set_struct(own, False)
    asked = {"run": str(base), "checkpoint_of": checkpoint, "task_overrides": None, "name": name}
    empty: dict[str, Any] = {"phases": {}, "class_proposal": None, "dataset_size": None}
    merged = OmegaConf.merge(own, empty, asked, *({} if each is None else each for each in overrides))
    assert isinstance(merged, DictConfig)
    return rl_config(merged)


def check_rl_settings(where: str, node: Any) -> None:
    """Refuse settings of reinforcement learning that no run has.

    Raises:
        ValueError: one line that names the field.
    """
    valid = sorted({*PHASE_KEYS, "checkpoint", "tracking", "task_overrides"} - {"task"})
    if not isinstance(node, DictConfig | None):
        raise ValueError(f"{where}: {node!r} is not a mapping; valid keys are {', '.join(valid)}")
    for key in map(str, node or {}):
        if key not in valid or key in BASE_KEYS[:2]:
            raise ValueError(f"{where}.{key}: no such field; valid are {', '.join(valid)}")


def check_mapping(field: str, node: Any, at_least: int = 1) -> list[str]:
    """Names of a mapping's entries.

    Raises:
        ValueError: no mapping, or too few entries.
    """
    if not isinstance(node, DictConfig) or len(node) < at_least:
        shown = plain(node) if isinstance(node, DictConfig) else node
        raise ValueError(f"{field}: {shown!r} is not a mapping with at least {at_least} entries")
    return [str(name) for name in node]
