"""A stand-in for the wandb module, and the records that are sent to it."""

from __future__ import annotations

import sys
import types

from tracking import wandb_mirror

CONFIG = {"task": {"depth": 3, "groups": ("G1", "G2")}}


class FakeRun:
    url = "https://example.invalid/run"

    def __init__(self, **settings) -> None:
        self.settings, self.calls, self.defined, self.exit_codes = settings, [], [], []
        self.hidden: set[str] = set()
        self.starting_step, self.summaries = 0, {}
        self.dir = f"{settings['dir']}/wandb/fake/files"

    def log(self, row: dict, step: int) -> None:
        self.calls.append((step, row))

    @property
    def rows(self) -> list[dict]:
        """Rows as in W&B, where calls with equal steps are one row."""
        merged: dict[int, dict] = {}
        for step, row in self.calls:
            merged.setdefault(step, {}).update(row)
        assert list(merged) == sorted(merged)
        return list(merged.values())

    def define_metric(
        self, name: str, step_metric: str, summary: str | None = None, hidden: bool = False
    ) -> None:
        self.hidden |= {name} if hidden else set()
        if summary is None:
            self.defined.append((name, step_metric))
        else:
            self.summaries[name] = summary

    def finish(self, exit_code: int) -> None:
        self.exit_codes.append(exit_code)


def install(monkeypatch):
    """Put the stand-in in the place of wandb; its `runs` are all that were begun."""
    monkeypatch.setattr(wandb_mirror, "_TAKEN", {})
    module = types.ModuleType("wandb")
    module.runs = []

    def init(**settings) -> FakeRun:
        module.runs.append(FakeRun(**settings))
        return module.runs[-1]

    module.init = init
    module.Settings = dict
    module.Histogram = lambda np_histogram: ("histogram", *np_histogram)
    module.Table = lambda columns, data: ("table", columns, data)
    module.Image = lambda path: ("image", path)
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def step_records(step: int, seeds: int = 3, **more) -> list[dict]:
    return [
        {
            "phase": "p",
            "step": step,
            "global_step": 100 + step,
            "seed": k,
            "eval/cov/5.7": float(k * k),
            **more,
        }
        for k in range(seeds)
    ]
