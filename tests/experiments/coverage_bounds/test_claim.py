"""The claim about bounds of coverage: its laws against enumeration, its scales, what its checks notice."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
from omegaconf import DictConfig, OmegaConf
from oracles.autoregressive import enumerated

from experiments import coverage_bounds as claim
from experiments.coverage_bounds.measure import Measurements, Sides, measure_all, settings
from metrics import coverage_profile, coverage_supremum, kl, kl_converse_bound
from tasks import numpy_stream
from theory import coverage_laws as laws
from tracking import Progress

TINY = {
    "draws": 32,
    "budgets": [4, 16],
    "alphabets": [4, 16],
    "steps": [32, 128],
    "depths": [1, 4],
    "horizons": [128, 256],
    "short_horizons": [8, 32],
    "seed": 950,
}


@functools.cache
def composed(compose_config: Callable[..., DictConfig]) -> DictConfig:
    return compose_config("coverage_bounds")


@pytest.fixture(scope="module")
def measured(compose_config: Callable[..., DictConfig]) -> Measurements:
    config = OmegaConf.merge(composed(compose_config), TINY)
    return measure_all(settings(config), Progress())


def sorted_atoms(atoms: list[tuple[float, ...]]) -> dict[tuple[float, ...], float]:
    """Mass by (log ratio, KL and Hellinger distances along), so that two listings can be compared."""
    found: dict[tuple[float, ...], float] = {}
    for mass, *values in atoms:
        key = tuple(round(each, 8) + 0.0 for each in values)
        found[key] = found.get(key, 0.0) + mass
    return found


def assert_same_law(found: laws.Law, expected: list[Any]) -> None:
    assert found.kl_along is not None
    assert found.hellinger_along is not None
    atoms = list(zip(found.mass, found.log_ratio, found.kl_along, found.hellinger_along, strict=True))
    one, other = sorted_atoms(atoms), sorted_atoms([tuple(each) for each in expected])
    assert one.keys() == other.keys()
    np.testing.assert_allclose([one[key] for key in other], list(other.values()), atol=1e-12)


class Recorded:
    """A generator that repeats what another drew, in order, and tells it."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.drawn: list[Any] = []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            self.drawn.append(getattr(self.rng, name)(*arguments, **named))
            return self.drawn[-1]

        return call


class Even(Recorded):
    """The same, with 0 in place of arrays of uniform numbers."""

    def uniform(self, low: float, high: float, size: int | None = None) -> Any:
        return self.rng.uniform(low, high) if size is None else np.zeros(size)


def bernoulli(logit: float) -> tuple[float, float]:
    return 1 / (1 + math.exp(logit)), 1 / (1 + math.exp(-logit))


@pytest.mark.parametrize("seed", range(4))
def test_the_switching_law_is_that_of_its_process(seed: int) -> None:
    rng: Any = Recorded(seed)
    horizon = 5
    found = laws.switch(rng, horizon)
    log_rho, p, sign, gap, error = rng.drawn
    hazard = math.exp(log_rho) / horizon
    pair = math.log(p / (1 - p)), math.log(p / (1 - p)) + sign * gap

    def next_token(which: int) -> Callable[[tuple[int, ...]], tuple[float, float, float]]:
        rate = (hazard, hazard * math.exp(error))[which]
        return lambda prefix: (*bernoulli(pair[which]), 0.0) if 2 in prefix else (1 - rate, 0.0, rate)

    def model(prefix: tuple[int, ...]) -> tuple[float, ...]:
        # Tokens that pi_D never writes are given to nobody; the oracle would divide by 0 there.
        return tuple(max(each, 1e-300) for each in next_token(1)(prefix))

    assert_same_law(found, enumerated(next_token(0), model, horizon, 3))


def test_the_switching_law_with_fewer_places_than_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(laws, "SWITCHES", 2)
    rng: Any = Recorded(7)
    found = laws.switch(rng, 5)
    log_rho, p, sign, gap, error = rng.drawn
    pair = math.log(p / (1 - p)), math.log(p / (1 - p)) + sign * gap
    rates = math.exp(log_rho) / 2, math.exp(log_rho) / 2 * math.exp(error)

    def next_token(which: int, prefix: tuple[int, ...]) -> tuple[float, float, float]:
        if 2 in prefix:
            return (*bernoulli(pair[which]), 0.0 if which == 0 else 1e-300)
        rate = rates[which] if len(prefix) in (0, 2) else 0.0
        return 1 - rate, 1e-300 if which else 0.0, rate or (1e-300 if which else 0.0)

    assert_same_law(
        found, enumerated(functools.partial(next_token, 0), functools.partial(next_token, 1), 5, 3)
    )


