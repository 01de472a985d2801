"""Extending a run beyond its first end: by a longer last phase, or by more phases."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from covlab.launch.build import Setup
from covlab.launch.trained import open_run
from models import Model
from tasks import stream
from tracking import LoadError, read_config
from tracking.run_config import plain_config
from training import Phase

GROWING = ("steps", "phases")
"""Keys of a configuration that may differ in a longer run."""


class _Length(NamedTuple):
    """A phase's number of steps, and its other settings."""

    name: str
    steps: Any
    rest: str


def longer(path: Path, config: Mapping[str, Any], setup: Setup) -> tuple[str, ...]:
    """`GROWING` if `config` extends the run at `path` by steps in the last phase or by more phases, else ().

    The longer run begins with the steps that the run has done: batches are functions of the step, and
    boundaries lie on an absolute grid. The first end stays a boundary.

    Args:
        path: the run directory.
        config: the resolved new configuration.
        setup: the objects that `config` describes.

    Raises:
        ValueError: the optimizer's learning rate depends on the length of the phase, so the longer run would
            have taken other steps from the start. Nothing was changed.
    """
    if not (path / "config.yaml").is_file():
        return ()
    before = read_config(path)
    if not {"steps", "phases"} <= before.keys():
        return ()
    old, new = _lengths(before), _lengths(plain_config(config))
    if old == new or len(old) > len(new):
        return ()
    last = len(old) - 1
    (was, now) = old[last], new[last]
    if old[:last] != new[:last] or (was.name, was.rest) != (now.name, now.rest):
        return ()
    began = open_run(path).setup
    if began.model.ahead != setup.model.ahead:
        raise LoadError(
            f"phases: predict {setup.model.ahead + 1} tokens at once; the model of {path} began with heads "
            f"for {began.model.ahead + 1}; valid: another run name"
        )
    if was.steps == now.steps:
        return GROWING
    if not isinstance(was.steps, int) or was.steps > now.steps:
        return ()
    first = began.phases[last]
    if _update(first, setup.model) != _update(setup.phases[last], setup.model):
        raise LoadError(
            f"steps: phase {now.name} of {path} is {was.steps} steps long, and its learning rate depends on "
            f"that length, so that {now.steps} steps are another training from the start; valid: "
            f"{was.steps}, or another run name"
        )
    return GROWING


def _lengths(config: Mapping[str, Any]) -> list[_Length]:
    return [
        _Length(
            str(name),
            (changes or {}).get("steps", config["steps"]),
            repr({key: value for key, value in (changes or {}).items() if key != "steps"}),
        )
        for name, changes in (config["phases"] or {"train": {}}).items()
    ]


def _update(phase: Phase, model: Model) -> str:
    """The phase's optimizer as the text of a program; equal texts take equal steps."""
    params = jax.eval_shape(lambda seed: model.init(stream(seed, "init")), np.uint32(0))
    state = jax.eval_shape(phase.rule.init, params)
    return str(jax.jit(phase.rule.update).lower(params, state, params).as_text())
