"""An imperfect reward: Best-of-N rises, then falls with N; inference-time pessimism rises and stays.

    python -m experiments.pessimism scale=cpu|paper

On finite sets of responses, where regret is exact, the reward's error sits where the reference seldom goes;
the coverage of the good responses and the size of the error are set. On bracket strings the reward is a
network trained on few labelled rollouts of a base model that is known exactly. Writes `verdict.json` and
`report.html` above the directories of the reward networks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from hydra.core.hydra_config import HydraConfig
from jaxtyping import Float
from omegaconf import DictConfig, OmegaConf

from covlab.claims.old_claim import (
    Began,
    Claim,
    leave,
    make_verdict,
    require_seeds,
    timing_facts,
    worked_seconds,
)
from covlab.claims.rl_runs import check_mapping
from covlab.claims.several_runs import train_runs
from covlab.launch.base_model import value_config
from covlab.launch.build import Setup, build
from covlab.launch.cli import command
from covlab.launch.run_names import run_path
from covlab.launch.runtime import configure
from covlab.launch.trained import open_run
from covlab.report.plotting import save_all
from covlab.report.rates import exponent
from covlab.report.verdict import Check, check_interval, check_value
from experiments.pessimism.brackets import Arm, measure_arm
from experiments.pessimism.figures import drawings, tables
from experiments.pessimism.finite_sets import (
    BEST,
    OWN_SAMPLE,
    SAMPLE_MAXIMUM,
    THEORY,
    Settings,
    Tabular,
    falls_after_peak,
    largest_fall,
    measure_tabular,
    rises_to_peak,
    settings,
)
from metrics import Interval, mean_interval, paired_difference_interval
from tasks import numpy_stream
from tracking import Progress

CLAIM = Claim(
    name="pessimism",
    source="Is Best-of-N the Best of Them?, arXiv 2503.21878, Theorems 3.4, 4.1 and 4.2",
    title="With an imperfect reward Best-of-N rises and falls with N; pessimism does not fall",
    introduction=(
        "N responses are drawn from a reference and judged by an estimate r^ of the true reward. Best-of-N "
        "takes the one of the largest r^. Inference-time pessimism finds lambda with (1/N) sum_i "
        "relu((r^_i - lambda)/beta) = 1 and draws a response with probability about pi_ref(y) "
        "relu((r^(y) - lambda)/beta): a rare one is given little, however much it is thought to earn.",
        "What can be promised depends on the coverage coefficient C = E_pi*[pi*/pi_ref] of the policy to be "
        "matched and on the error eps^2 = E_ref[(r^ - r)^2]: with beta = eps/sqrt(C) pessimism loses at most "
        "2 eps sqrt(C), for N large. Best-of-N does as well at some N above C, and is lost where N is so "
        "large that overrated responses are drawn.",
    ),
)
OWN_KEYS = ("scale", "arms", "tabular", "pools")
"""Settings of the claim that no reward network depends on."""
FLAT = 0.02
"""A fall of the reward, between 0 and 1, that still counts as none."""


class Measurements(NamedTuple):
    """Both parts; the arms in order of coverage, the best covered first."""

    settings: Settings
    tabular: Tabular
    arms: dict[str, Arm]


def pessimism(config: DictConfig) -> int:
    """Train (or continue, or reuse) the reward networks, measure and judge; exit status 0 whether or not the
    claim holds."""
    began = Began.now()
    chosen = settings(config)
    names = check_mapping("arms", config.arms, at_least=2)
    configure(config.seeds if isinstance(config.seeds, int) else 1, config.devices, config.data_parallel)
    path = run_path(config, HydraConfig.get().overrides.task)
    configs = {name: arm_config(config, name, f"{path.name}-{name}") for name in names}
    setups = {name: build(own) for name, own in configs.items()}
    for setup in setups.values():
        require_seeds(CLAIM.name, setup.seeds)
    directories = {name: path / name for name in names}
    status = train_runs(CLAIM.name, configs, setups, directories)
    if status is not None:
        return status
    found = measure(chosen, directories, setups, int(config.evaluation.seed), bool(config.tracking.progress))
    timings: dict[str, float] = {}
    for name, directory in directories.items():
        timings |= timing_facts(directory, f"{name}, ")
    seeds = sorted({chosen.seed, *(seed for arm in found.arms.values() for seed in arm.seeds)})
    worked = worked_seconds(timings)
    verdict = make_verdict(CLAIM, config, began, worked, checks(found), seeds, notes(found))

    leave(
        path,
        CLAIM,
        verdict,
        config,
        lambda: save_all(path / "figures", drawings(found.tabular, found.arms)),
        tables(found.tabular, found.arms),
        timings,
    )
    return 0


def arm_config(config: DictConfig, arm: str, name: str) -> DictConfig:
    """One arm's reward networks, as conf/train_value.yaml would ask for them."""
    own = OmegaConf.create({key: value for key, value in config.items() if key not in OWN_KEYS})
    OmegaConf.set_struct(own, False)
    for key in config.arms[arm] or {}:
        if key not in own or key in ("task", "model", "run", "name", "root", "group", "seeds", "seed"):
            raise ValueError(
                f"arms.{arm}.{key}: no such field; valid are task_overrides, dataset_size, steps "
                f"and others of conf/train_value.yaml"
            )
    merged = OmegaConf.merge(own, config.arms[arm] or {}, {"name": name})
    assert isinstance(merged, DictConfig)
    return value_config(merged)