@pytest.mark.parametrize("seed", range(4))
def test_the_tree_is_its_enumeration(seed: int) -> None:
    rng: Any = Recorded(seed)
    found = laws.tree(rng, 4)
    off = math.exp(rng.drawn[0]) / 2
    # Two draws a level, prefixes in the order of the program: the newest bit is the slowest.
    levels = [rng.drawn[1 + 2 * h : 3 + 2 * h] for h in range(4)]

    def next_bit(which: int, prefix: tuple[int, ...]) -> tuple[float, float]:
        index = sum(bit << place for place, bit in enumerate(prefix))
        data, error = levels[len(prefix)]
        return bernoulli(data[index] + which * off * error[index])

    assert_same_law(found, enumerated(functools.partial(next_bit, 0), functools.partial(next_bit, 1), 4, 2))


@pytest.mark.parametrize("family", ["rare prompts", "every token"])
def test_binomial_laws_are_those_of_independent_bits(family: str) -> None:
    rng: Any = Recorded(3)
    found = laws.FAMILIES[family](rng, 4)
    parts: list[tuple[float, ...]] = []
    if family == "every token":
        logit = math.log(rng.drawn[0] / (1 - rng.drawn[0]))
        pairs = [(1.0, logit, logit + math.sqrt(8 * math.exp(rng.drawn[1])))]
    else:
        log_share, p, sign, gap, easy, log_kl = rng.drawn
        hard, soft = math.log(p / (1 - p)), math.log(easy / (1 - easy))
        pairs = [(math.exp(log_share), hard, hard + sign * gap)]
        pairs += [(1 - math.exp(log_share), soft, soft + math.sqrt(8 * math.exp(log_kl) / 4))]
    for weight, data, model in pairs:
        sequences = enumerated(lambda _, d=data: bernoulli(d), lambda _, m=model: bernoulli(m), 4, 2)
        parts += [(weight * mass, *rest) for mass, *rest in sequences]
    assert_same_law(found, parts)


@pytest.mark.parametrize("seed", range(5))
def test_the_heavy_tail_attains_what_the_converse_allows(seed: int) -> None:
    rng: Any = Recorded(seed)
    law = laws.heavy_tail(rng, 40)
    smallest, ratio = math.exp(rng.drawn[0]), math.exp(rng.drawn[1])
    assert law.mass.sum() == pytest.approx(1)
    assert coverage_supremum(law.log_ratio, law.mass) == pytest.approx(smallest)
    bound = smallest * (1 + math.log(ratio))
    assert kl_converse_bound(law.log_ratio, law.mass) == pytest.approx(bound)
    assert 0.9 * bound < kl(law.log_ratio, law.mass) < bound
    # Even steps: 1 + K (1 - r^(-1/K)).
    law = laws.heavy_tail(cast(Any, Even(seed)), 40)
    assert kl(law.log_ratio, law.mass) == pytest.approx(smallest * (1 + 40 * (1 - ratio ** (-1 / 40))))


def test_the_bernoulli_pair_covers_at_n_and_not_beyond() -> None:
    law = laws.bernoulli(np.random.default_rng(0), 16)
    covered = coverage_profile(law.log_ratio, (16, 16.001), law.mass, tolerance=1e-9)
    assert covered.tolist() == [law.mass[0], 0.0]


def test_every_family_is_a_law_on_every_size_and_its_draws_differ() -> None:
    for name, draw in laws.FAMILIES.items():
        one, two = (draw(numpy_stream(0, name, i), 8) for i in range(2))
        assert one.mass.sum() == pytest.approx(1, abs=1e-12), name
        assert kl(one.log_ratio, one.mass) >= 0
        assert kl(one.log_ratio, one.mass) != kl(two.log_ratio, two.mass)
        if one.kl_along is not None:
            chained = float(one.mass @ one.kl_along)
            assert chained == pytest.approx(kl(one.log_ratio, one.mass), rel=1e-9), "the chain rule of the KL"


def failed(found: Measurements) -> set[str]:
    return {check.name for check in claim.checks(found) if not check.passed}


def of_theorems(names: set[str]) -> set[str]:
    """Those that no small sample can fail."""
    return {name for name in names if "largest" in name or "counterexample" in name}


def test_what_is_a_theorem_holds_on_a_tiny_sample(measured: Measurements) -> None:
    assert of_theorems(failed(measured)) == set()
    assert {check.name for check in claim.checks(measured) if "exponent" in check.name}


