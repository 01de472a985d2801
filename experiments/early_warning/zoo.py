"""The runs that the claim on early warnings trains: a setting of experiments.train each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from covlab.claims.old_claim import require_seeds
from covlab.launch.build import PHASE_KEYS, Setup, build

OWN_KEYS = ("zoo", "runs", "truth", "candidates", "judged", "rate", "resamples", "scale")
"""Settings of the claim that no run depends on: a run's `config.yaml` is one of experiments.train."""
RUN_KEYS = ("model", "phases", *PHASE_KEYS)


def zoo(config: DictConfig, path: Path) -> tuple[dict[str, DictConfig], dict[str, Setup]]:
    """By name, every run's configuration and what that builds.

    Raises:
        ValueError: one line for a setting that no run can be made of.
    """
    if not isinstance(config.zoo, DictConfig | None):
        raise ValueError(f"zoo: {config.zoo!r} is neither null nor a mapping from names to overrides")
    configs: dict[str, DictConfig] = {}
    setups: dict[str, Setup] = {}
    for name in map(str, config.zoo or {}):
        try:
            configs[name] = run_config(config, path, name)
            setups[name] = build(configs[name])
            require_seeds("early_warning", setups[name].seeds)
        except ValueError as error:
            raise ValueError(f"zoo.{name}: {error}") from None
    return configs, setups


def _clear(own: DictConfig, changes: Any) -> None:
    """A class that is named in the changes brings none of the fields that the configuration gives its own."""
    for key, node in changes.items():
        if isinstance(node, DictConfig) and "_target_" in node and key in own:
            own[key] = {}


def run_config(config: DictConfig, path: Path, name: str) -> DictConfig:
    """One run of the zoo as a configuration of experiments.train."""
    changes = config.zoo[name]
    if not name.replace("_", "").isalnum():
        raise ValueError("its name is not one of letters, digits and _")
    if not isinstance(changes, DictConfig):
        raise ValueError(f"{changes!r} is not a mapping; valid keys are {', '.join(RUN_KEYS)}")
    for key in map(str, changes):
        if key not in RUN_KEYS:
            raise ValueError(f"{key}: no such field; valid are {', '.join(RUN_KEYS)}")
    own = OmegaConf.create({key: value for key, value in config.items() if key not in OWN_KEYS})
    OmegaConf.set_struct(own, False)
    _clear(own, changes)
    for phase, node in (changes.get("phases") or {}).items():
        if phase in (own.phases or {}):
            _clear(own.phases[phase], node or {})
    place = {"group": config.group, "name": f"{path.name}-{name}"}
    merged = OmegaConf.merge(own, changes, place)
    assert isinstance(merged, DictConfig)
    if merged.phases is None:
        merged.phases = {}
    return merged