def measure(
    chosen: Settings, directories: Mapping[str, Path], setups: Mapping[str, Setup], seed: int, show: bool
) -> Measurements:
    """Finite sets, and the pools of every arm for the seeds that finished training in all."""
    progress = Progress(show)
    try:
        tabular = measure_tabular(chosen, lambda done, total: progress.update("finite sets", done, total))
        runs = {name: open_run(directory) for name, directory in directories.items()}
        living = [set(run.healthy_seeds(*run.checkpoints(["last"])[-1])) for run in runs.values()]
        seeds = [seed for seed in next(iter(setups.values())).seeds if all(seed in each for each in living)]
        require_seeds(CLAIM.name, seeds)
        total = len(runs) * len(seeds)
        done = iter(range(1, total + 1))
        progress.update("bracket strings", 0, total)

        def report() -> None:
            progress.update("bracket strings", next(done), total)

        arms = {name: measure_arm(run, seeds, chosen, seed, report) for name, run in runs.items()}
    finally:
        progress.close()
    return Measurements(
        chosen, tabular, dict(sorted(arms.items(), key=lambda item: float(item[1].coverage.mean())))
    )


def checks(found: Measurements) -> tuple[Check, ...]:
    """The claim's checks.

    The reasons for the targets, finite sets (rewards between 0 and 1, each over all errors and coverages):

    - Best-of-N rises and falls: overrated responses earn .1, good ones 1, the reference between: in both
      directions there is room for more than .1 wherever they can be told apart.
    - Pessimism does not fall: once its sample says what lambda is, more of it changes nothing. `FLAT` of the
      range is what sampling lambda may cost.
    - It is worth its trouble: at the largest N better than Best-of-N and than the reference, by .1.
    - The guarantee of the limit N -> infinity holds for every instance and every beta: a theorem.
    - At the largest N the algorithm itself is within 2 eps sqrt(C).
    - Coverage: derived for these instances, good and overrated responses have weights near eps/beta and
      .25/beta more, so the overrated are given q (.25 + beta C)/beta with q prop. to eps^2, a sum of
      (C eps^2)^(1/2) and C eps^2: the exponent of the regret in C lies between 1/2 and 1 (.1 off allowed
      for what ordinary responses are given). Best-of-N, at its best N in hindsight, loses q C up to a
      logarithm or more: an exponent above 0.

    Bracket strings, with intervals over seeds of training: Best-of-N rises; it falls farther than pessimism
    does, where coverage is low at least, at an N that differs from network to network, so from each one's own
    peak; pessimism does not fall and stays better than the reference; with more coverage both reach more.
    """
    return (*_of_tabular(found.tabular), *_of_arms(found.arms))