@pytest.mark.parametrize(
    ("inequality", "family", "noticed"),
    [
        ("KL", "softmax", "Cov_N - KL/(ln N - 1 + 1/N), largest"),
        ("Hellinger", "tree", "Cov_N - 2N/(sqrt N - 1)^2 D_H^2, largest"),
        ("converse", "heavy tail", "KL - C (1 + ln(ln W/C)), largest"),
        ("stopped KL", "switch", "Cov_N - 2/(ln N - 1) D_seq,N, largest"),
        ("Hellinger along", "rare prompts", "P[sum_h D_H,h^2 >= ln(sqrt N/delta)] - delta - Cov_N, largest"),
        ("transitivity", "triples", "Cov_N(T||hat) - M Cov_N/M(D||hat) - Cov_M(T||D), largest"),
        ("answers", "chains", "Cov^ans_cN - c/(c - 1) Cov_N, largest"),
    ],
)
def test_a_bound_that_is_too_small_is_noticed(
    inequality: str, family: str, noticed: str, measured: Measurements
) -> None:
    each = measured.sides[inequality, family]
    shrunk = measured.sides | {(inequality, family): Sides(each.left, each.right / 1e8)}
    assert noticed in failed(dataclasses.replace(measured, sides=shrunk))


@pytest.mark.parametrize(
    ("key", "power", "noticed"),
    [
        (("rare prompts", "Cov"), 0.5, "rare prompts: exponent of Cov_N in H, from above"),
        (
            ("switch", "lower bound"),
            -2,
            "switch: lower bound (Hellinger along) over Cov_N at the longest H, least",
        ),
        (("switch", "bound by KL"), -0.5, "switch: exponent of bound by KL in H, from below"),
        (("switch", "bound by stopped KL"), 0.5, "switch: exponent of bound by stopped KL in H, from above"),
        (
            ("rare prompts", "bound by stopped KL"),
            3,
            "rare prompts: bound by stopped KL at the longest H, largest",
        ),
    ],
)
def test_a_wrong_growth_is_noticed(
    key: tuple[str, str], power: float, noticed: str, measured: Measurements
) -> None:
    sizes = np.array(measured.settings.sizes[key[0]], float)
    grown = measured.growth | {key: measured.growth[key] * (sizes / sizes[0]) ** power}
    assert noticed in failed(dataclasses.replace(measured, growth=grown))


def test_a_loose_pair_is_noticed(measured: Measurements) -> None:
    loose = dataclasses.replace(measured, tight={key: 1.01 * each for key, each in measured.tight.items()})
    assert {name.split(":")[0] for name in failed(loose) - failed(measured)} == {"transitivity", "answers"}


def test_the_counterexample_is_the_papers_statement_failing() -> None:
    assert claim.counterexample() == pytest.approx(0.4)


def test_the_report_has_its_figures_and_tables(measured: Measurements) -> None:
    found = claim.report.drawings(measured)
    assert [drawing.name for drawing in found] == ["horizon", "slack", "tight"]
    for _, columns, rows in claim.report.tables(measured):
        assert rows
        assert all(len(row) == len(columns) for row in rows)
    assert all(text.endswith(".") for text in claim.notes(measured))


@pytest.mark.parametrize("scale", ["cpu", "paper"])
def test_scales_span_a_factor_of_16_with_fresh_seeds(
    scale: str, compose_config: Callable[..., DictConfig]
) -> None:
    found = settings(compose_config("coverage_bounds", f"scale={scale}"))
    for name, sizes in found.sizes.items():
        assert len(sizes) >= 5, name
        assert sizes[-1] >= 16 * sizes[0], name
    assert found.draws >= 32
    assert found.seed not in range(900, 960), "settings were chosen on these"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("draws=31", "draws: 31 is not an integer >= 32"),
        ("ns=[2,4]", "ns: [2, 4]; valid: at least 1 different integers >= 3"),
        ("fitted_n=8", "fitted_n: 8; valid: one of ns, [4, 16, 64, 256]"),
        ("factors=[1]", "factors: 1 is not a number strictly between 1 and 1e+06"),
        ("factors=2", "factors: 2; valid: at least 1 different numbers strictly between 1 and 1e+06"),
        ("factors=[2,2]", "factors: [2, 2]; valid"),
        ("depths=[1,21]", "depths: 21; valid: 1 to 20"),
        ("horizons=[8]", "horizons: [8]; valid: at least 2 different integers >= 2"),
        ("seed=x", "seed: 'x' is not an integer from 0 to 2147483647"),
    ],
)
def test_bad_input_is_one_line(override: str, message: str, refuses: Callable[..., None]) -> None:
    refuses(settings, "coverage_bounds", [override], message)


@pytest.mark.slow
def test_the_command_ends_in_a_verdict_and_a_report(run_claim: Callable[..., Any]) -> None:
    tiny = [f"{key}={value}".replace(" ", "") for key, value in TINY.items()]
    verdict, path = run_claim("coverage_bounds", *tiny)
    assert of_theorems({check.name for check in verdict.checks if not check.passed}) == set()
    assert (path / "report.html").read_text().count("<figure") == 3
