"""The claim on SGD and the horizon: runs against plain loops, failures that the checks notice, the scales."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from omegaconf import DictConfig
from oracles.reports import assert_whole
from scipy import stats

from covlab.claims.settings import read
from experiments.sgd_coordinates.measure import Settings as CoordinatesSettings
from experiments.sgd_horizon import checks as claim
from experiments.sgd_horizon.figures import drawings, tables
from experiments.sgd_horizon.measure import Settings
from theory.sgd import horizon_sweep as sweep
from theory.sgd.family import (
    letters_instance,
    letters_start,
    letters_token_law,
    letters_variance,
    likeliest,
    number_instance,
)
from theory.sgd.horizon_runs import Family, advance, begin, letters_stream, rare_events, transformation
from tracking import Progress

FAMILY = Family(horizons=(64, 256, 1024), letters=32.0, plus=0.25, n=16.0, target=0.125, updates=3000)


def plain_run(horizon: int, rule: str, step_size: float, counts: Any, updates: int) -> np.ndarray:
    """theta of SGD or normalised SGD on the letters, written out; counts of tokens -1, 0, 1 by prompt."""
    theta, path = np.array(letters_start(FAMILY.member(horizon), FAMILY.n)), []
    values = np.array([-1.0, 0.0, 1.0])
    for time in range(updates):
        path.append(theta)
        slope = np.zeros(2)
        for coordinate in range(2):
            odds = np.exp(FAMILY.letters * theta[coordinate] * (values - 1))
            mean = values @ odds / odds.sum()
            seen = counts[coordinate][time]
            slope[coordinate] = FAMILY.letters * (values @ seen - seen.sum() * mean)
        if rule == "normalised":
            slope = slope / (FAMILY.log_n / (16 * step_size) + np.linalg.norm(slope))
        theta = theta + step_size * slope
        theta = theta / max(1.0, np.linalg.norm(theta))
    return np.array(path)


@pytest.mark.long
@pytest.mark.parametrize(("rule", "step_size"), [("sgd", 2.0**-16), ("normalised", 0.125)])
def test_runs_are_those_of_a_plain_loop(rule: str, step_size: float) -> None:
    family = dataclasses.replace(FAMILY, horizons=(256,))
    drawn = letters_stream(family, 1, 1, 901, "test", 0, 200)
    with jax.enable_x64(True):
        instance = letters_instance(family.member(256), family.plus, family.n)
        times = jnp.arange(200, dtype=jnp.int32)
        counts = jax.tree.map(lambda each: jnp.asarray(each[:, 0, 0]), drawn)
        lane, trace = advance(
            rule, family.log_n, 0.125, instance, jnp.asarray(step_size), begin(rule, instance.start, ()),
            times, counts,
        )  # fmt: skip
    plain = [np.stack(prompt[::-1], axis=-1)[:, 0, 0] for prompt in drawn]
    path = plain_run(256, rule, step_size, plain, 200)
    np.testing.assert_allclose(np.stack(trace[0], -1), path, atol=1e-9)
    cov = np.asarray(trace[1])
    running = np.cumsum(cov[1:]) / np.arange(1, 200)
    reached = np.flatnonzero(running <= 0.125)
    assert int(lane.mean) == (reached[0] + 1 if len(reached) else 0)
    above = np.flatnonzero(cov[1:] > 0.125)
    assert int(lane.last) == (above[-1] + 1 if len(above) else 0)
    assert int(lane.mean) > 0, "the run must get there, or nothing is tested"


@pytest.mark.long
def test_sgd_is_trapped_on_the_prompt_that_is_its_step_and_a_smaller_step_is_not() -> None:
    member = FAMILY.member(256)
    with jax.enable_x64(True):
        instance = number_instance(member, np.array(member.least_number))
        start = np.array([float(each) for each in instance.start])
        run = jax.jit(functools.partial(advance, "sgd", FAMILY.log_n, 0.125))
        lane = begin("sgd", instance.start, ())
        times = jnp.arange(60, dtype=jnp.int32)
        trapped, trace = run(instance, jnp.asarray(member.least_number), lane, times, None)
        free, _ = run(instance, jnp.asarray(member.least_number / 8), lane, times, None)
        assert likeliest(instance)[0][0] == 256
    x, y = (np.asarray(each) for each in trace[0])
    np.testing.assert_allclose(x, start[0], atol=1e-9)
    np.testing.assert_allclose(y, start[1] * (-1.0) ** np.arange(60), atol=1e-9)
    assert float(trapped.total) == 59
    assert float(free.total) == 0


@pytest.mark.long
@pytest.mark.parametrize(
    ("rule", "wanted"),
    [
        ("sgd", [-0.15, -0.2]),
        ("clipped", [-0.03, -0.04]),
        ("normalised", np.array([-0.15, -0.2]) / (5 + math.log(16) / 0.8)),
        ("sign", [-0.05, -0.05]),
        ("adam", [-0.05, -0.05]),
    ],
)
def test_rules_take_the_step_that_they_are_named_after(rule: str, wanted: Any) -> None:
    rules = transformation(rule, 0.05, math.log(16))
    theta = (jnp.asarray(0.1), jnp.asarray(0.2))
    moved, _ = rules.update((jnp.asarray(3.0), jnp.asarray(4.0)), rules.init(theta), theta)
    np.testing.assert_allclose(moved, wanted, rtol=1e-5)


@pytest.mark.parametrize(("scale", "probability"), [(1, 0.4), (200, 0.004)])
def test_rare_events_are_binomial_and_independent(scale: int, probability: float) -> None:
    rng = np.random.default_rng(3)
    trials = scale * np.array([[0, 3, 5]] * 20000)
    seen = rare_events(trials, probability, rng)
    assert not seen[:, 0].any()
    for column in (1, 2):
        observed = np.bincount(np.minimum(seen[:, column], 3), minlength=4)
        law = stats.binom.pmf(np.arange(3), trials[0, column], probability)
        assert stats.chisquare(observed, np.append(law, 1 - law.sum()) * len(seen)).pvalue > 1e-4
    assert abs(np.corrcoef(seen[:, 1], seen[:, 2])[0, 1]) < 0.03


def test_streams_have_the_instances_law_and_do_not_overlap() -> None:
    first = letters_stream(FAMILY, 4, 16, 901, "tuning", 0, 500)
    total = sum(np.sum([np.asarray(each) for each in prompt], axis=0) for prompt in first)
    assert (total == np.array(FAMILY.horizons)[:, None]).all()
    share = sum(first[0]) / total
    assert share.mean() == pytest.approx(0.25, abs=0.01)
    again = letters_stream(FAMILY, 4, 16, 901, "tuning", 0, 500)
    other = letters_stream(FAMILY, 4, 16, 901, "verdict", 0, 500)
    later = letters_stream(FAMILY, 4, 16, 901, "tuning", 1, 500)
    assert (first[0][0] == again[0][0]).all()
    assert (first[0][0] != other[0][0]).any()
    assert (first[0][0] != later[0][0]).any()


def test_derived_number_of_visits_against_the_recursion() -> None:
    """Visits to `+` alone, with the exact gradient, until the likeliest response is covered."""
    horizon, step = 4096, 1 / (4096 * FAMILY.bound)
    theta, count = letters_start(FAMILY.member(horizon), FAMILY.n)[0], 0
    law = letters_token_law(FAMILY.member(horizon))
    while True:
        odds = np.exp(FAMILY.letters * theta * np.array([-2.0, -1.0, 0.0]))
        if horizon * (math.log(law[2]) + math.log(odds.sum())) < FAMILY.log_n:
            break
        theta += step * horizon * FAMILY.letters * (odds @ [2.0, 1.0, 0.0]) / odds.sum()
        count += 1
    assert sweep.visits(FAMILY, step) == pytest.approx(count, rel=0.02)


def test_derived_updates_of_the_proofs_constants_do_not_depend_on_h() -> None:
    family = dataclasses.replace(FAMILY, letters=8.0)
    eta, damping = 1 / (128 * 64), 8 * 64 * family.log_n
    for horizon in (1e4, 1e6):
        log_w, count = math.log(horizon / (4 * math.e * family.log_n)), 0
        while log_w < math.log(horizon / family.log_n):
            slope = family.plus * family.letters * horizon * math.exp(-log_w)
            log_w += family.letters * eta * slope / (damping + slope)
            count += 1
        assert sweep.proof_updates(family) == pytest.approx(count, rel=0.01)


def test_ties_go_to_the_smaller_step_and_outliers_count_in_means_only() -> None:
    worst = np.array([[[5.0, 5.0, 5.0], [3.0, 3.0, np.inf], [4.0, 4.0, 4.0], [4.0, 4.0, 4.0]]])
    assert sweep.choose(worst, "mean").tolist() == [2]
    assert sweep.choose(worst, "good").tolist() == [1]


def test_chunks_are_all_updates_in_order() -> None:
    chunks = sweep._chunks(2 * sweep.CHUNK + 5)
    assert [len(chunk) for chunk in chunks] == [sweep.CHUNK, sweep.CHUNK, 5]
    np.testing.assert_array_equal(np.concatenate(chunks), np.arange(2 * sweep.CHUNK + 5))


def test_the_sweep_chooses_on_some_draws_and_reports_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers made by hand in place of runs, for two lengths, three step sizes and three draws."""
    family, grid = dataclasses.replace(FAMILY, horizons=(64, 256)), np.array([0.25, 0.5, 1.0])
    # By the mean the middle step is best, by the median the smallest; the largest is refused on numbers.
    tuning = np.broadcast_to(np.array([[1.0, 1.0, 90.0], [9.0, 9.0, 9.0], [2.0, 2.0, 2.0]]), (2, 3, 3))
    fixed = np.broadcast_to(np.array([[1.0, 1.0], [1.0, 7.0], [1.0, 80.0]]), (2, 3, 2))
    final = np.arange(2 * 2 * 3, dtype=float).reshape(2, 2, 3)
    asked: list[Any] = []

    def on_letters(family: Family, steps: Any, draws: int, seed: int, role: str, progress: Any) -> Any:
        asked.append((draws, seed, role, steps[sweep.methods(family, 32)[0]].tolist()))
        values = tuning if role == "tuning" else final
        return dict.fromkeys(steps, sweep.Needed(values, values, values))

    def trace(family: Family, method: Any, steps: np.ndarray, seed: int, role: str) -> Any:
        return method.name, steps.tolist(), seed

    monkeypatch.setattr(
        sweep, "_on_numbers", lambda family, rules, *rest: dict.fromkeys(rules, sweep.Needed(*[fixed] * 3))
    )
    monkeypatch.setattr(sweep, "_on_letters", on_letters)
    monkeypatch.setattr(sweep, "_trace_letters", trace)
    monkeypatch.setattr(sweep, "_guarantees", lambda family, seed: ("trap", seed))
    results = sweep.sweep(family, 32, grid, (4, 900), (3, 901), Progress())
    assert asked == [
        (4, 900, "tuning", [grid.tolist()] * 2),
        (3, 901, "verdict", [[0.5, 0.25]] * 2),
    ]
    assert (results.seed, results.trap, results.bound) == (901, "trap", 901)
    assert results.shown["Adam"] == ("Adam", [0.5, 0.5], 901)
    chosen = results.chosen["SGD"]
    assert {name: steps.tolist() for name, steps in chosen.steps.items()} == {"mean": [1, 1], "good": [0, 0]}
    # (draws, lengths): the first column of the two step sizes is that of "mean".
    assert chosen.letters["mean"].tolist() == [[0, 6], [1, 7], [2, 8]]
    assert chosen.letters["good"].tolist() == [[3, 9], [4, 10], [5, 11]]
    assert chosen.worst["mean"].tolist() == [[7, 7], [7, 7], [7, 8]]
    assert chosen.worst["good"].tolist() == [[3, 9], [4, 10], [5, 11]]


