"""The reward networks, and what is measured: finite sets, and pools of bracket strings."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any

from covlab.claims.arms import Arm
from covlab.claims.claim import Plan, Study, require_seeds
from covlab.claims.settings import Section, check_mapping, mapping
from covlab.launch.base_model import value_config
from covlab.launch.build import Setup
from experiments.pessimism.brackets import Arm as Brackets
from experiments.pessimism.brackets import PoolSettings, measure_arm
from experiments.pessimism.finite_sets import Tabular, TabularSettings, measure_tabular


def tabular(field: str, value: Any) -> TabularSettings:
    """The settings of the finite sets."""
    read: TabularSettings = Section(TabularSettings)(field, mapping(field, value))
    return read


def pools(field: str, value: Any) -> PoolSettings:
    """The settings of the bracket strings."""
    read: PoolSettings = Section(PoolSettings)(field, mapping(field, value))
    return read


def overrides(field: str, value: Any) -> dict[str, Mapping[str, Any]]:
    """Settings of conf/train_value.yaml that differ, by the name of an arm."""
    check_mapping(field, value, at_least=2)
    return {str(name): mapping(f"{field}.{name}", changes or {}) for name, changes in value.items()}


@dataclasses.dataclass(frozen=True)
class Settings:
    """The claim's own settings; those of all reward networks are of experiments.train_value.

    Attributes:
        tabular: sizes of the random instances whose laws are exact.
        pools: sizes of the pools of responses that the reward networks judge.
        arms: reward networks for base models that cover the correct responses more and less: overrides of
            each run.
    """

    tabular: Annotated[TabularSettings, tabular]
    pools: Annotated[PoolSettings, pools]
    arms: Annotated[Mapping[str, Mapping[str, Any]], overrides]


def stage(settings: Settings, plan: Plan) -> dict[str, Arm]:
    """The reward networks of every arm, as conf/train_value.yaml would ask for them."""
    arms = {}
    for name, changes in settings.arms.items():
        config = plan.run_config(name)
        for key in changes:
            if key not in config or key in ("task", "model", "run", "name", "root", "group", "seeds", "seed"):
                raise ValueError(
                    f"arms.{name}.{key}: no such field; valid are task_overrides, dataset_size, steps "
                    f"and others of conf/train_value.yaml"
                )
        arms[name] = Arm(value_config(plan.run_config(name, changes)))
    return arms


def check_run(settings: Settings, name: str, setup: Setup) -> None:
    """Refuse a run that the claim cannot be judged on."""
    require_seeds("pessimism", setup.seeds)


@dataclasses.dataclass(frozen=True)
class Measurements:
    """Both parts; the arms in order of coverage, the best covered first."""

    settings: Settings
    tabular: Tabular
    arms: dict[str, Brackets]

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seed of the finite sets, and those of the networks."""
        networks = {seed for arm in self.arms.values() for seed in arm.seeds}
        return tuple(sorted({self.settings.tabular.seed, *networks}))


def measure(settings: Settings, study: Study) -> Measurements:
    """Finite sets, and the pools of every arm for the seeds that finished training in all.

    Raises:
        ValueError: fewer than two such seeds.
    """
    progress, runs = study.progress, study.runs
    results = measure_tabular(
        settings.tabular, lambda done, total: progress.update("finite sets", done, total)
    )
    healthy = [set(run.healthy_seeds(*run.checkpoints(["last"])[-1])) for run in runs.values()]
    first = next(iter(runs.values())).setup
    seeds = [seed for seed in first.seeds if all(seed in seeds_of_run for seeds_of_run in healthy)]
    require_seeds("pessimism", seeds)
    total = len(runs) * len(seeds)
    done = iter(range(1, total + 1))
    progress.update("bracket strings", 0, total)

    def report() -> None:
        progress.update("bracket strings", next(done), total)

    arms = {
        name: measure_arm(run, seeds, settings.pools, settings.tabular, report) for name, run in runs.items()
    }
    by_coverage = sorted(arms.items(), key=lambda item: float(item[1].coverage.mean()))
    return Measurements(settings, results, dict(by_coverage))
