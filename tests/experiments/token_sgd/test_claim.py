"""The claims on token-level SGD and truncated distillation: scales, what they refuse, tiny runs, checks."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from omegaconf import DictConfig, OmegaConf

from covlab.claims.direct_claim import Findings
from covlab.report.rates import exponent
from experiments import token_sgd, truncated_distillation
from experiments.token_sgd import figures as token_sgd_report
from experiments.truncated_distillation import figures as truncated_distillation_report

TUNING = set(range(900, 906))
TOKEN = {
    "horizons": "[16,32,64]",
    "sequences": "512",
    "sequence_counts": "[128,256,512]",
    "horizon": "16",
    "halvings": "[2,4,6]",
    "draws": "16",
    "responses": "2",
    "tuning_draws": "4",
    "robust_horizon": "32",
    "robust_responses": "2",
    "family_horizons": "[64,128,256]",
    "family_inner": "20",
    "family_draws": "8",
    "family_tuning_draws": "2",
    "family_sequences": "512",
    "token_halvings": "[9,10]",
    "sequence_halvings": "[13,14,15,16]",
}
DISTILLATION = {
    "lengths": "[16,64,256]",
    "step_counts": "[1024,2048,4096]",
    "log_ns": "[2,4,8]",
    "steps": "4096",
    "halvings": "[2,4,6,8]",
    "draws": "8",
    "tuning_draws": "4",
    "dense_steps": "256",
    "family_horizons": "[64,128,256]",
    "family_inner": "20",
    "family_halvings": "[6,7,8,13,14,15,16]",
    "family_draws": "8",
    "family_tuning_draws": "2",
    "family_steps": "1024",
}


class Silent:
    """Progress that nobody sees."""

    def update(self, *arguments: Any) -> None:
        """Nothing."""


def tiny(claim: ModuleType, overrides: dict[str, str], compose: Callable[..., DictConfig]) -> Any:
    config = compose(
        claim.__name__.rpartition(".")[2], *(f"{key}={value}" for key, value in overrides.items())
    )
    return claim.settings(config)


@functools.cache
def composed(name: str, compose: Callable[..., DictConfig]) -> DictConfig:
    return compose(name)


@pytest.mark.parametrize("scale", ["cpu", "paper"])
def test_scales_span_a_factor_of_16_with_fresh_seeds(
    scale: str, compose_config: Callable[..., DictConfig]
) -> None:
    token = token_sgd.settings(compose_config("token_sgd", f"scale={scale}"))
    distilled = truncated_distillation.settings(compose_config("truncated_distillation", f"scale={scale}"))
    sizes = (token.horizons, token.sequence_counts, token.family_horizons)
    for each in (*sizes, distilled.step_counts, distilled.log_ns, distilled.family_horizons):
        assert len(each) >= 5
        assert each[-1] >= 16 * each[0]
    for settings in (token, distilled):
        assert min(settings.draws, settings.family_draws) >= 32
        assert settings.tuning_seed in TUNING
        assert settings.seed not in TUNING, "settings were chosen on these"


@pytest.mark.parametrize(
    ("claim", "overrides", "message"),
    [
        (token_sgd, "horizons=[8,16]", "horizons: [8, 16]; valid: at least 3 different integers >= 4"),
        (token_sgd, "variance=60", "variance: 60 is too large for H = 64"),
        (
            token_sgd,
            "factors=[1,2]",
            "factors: [1.0, 2.0]; valid: different numbers >= 0, 0 and 1 among them",
        ),
        (token_sgd, "seed=905", "seed: 905; valid: another one than tuning_seed"),
        (token_sgd, "n=2", "n: 2 is not a number strictly between 2.71828"),
        (token_sgd, "halvings=[2]", "halvings: [2]; valid: at least 2"),
        (token_sgd, "draws=few", "draws: 'few' is not an integer >= 8"),
        (truncated_distillation, "variance=999", "variance: 999 is too large for the ladder"),
        (truncated_distillation, "lengths=[16]", "lengths: [16]; valid: at least 2"),
        (truncated_distillation, "log_ns=[0.5,2,4]", "log_ns: 0.5 is not a number strictly between 1"),
        (truncated_distillation, "tuning_seed=640", "seed: 640; valid: another one"),
        (truncated_distillation, "family_inner=1", "family_inner: 1 is not a number"),
    ],
)
def test_bad_input_is_one_line(
    claim: ModuleType, overrides: str, message: str, compose_config: Callable[..., DictConfig]
) -> None:
    name = claim.__name__.rpartition(".")[2]
    config = OmegaConf.merge(composed(name, compose_config), OmegaConf.from_dotlist([overrides]))
    with pytest.raises(ValueError, match=f"^{re.escape(message)}") as error:
        claim.settings(config)
    assert "\n" not in str(error.value)


def complete(found: Findings, figures: list[str]) -> None:
    """A report with everything in it."""
    assert [drawing.name for drawing in found.drawings] == figures
    assert len({check.name for check in found.checks}) == len(found.checks)
    assert all(check.measured is not None for check in found.checks)
    for _, columns, rows in found.tables:
        assert rows
        assert all(len(row) == len(columns) for row in rows)
    assert all(text.endswith(".") for text in found.notes)


@pytest.mark.slow
def test_a_tiny_run_of_token_sgd(
    compose_config: Callable[..., DictConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[token_sgd.Measurements] = []
    real = token_sgd_report.checks
    monkeypatch.setattr(token_sgd_report, "checks", lambda found: (kept.append(found), real(found))[1])
    chosen = tiny(token_sgd, TOKEN, compose_config)
    found = token_sgd.measure(chosen, Silent())  # type: ignore[arg-type]
    complete(found, ["rates", "robustness"])
    assert found.seeds == (620,)
    measured = kept[0]
    # Fixed parameters are never below the least of any proper method: draws share their prompts.
    for name in ("fixed, best", "sequence, best"):
        assert np.all(measured.over_horizons(name) >= measured.floor - 1e-12)
    bounds = {check.name: check for check in found.checks if "over its bound" in check.name}
    assert len(bounds) == 4
    assert all(check.passed for check in bounds.values())

    # What grows with H is noticed.
    def grown(point: token_sgd.Point, horizon: int) -> token_sgd.Point:
        return dataclasses.replace(point, kl=point.kl | {"TTT": point.kl["TTT"] * horizon})

    worse = tuple(map(grown, measured.by_horizon, chosen.horizons))
    slower = dataclasses.replace(
        measured,
        by_horizon=worse,
        by_count=tuple(map(grown, measured.by_count, chosen.sequence_counts)),
    )
    failed = {check.name for check in real(slower) if not check.passed}
    assert {
        "TTT, the theorem's step: exponent of H in KL, from above",
        "TTT: exponent of T in KL",
        "TTT: KL over the least of any proper method, longest H",
    } <= failed


@pytest.mark.slow
def test_a_tiny_run_of_truncated_distillation(
    compose_config: Callable[..., DictConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[truncated_distillation.Measurements] = []
    real = truncated_distillation_report.checks
    monkeypatch.setattr(
        truncated_distillation_report, "checks", lambda found: (kept.append(found), real(found))[1]
    )
    chosen = tiny(truncated_distillation, DISTILLATION, compose_config)
    found = truncated_distillation.measure(chosen, Silent())  # type: ignore[arg-type]
    complete(found, ["rates"])
    measured = kept[0]
    rng = np.random.default_rng(0)
    needed = measured.family.needed
    assert exponent(chosen.family_horizons, needed["sequence"], rng).low > 0.5
    assert needed["truncated"].max() < 60
    # A budget that grows with H is noticed.
    grown = {name: each * np.array(chosen.family_horizons) for name, each in needed.items()}
    family = dataclasses.replace(measured.family, needed=grown)
    failed = {check.name for check in real(dataclasses.replace(measured, family=family)) if not check.passed}
    assert "family, truncated: exponent of H in the steps needed, from above" in failed