def test_the_bound_of_sgd_is_that_of_its_step_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs with a KL of t at update t on numbers and of 2t on letters: means (T + 1)/2 and T + 1."""
    family = dataclasses.replace(FAMILY, horizons=(64, 256), updates=6)
    steps = []

    def run(instance: Any, sizes: Any, lane: Any, times: Any, counts: None) -> Any:
        steps.append(np.asarray(sizes))
        path = np.broadcast_to(np.asarray(times, float), (2, 2, 1, 6))
        return lane, sweep.Trace((path, path), path, path)

    def letters(family: Family, method: Any, sizes: np.ndarray, seed: int, role: str) -> sweep.Trace:
        path = np.broadcast_to(2.0 * np.arange(6), (2, 4, 6))
        return sweep.Trace((path, path), path, path)

    monkeypatch.setattr(sweep, "begin", lambda *arguments: None)
    monkeypatch.setattr(sweep, "program", lambda *arguments, **named: run)
    monkeypatch.setattr(sweep, "_trace_letters", letters)
    trap, bound = sweep._guarantees(family, 901)
    small = [1 / (2 * horizon * family.bound**2) for horizon in family.horizons]
    least = [8 / (horizon * family.bound) for horizon in family.horizons]
    np.testing.assert_allclose(steps, [np.stack([small, least], -1)], rtol=1e-6)
    assert trap.kl.tolist() == [[list(range(6))]] * 2
    assert bound.numbers.tolist() == [[1.0, 1.5, 2.0, 2.5, 3.0]] * 2
    assert bound.letters.tolist() == [[2.0, 3.0, 4.0, 5.0, 6.0]] * 2
    for row, eta, horizon in zip(bound.bound, small, family.horizons, strict=True):
        variance = letters_variance(family.member(horizon))
        assert row == pytest.approx([4 / (eta * t) + 2 * eta * variance for t in range(1, 6)])


def made_up() -> sweep.Measurements:
    """What theory says, without a run: SGD linear in H, all else constant."""
    rng = np.random.default_rng(0)
    horizons = np.array(FAMILY.horizons, float)
    grid = 2.0 ** np.arange(-22, 3)
    tuning = np.full((3, len(grid), 4), 300.0)
    average = np.zeros((3, len(grid), 5))
    for index, horizon in enumerate(FAMILY.horizons):
        average[index, grid >= FAMILY.member(horizon).least_number, 0] = 1
    chosen = {}
    for method in sweep.methods(FAMILY, 32):
        needed = horizons * 2 if method.rule == "sgd" else np.full(3, 7.0)
        values = needed * rng.uniform(0.9, 1.1, (40, 3))
        both = {"mean": values, "good": values}
        steps = {"mean": np.full(3, 10), "good": np.full(3, 10)}
        needs = sweep.Needed(tuning, tuning, tuning)
        chosen[method.name] = sweep.Chosen(method, needs, steps, both, both)
    number = sweep.Needed(np.full((3, len(grid), 5), 2.0), np.full((3, len(grid), 5), 2.0), average)
    times = np.arange(1, FAMILY.updates)
    bound = np.broadcast_to(8 * horizons[:, None] * FAMILY.bound**2 / times, (3, len(times)))
    path = np.full((3, 4, FAMILY.updates), 0.2)
    trace = sweep.Trace((path, path), path, path)
    return sweep.Measurements(
        FAMILY,
        0,
        grid,
        dict.fromkeys(("sgd", "clipped", "normalised", "sign", "adam"), number),
        chosen,
        dict.fromkeys(sweep.SHOWN, trace),
        trace,
        sweep.Bound(bound / 30, bound / 30, bound),
    )


def failed(results: sweep.Measurements) -> set[str]:
    return {check.name for check in claim.checks(results) if not check.passed}


def test_the_checks_pass_on_what_theory_says() -> None:
    assert failed(made_up()) == set()


def changed(name: str, **fields: Any) -> sweep.Measurements:
    results = made_up()
    return dataclasses.replace(
        results, chosen={**results.chosen, name: results.chosen[name]._replace(**fields)}
    )


def test_a_trap_that_opens_a_loose_bound_and_the_end_of_the_grid_are_noticed() -> None:
    results = made_up()
    opened = {rule: each._replace(average=each.average * 0.9) for rule, each in results.numbers.items()}
    assert failed(dataclasses.replace(results, numbers=opened)) == {
        "SGD, steps >= 8/(HB): mean Cov on the number-prompt that is the step, least"
    }
    loose = results.bound._replace(numbers=results.bound.bound * 1.01)
    assert failed(dataclasses.replace(results, bound=loose)) == {
        "SGD, eta = 1/(2HB^2): mean KL over its bound, largest"
    }
    at_end = {"mean": np.array([10, 10, 24]), "good": np.full(3, 10)}
    assert failed(changed("normalised SGD", steps=at_end)) == {"chosen step sizes at an end of the grid"}
    assert failed(changed("Adam", steps=at_end)) == set()
    early = results.chosen["SGD"].tuning._replace(mean=results.chosen["SGD"].tuning.mean * 1e-4)
    assert failed(changed("SGD", tuning=early)) == {
        "SGD, steps <= 8/(HB): updates on the letters over the lemma's, least"
    }


def test_report_has_its_figures_and_tables() -> None:
    results = made_up()
    notes = claim.notes(results)
    names = ["horizon", "step_size", "iterates", "bound"]
    assert_whole(drawings(results), names, tables(results), notes)
    assert all(len(rows) == 8 * 3 for _, _, rows in tables(results))


@pytest.mark.parametrize("scale", ["cpu", "paper"])
def test_scales_span_a_factor_of_16_with_fresh_seeds(
    scale: str, compose_config: Callable[..., DictConfig]
) -> None:
    settings = read(Settings, compose_config("sgd_horizon", f"scale={scale}"))
    other = read(CoordinatesSettings, compose_config("sgd_coordinates", f"scale={scale}"))
    assert vars(other) == vars(settings) | {"seed": other.seed, "smaller_batches": (1, 2)}
    # 561 gave the result on single sequences, after which the claim was changed.
    assert other.seed not in (settings.seed, 561, 900, 901)
    assert len(settings.family.horizons) >= 5
    assert settings.family.horizons[-1] >= 16 * settings.family.horizons[0]
    assert settings.draws >= 32
    assert settings.seed not in (900, 901), "settings were chosen on these"
    assert 8 / (settings.family.horizons[-1] * settings.family.bound) > settings.step_sizes[0]


@pytest.mark.slow
def test_the_updates_of_sgd_are_linear_in_the_horizon(run_claim: Callable[..., Any]) -> None:
    tiny = ["horizons=[64,128,256]", "updates=1000", "draws=32", "tuning_draws=4", "log2_steps=[-22,2]"]
    verdict, path = run_claim("sgd_horizon", *tiny)
    checks = {check.name: check for check in verdict.checks}
    assert (path / "report.html").read_text().count("<figure") == 4
    for name in ("from below", "from above"):
        assert checks[f"SGD: exponent of H in the updates, mean over iterates, {name}"].passed
