"""Programs of a run, which one start leaves on disk for the next."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from covlab.launch.build import Setup
from covlab.launch.kept import Kept, cache_folder
from covlab.launch.keys import key_of
from covlab.launch.run_names import VOLATILE
from metrics.evaluators import HeldOut
from training import Grid, Layout, Program, make_program

IGNORED = (*VOLATILE, "seed", "seeds", "launcher", "run")
"""Settings that change no program: the seeds are an argument, and a base model is among the objects."""


def kept_for(config: Mapping[str, Any], setup: Setup, layout: Layout) -> Kept:
    """Entries of the programs of the run that `build` set up from `config`.

    Nothing is kept for a setup that was not built from a configuration, and where `key_of` gives no key.
    """
    objects: list[Any] = [setup.model, *setup.evaluators]
    for phase in setup.phases:
        objects += [phase.task, phase.objective, phase.source, phase.source.model, phase.averaging]
    given = {name: value for name, value in config.items() if name not in IGNORED}
    if not setup.described or cache_folder() is None:
        return Kept("")
    return Kept(key_of(objects, given, layout, len(setup.seeds), targets=_targets(given)))


def programs_of(
    setup: Setup, layout: Layout, kept: Kept, held_out: Sequence[HeldOut]
) -> list[Program] | None:
    """Programs of the phases, the first of which begins to load or compile; `held_out` may be filled later.

    None where nothing can be kept; the trainer then makes them.
    """
    if not kept.key:
        return None
    grid, drawn = Grid(layout), held_out.__getitem__
    programs = [
        make_program(setup.model, phase, setup.evaluators, functools.partial(drawn, index), grid, shelf=kept)
        for index, phase in enumerate(setup.phases)
    ]
    programs[0].prepare(len(setup.seeds))
    return programs


def _targets(node: Any) -> Iterator[str]:
    """Every `_target_` of a configuration."""
    if isinstance(node, Mapping):
        if isinstance(node.get("_target_"), str):
            yield node["_target_"]
        for value in node.values():
            yield from _targets(value)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from _targets(value)
