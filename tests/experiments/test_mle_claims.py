"""The claims on maximum likelihood: small versions pass, failures are noticed, bad input, whole commands."""

from __future__ import annotations

import dataclasses
import functools
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import DictConfig, OmegaConf

from covlab.report.verdict import Verdict
from experiments import mle_lower_bounds
from experiments.mle_lower_bounds import measure as mle_lower_measure
from tracking import Progress

CLAIMS = {"mle_lower_bounds": mle_lower_bounds}
SMALL_BOUNDS = (
    "draws=128",
    "coarse_samples=[128,256,512]",
    "coarse_sample=512",
    "coarse_sizes=[8,16,32]",
    "coarse_size=16",
    "coarse_norm=10",
    "coarse_log_ns=[0.75,3,10]",
    "fine_samples=[256,512,1024]",
    "fine_sample=1024",
    "fine_sizes=[32,64,128]",
    "fine_log_ns=[1,2,4]",
    "bits_samples=[2048,4096,8192]",
    "bits_horizons=[64,128,256]",
    "bits_horizon=64",
    "bits_long=128",
    "bits_log_ns=[0.7,1.4,2.8]",
    "bits_responses=64",
)


def settings_of(claim: str, compose_config: Callable[..., DictConfig], *overrides: str) -> Any:
    config = OmegaConf.merge(compose_config(claim), OmegaConf.from_dotlist(["seed=7", *overrides]))
    return CLAIMS[claim].settings(config)


@functools.cache
def bounds(compose_config: Callable[..., DictConfig]) -> mle_lower_measure.Measured:
    chosen = settings_of("mle_lower_bounds", compose_config, *SMALL_BOUNDS)
    return mle_lower_measure.measured(chosen, Progress(show=False))


def failed(claim: Any, found: Any) -> set[str]:
    return {check.name for check in claim.checks(found) if not check.passed}


def test_the_claims_hold_at_small_sizes(compose_config: Callable[..., DictConfig]) -> None:
    assert not failed(mle_lower_bounds, bounds(compose_config))


def scaled(found: Any, key: tuple[str, str], index: int, factor: Any) -> Any:
    """The findings with one rate multiplied, size by size."""
    sweep = found.sweeps[key]
    each = list(sweep.rates)
    each[index] = each[index]._replace(values=each[index].values * factor(np.array(sweep.sizes, float)))
    return found._replace(sweeps={**found.sweeps, key: sweep._replace(rates=tuple(each))})


@pytest.mark.parametrize(
    ("key", "factor", "noticed"),
    [
        (("coarse", "n"), lambda x: x**-0.3, "coarse: exponent of Cov_N in n, from below"),
        (("coarse", "ln N"), lambda x: 1 / x, "coarse: exponent of Cov_N in ln N, from below"),
        (("fine", "d"), lambda x: 1 / x, "fine: exponent of Cov_N in d, from below"),
        (("fine", "ln N"), lambda x: x, "fine: exponent of Cov_N in ln N, from above"),
        (("variance", "H"), lambda x: 1 / x, "variance: exponent of Cov_N in H, from below"),
        (("variance", "sigma*^2"), lambda x: x, "variance: exponent of Cov_N in sigma*^2, from above"),
        (("variance", "n"), lambda x: 1000 + 0 * x, "variance: largest share of the upper bound"),
    ],
)
def test_a_failure_of_the_lower_bounds_is_noticed(
    key: tuple[str, str], factor: Any, noticed: str, compose_config: Callable[..., DictConfig]
) -> None:
    assert noticed in failed(mle_lower_bounds, scaled(bounds(compose_config), key, 0, factor))


def test_failures_outside_the_sweeps_are_noticed(compose_config: Callable[..., DictConfig]) -> None:
    low = bounds(compose_config)
    never = [0 * each for each in low.missed]
    assert failed(mle_lower_bounds, low._replace(missed=never, promised=never, trivial=0.1, spread=1.5)) >= {
        "coarse: probability of Cov_N >= (d - 1)/(10 n), least over n and d",
        "coarse: Cov_N at the trivial N = e^2B, largest",
        "fine: probability of missing pi_D, least over n, d and ln N",
        "fine: ln(1/(1 - eps)) over sqrt(d/n), largest",
    }


def test_notes_and_tables_are_whole(compose_config: Callable[..., DictConfig]) -> None:
    for claim, found in ((mle_lower_bounds, bounds(compose_config)),):
        assert all(text.endswith(".") for text in claim.notes(found))  # type: ignore[attr-defined]


@pytest.mark.parametrize("claim", CLAIMS)
@pytest.mark.parametrize("scale", ["cpu", "paper"])
def test_scales_have_draws_and_sizes_enough_and_fresh_seeds(
    claim: str, scale: str, compose_config: Callable[..., DictConfig]
) -> None:
    chosen = CLAIMS[claim].settings(compose_config(claim, f"scale={scale}"))  # type: ignore[attr-defined]
    assert chosen.seed < 900, "settings were chosen on 900 and above"
    assert chosen.draws >= 32
    for field in dataclasses.fields(chosen):
        value = getattr(chosen, field.name)
        if isinstance(value, tuple):
            assert len(value) >= 5, field.name
            assert max(value) >= 16 * min(value) * (1 - 1e-9), field.name


@pytest.mark.parametrize(
    ("claim", "override", "message"),
    [
        ("mle_lower_bounds", "coarse_norm=9", "coarse_log_ns: [0.75, 1.5, 3.0, 6.0, 12.0]; valid: at most"),
        ("mle_lower_bounds", "coarse_size=300", "size: 300; valid: 2 to num_samples = 256"),
        ("mle_lower_bounds", "fine_sample=300", "size: 256; valid: 1 to num_samples/2 = 150"),
        ("mle_lower_bounds", "bits_norm=5", "log_n: 1.38629; valid: at most c1/4 min(H, B^2)"),
        ("mle_lower_bounds", "bits_sample=many", "bits_sample: 'many' is not an integer >= 2"),
    ],
)
def test_bad_input_is_one_line(
    claim: str, override: str, message: str, compose_config: Callable[..., DictConfig]
) -> None:
    config = OmegaConf.merge(compose_config(claim), OmegaConf.from_dotlist([override]))
    with pytest.raises(ValueError, match=f"^{re.escape(message)}") as error:
        CLAIMS[claim].settings(config)  # type: ignore[attr-defined]
    assert "\n" not in str(error.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("claim", "overrides", "figures"),
    [
        ("mle_lower_bounds", SMALL_BOUNDS, 3),
    ],
)
def test_the_commands_end_in_a_verdict_and_a_report(
    claim: str, overrides: tuple[str, ...], figures: int, tmp_path: Path, command_line: Any
) -> None:
    where = (f"root={tmp_path}", "name=tiny")
    arguments, environment = command_line(claim, [*overrides, "seed=7", *where])
    root = Path(__file__).parents[2]
    done = subprocess.run(
        arguments, cwd=root, env=environment, capture_output=True, text=True, check=False, timeout=1200
    )
    assert done.returncode == 0, done.stderr
    path = tmp_path / claim / "tiny"
    assert Verdict.read(path / "verdict.json").claim == claim
    assert (path / "report.html").read_text().count("<figure") == figures