def _of_tabular(found: Tabular) -> list[Check]:
    best = {cell: rules[BEST] for cell, rules in found.reward.items()}
    own = {cell: rules[THEORY] for cell, rules in found.reward.items()}
    most = f"N = {found.settings.ns[-1]}"
    rise = _extreme({cell: mean_interval(rises_to_peak(each)) for cell, each in best.items()}, least=True)
    fall = _extreme({cell: mean_interval(falls_after_peak(each)) for cell, each in best.items()}, least=True)
    flat = _extreme({cell: mean_interval(falls_after_peak(each)) for cell, each in own.items()}, least=False)
    against = {
        name: _extreme(
            {cell: paired_difference_interval(own[cell][:, -1], other[cell][:, at]) for cell in own},
            least=True,
        )
        for name, other, at in (("Best-of-N", best, -1), ("the reference", best, 0))
    }
    dip = max(float(largest_fall(each.mean(axis=0))) for each in own.values())
    excess = max(float((found.limit[cell] - found.bound[cell]).max()) for cell in own)
    share = _extreme(
        {cell: mean_interval((1 - own[cell][:, -1]) / _promised(found, cell)) for cell in own}, least=False
    )
    made = [
        check_interval("finite sets: Best-of-N, best N over N = 1, least", rise, ">=", 0.1, "low"),
        check_interval(f"finite sets: Best-of-N, best N over {most}, least", fall, ">=", 0.1, "low"),
        check_interval(f"finite sets: pessimism, best N over {most}, largest", flat, "<=", FLAT, "high"),
        check_value("finite sets: pessimism, largest fall of a mean from one N to a larger", dip, "<=", FLAT),
    ]
    for name, gain in against.items():
        text = f"finite sets: pessimism at {most} over {name}, least"
        made.append(check_interval(text, gain, ">=", 0.1, "low"))
    made.append(
        check_value("finite sets: regret of the limit less its bound, largest of all", excess, "<=", 1e-9)
    )
    text = f"finite sets: regret at {most} over 2 eps sqrt(C), largest"
    made.append(check_interval(text, share, "<=", 1, "high"))
    for error in found.settings.errors:
        for name, low, high in ((THEORY, 0.4, 1.1), (BEST, 0.0, None)):
            slope = exponent(
                found.settings.coverages,
                regrets(found, error, name),
                numpy_stream(found.settings.seed, "pessimism", "bootstrap", name, round(1e6 * error)),
            )
            text = f"finite sets, eps {error:g}: exponent in C of the regret of {_at(name, most)}"
            made.append(check_interval(f"{text}, from below", slope, ">=", low, "low"))
            if high is not None:
                made.append(check_interval(f"{text}, from above", slope, "<=", high, "high"))
    return made


def _at(name: str, most: str) -> str:
    return f"{name} at {most}" if name == THEORY else f"{name} at its best N"


def regrets(found: Tabular, error: float, rule: str) -> Float[np.ndarray, "instances coverages"]:
    """Regret by coverage: of Best-of-N at the N that is best on average, of pessimism at the largest N."""
    columns = []
    for coverage in found.settings.coverages:
        curves = found.reward[error, coverage][rule]
        place = int(np.argmax(curves.mean(axis=0))) if rule == BEST else -1
        columns.append(1 - curves[:, place])
    return np.stack(columns, axis=1)


def _promised(found: Tabular, cell: tuple[float, float]) -> Float[np.ndarray, " instances"]:
    return 2 * found.error[cell] * np.sqrt(cell[1])


def _extreme(intervals: Mapping[Any, Interval], least: bool) -> Interval:
    """The interval of the least, or largest, estimate."""
    return (min if least else max)(intervals.values(), key=lambda each: each.estimate)


