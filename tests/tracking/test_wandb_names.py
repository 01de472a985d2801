from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles.fake_wandb import step_records

from tracking.wandb_names import best_of, over_seeds, quantile, wandb_name


def test_names() -> None:
    assert wandb_name("eval/G2/cov/5.7") == "eval/G2/cov/5p7"
    assert wandb_name("eval/a.b/4") == "eval/a_b/4"


def test_the_best_value_of_a_metric_is_its_lowest_or_its_highest() -> None:
    lower = (
        "eval/ce",
        "eval/kl/median",
        "eval/G2/cov/5p7/q90",
        "train/loss",
        "eval/rmse",
        "eval/squared_error",
        "eval/G1/coverage_ratio/8/median",
    )
    higher = ("eval/pass/8", "eval/G1/pass/4/median", "eval/accuracy", "eval/sampled_pass/2", "train/reward")
    higher += ("eval/pass_all/8", "eval/cover/0p5/median", "eval/hard/likelihood/0p05")
    neither = ("train/gradient_norm", "step", "global_step", "timing/time", "seeds", "eval/log_ratio")
    assert {best_of(name) for name in lower} == {"min"}
    assert {best_of(name) for name in higher} == {"max"}
    assert {best_of(name) for name in neither} == {None}


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20), st.floats(0, 1))
def test_quantile_is_numpy_s(values, q) -> None:
    assert quantile(values, q) == pytest.approx(float(np.quantile(values, q)), rel=1e-9, abs=1e-9)


def test_quantile_among_infinities_and_nans() -> None:
    assert quantile([math.inf, math.inf, 1.0], 0.5) == math.inf
    assert quantile([1.0, 2.0, math.inf], 0.5) == 2.0
    assert quantile([-math.inf, -math.inf], 0.9) == -math.inf
    assert quantile([math.nan, 3.0, 1.0], 0.5) == 2.0
    assert math.isnan(quantile([math.nan], 0.5))


def test_an_undefined_or_infinite_ratio_is_no_number_of_its_own() -> None:
    """Absent for one seed: the median of the others. Infinite for one: it stays above all numbers."""
    name = "eval/coverage_ratio/8"
    head = {"phase": "p", "step": 1, "global_step": 1}
    records = [head | {"seed": 0}, head | {"seed": 1, name: 0.5}, head | {"seed": 2, name: 1.5}]
    found = over_seeds(records)
    assert (found[f"{name}/median"], found["seeds"]) == (1.0, 3)
    assert name not in " ".join(over_seeds(records[:1]))
    records[0][name] = math.inf
    assert over_seeds(records)[f"{name}/median"] == 1.5
    assert over_seeds(records)[f"{name}/q90"] == math.inf


def test_seeds_become_median_and_quantiles() -> None:
    records = step_records(7, seeds=3, state="ok")
    records[0]["only/one"] = 5
    records[1]["state"] = "frozen"
    records[2]["eval/cov/5.7"] = None
    assert over_seeds(records) == {
        "phase": "p",
        "step": 7,
        "global_step": 107,
        "eval/cov/5p7/q10": 0.1,
        "eval/cov/5p7/median": 0.5,
        "eval/cov/5p7/q90": 0.9,
        "only/one/q10": 5.0,
        "only/one/median": 5.0,
        "only/one/q90": 5.0,
        "seeds": 3,
    }
    # A seed that diverged writes no records: the median is over the others.
    assert over_seeds(records[:2])["seeds"] == 2
    assert over_seeds(step_records(1, state="ok"))["state"] == "ok"