def _of_arms(arms: Mapping[str, Arm]) -> list[Check]:
    made = []
    for name, arm in arms.items():
        best, own = arm.reward[BEST], arm.reward[THEORY]
        rise = mean_interval(rises_to_peak(best))
        made.append(check_interval(f"brackets, {name}: Best-of-N, best N over N = 1", rise, ">", 0, "low"))
        if name == list(arms)[-1]:
            fall = paired_difference_interval(largest_fall(best), largest_fall(own))
            text = f"brackets, {name}: largest fall with N, Best-of-N less pessimism"
            made.append(check_interval(text, fall, ">", 0, "low"))
        flat = mean_interval(falls_after_peak(own))
        text = f"brackets, {name}: pessimism, best N over the largest"
        made.append(check_interval(text, flat, "<=", FLAT, "high"))
        gain = paired_difference_interval(own[:, -1], best[:, 0])
        text = f"brackets, {name}: pessimism at the largest N over the reference"
        made.append(check_interval(text, gain, ">", 0, "low"))
    first, last = (list(arms)[place] for place in (0, -1))
    for rule, value in ((BEST, _highest), (THEORY, _last)):
        gain = paired_difference_interval(value(arms[first].reward[rule]), value(arms[last].reward[rule]))
        text = f"brackets, {first} over {last}: {_at(rule, 'the largest N')}"
        made.append(check_interval(text, gain, ">", 0, "low"))
    return made


def _highest(curves: Float[np.ndarray, "seeds n"]) -> Float[np.ndarray, " seeds"]:
    return curves[:, int(np.argmax(curves.mean(axis=0)))]


def _last(curves: Float[np.ndarray, "seeds n"]) -> Float[np.ndarray, " seeds"]:
    return curves[:, -1]


def notes(found: Measurements) -> tuple[str, ...]:
    """What the numbers mean."""
    tabular, chosen = found.tabular, found.settings
    made = [
        "Finite sets: "
        + "; ".join(
            f"eps {error:g}, C {coverage:g}: Best-of-N at its best N (N = "
            f"{chosen.ns[int(np.argmax(rules[BEST].mean(axis=0)))]}) {rules[BEST].mean(axis=0).max():.3g}, "
            f"pessimism at the largest N {rules[THEORY][:, -1].mean():.3g}"
            for (error, coverage), rules in tabular.reward.items()
        )
        + ". The best N is known in hindsight only; beta needs eps and C.",
        _about_small_betas(tabular),
    ]
    for name, arm in found.arms.items():
        made.append(
            f"Brackets, {name}: C = {arm.coverage.mean():.3g}, {arm.labels} labels a network, eps = "
            f"{arm.error.mean():.3g} (a constant estimate: {arm.constant_error.mean():.3g}), so the promise "
            f"2 eps sqrt(C) is {2 * (arm.error * np.sqrt(arm.coverage)).mean():.3g}. At the largest N: "
            + ", ".join(
                f"{rule} {arm.reward[rule][:, -1].mean():.3g}"
                for rule in (BEST, THEORY, SAMPLE_MAXIMUM, OWN_SAMPLE)
            )
            + f"; Best-of-N falls below the reference on "
            f"{int(np.sum(arm.reward[BEST][:, -1] < arm.reward[BEST][:, 0]))} of {len(arm.seeds)} seeds."
        )
    made.append(
        "With fresh responses and R_max the sample's maximum, beta -> 0 is not Best-of-N: without ties none "
        "of the N fresh ones is as good as the best of the sample half of the time, and the reference's draw "
        "is returned (derived, tested). Choosing response i of the sample with probability w_i/N has "
        "Best-of-N as its limit, and costs half as many responses."
    )
    return tuple(made)


def _about_small_betas(found: Tabular) -> str:
    falls: Sequence[tuple[str, float]] = [
        (rule, max(float(largest_fall(rules[rule].mean(axis=0))) for rules in found.reward.values()))
        for rule in next(iter(found.reward.values()))
    ]
    listed = ", ".join(f"{rule} {fall:.2g}" for rule, fall in falls)
    return f"Largest fall of a mean true reward from one N to a larger, over errors and coverages: {listed}."


main: Callable[[], None] = command("pessimism", pessimism)
