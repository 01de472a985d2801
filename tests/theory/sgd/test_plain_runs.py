"""Runs on opposed and on rare prompts against loops over scalars that take the same random numbers."""

import itertools
import math
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest
from scipy import stats

from theory.sgd import opposed_prompts as opposed
from theory.sgd import rare_prompts as rare
from tracking import Progress

FAMILY = opposed.Family(24, n=2.0, inner=6.0, plus=0.4, target=0.2)
RATES = np.array([0.0005, 0.002, 0.01, 0.08])
DRAWS, MOST = 3, 40


def softmax(logits: list[float]) -> list[float]:
    total = sum(math.exp(each) for each in logits)
    return [math.exp(each) / total for each in logits]


TRUTH = softmax([-3.0, 0.0, 3.0])
"""Tokens -1, 0, 1 of a slope under pi*."""


def plain_ball(theta: list[float]) -> list[float]:
    norm = math.hypot(*theta)
    return [each / norm for each in theta] if norm > 1 else theta


def plain_cov(u: float) -> float:
    """Cov_N of one slope by a sum over the number of zeros; a response has no token -1."""
    _, zero, one = softmax([-u, 0.0, u])
    law = stats.binom.pmf(range(25), 24, TRUTH[1])
    ratios = [(24 - z) * math.log(TRUTH[2] / one) + z * math.log(TRUTH[1] / zero) for z in range(25)]
    return sum(p for p, ratio in zip(law, ratios, strict=True) if ratio >= math.log(2))


def plain_slopes(method: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Sequences that are needed with parameters at the start and with running ones, (rates, draws)."""
    rng = np.random.default_rng(seed)
    coming = rng.random((MOST, DRAWS)) < FAMILY.plus
    theta = {(r, d): [*FAMILY.start] for r in range(4) for d in range(DRAWS)}
    over = dict.fromkeys(theta, -1)
    shown: dict[Any, set[int]] = {lane: set() for lane in theta}
    missed = dict(over)
    for step in range(MOST):
        for lane, (first, second) in theta.items():
            if 0.4 * plain_cov(6 * first) + 0.6 * plain_cov(6 * second) > 0.2:
                over[lane] = step
        done = all(last < step for last in over.values())
        if done and (method != "token" or all(len(seen) == 2 for seen in shown.values())):
            break
        if method == "token":
            zeros = rng.random((24, DRAWS)) < TRUTH[1]
        else:
            laws = {
                lane: softmax([-6 * t[k], 0.0, 6 * t[k]])
                for lane, t in theta.items()
                for k in [0 if coming[step, lane[1]] else 1]
            }
            kept = np.full((4, DRAWS), 24.0)
            if method == "truncated":
                for lane, law in laws.items():
                    eps = sum(p * math.log(p / q) for p, q in list(zip(TRUTH, law, strict=True))[1:])
                    kept[lane] = min(24.0, math.log(2) / eps) if eps > 0 else 24.0
            whole = np.floor(kept).astype(int)
            nils = rng.binomial(whole, TRUTH[1]) + (kept - whole) * (rng.random((4, DRAWS)) < TRUTH[1])
        for lane, values in theta.items():
            k = 0 if coming[step, lane[1]] else 1
            at = values[k]
            if method == "token":
                ratio = 0.0
                for zero in zeros[:, lane[1]]:
                    law = softmax([-6 * at, 0.0, 6 * at])
                    token = 0 if zero else 1
                    ratio += math.log(TRUTH[1 + token] / law[1 + token])
                    at += RATES[lane[0]] * 6 * (token - (law[2] - law[0]))
                if ratio >= math.log(2):
                    missed[lane] = step
                else:
                    shown[lane].add(k)
            else:
                law = laws[lane]
                at += RATES[lane[0]] * 6 * (kept[lane] - nils[lane] - kept[lane] * (law[2] - law[0]))
            theta[lane] = plain_ball([at, values[1]] if k == 0 else [values[0], at])
    fixed, running = np.full((4, DRAWS), np.inf), np.full((4, DRAWS), np.inf)
    for lane in theta:
        if over[lane] < step:
            fixed[lane] = over[lane] + 1
        if len(shown[lane]) == 2:
            running[lane] = missed[lane] + 1
    return fixed, running


@pytest.mark.parametrize(("method", "seed"), [*itertools.product(("sequence", "truncated", "token"), (0, 1))])
def test_slopes_are_those_of_a_plain_loop(method: Any, seed: int) -> None:
    found = opposed.slope_steps(FAMILY, method, RATES, DRAWS, np.random.default_rng(seed), MOST)
    fixed, running = plain_slopes(method, seed)
    np.testing.assert_array_equal(found.fixed, fixed)
    assert len(np.unique(fixed)) > 3
    if method == "token":
        np.testing.assert_array_equal(found.running, running)
        assert (running < fixed).any()
    else:
        assert found.running is None


def plain_spikes(method: str, rate: float, spikes: list[float], most: int) -> float:
    worst = 0.0
    for e in spikes:
        a = e / (2 * (e - 1))
        points = [(a, -math.sqrt(1 - a * a)), (1.0, 0.0), (a, math.sqrt(1 - a * a))]
        theta, last = list(points[2]), -1

        def law(theta: list[float], points: Any = points) -> tuple[float, list[float]]:
            scores = [36 * (x * theta[0] + y * theta[1]) for x, y in points]
            probs = softmax([score - scores[1] for score in scores])
            mean = [sum(p * point[i] for p, point in zip(probs, points, strict=True)) for i in range(2)]
            return -math.log(probs[1]), [points[1][i] - mean[i] for i in range(2)]

        for step in range(most):
            eps, slope = law(theta)
            if 24 * eps >= math.log(2):
                last = step
            tokens = 24 if method == "token" else 1
            kept = min(24.0, math.log(2) / eps) if method == "truncated" and eps > 0 else 24.0
            for _ in range(tokens):
                _, slope = law(theta)
                size = rate * 36 * (1 if method == "token" else kept)
                theta = plain_ball([t + size * s for t, s in zip(theta, slope, strict=True)])
        worst = max(worst, math.inf if last == most - 1 else last + 1)
    return worst


@pytest.mark.parametrize("method", ["sequence", "truncated", "token"])
def test_spikes_are_those_of_a_plain_loop(method: Any) -> None:
    rates = np.array([0.0002, 0.0006, 0.004, 8 / (24 * 36), 0.02, 0.03, 0.3])
    for spikes, numbers in ((1, [8.0]), (2, [8.0, 512.0]), (4, [8.0, 32.0, 128.0, 512.0])):
        found = opposed.spike_steps(FAMILY, method, rates, spikes, 12)
        plain = [plain_spikes(method, rate, [*numbers, max(rate * 24 * 36, 8.0)], 12) for rate in rates]
        assert found.tolist() == plain
    assert len(set(plain)) > 2


def test_a_step_size_is_given_up_at_twice_the_best_and_64() -> None:
    """Visits to + alone: the second step size needs a known number, the first few."""
    family = opposed.Family(256, inner=25.0, plus=1.0, target=0.5)

    def needed(elsewhere: list[float] | None, slow: float = 0.8) -> list[float]:
        rates = np.array([8 / (256 * 625), slow / (256 * 625)])
        rng, other = np.random.default_rng(0), None if elsewhere is None else np.array(elsewhere)
        return opposed.slope_steps(family, "sequence", rates, 2, rng, 400, other).fixed[:, 0].tolist()

    few, many = needed(None)
    assert few == 9
    assert 64 + 2 * few < many < 400
    assert needed([1.0, 1.0]) == [few, math.inf]
    # Given up at step 2 c + 64, if it is not done by then.
    last = math.ceil((many - 64) / 2)
    assert needed([float(last), 1.0]) == [few, many]
    assert needed([float(last - 1), 1.0]) == [few, math.inf]
    # The best's own sequences count as well as those elsewhere: 2 * 9 + 64 = 82.
    assert needed(None, 0.97)[1] == 84
    assert needed([1.0, 1.0], 0.97) == [few, math.inf]
    # What the slower one needs elsewhere is no bound.
    assert needed([1.0, 1000.0]) == [few, math.inf]


def test_a_coverage_of_exactly_the_target_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cov_N is 1 on + and 0 on -: together mu(+)."""
    monkeypatch.setattr(opposed, "slope_coverage", lambda family, u: np.broadcast_to([1.0, 0.0], u.shape))
    for target, needed in ((0.4, 0), (0.39, math.inf)):
        family = FAMILY._replace(target=target)
        found = opposed.slope_steps(family, "sequence", RATES[:1], 2, np.random.default_rng(0), 3)
        assert found.fixed.tolist() == [[needed] * 2]


def test_defaults_of_the_family_and_of_an_arm() -> None:
    """Another default would change what a claim has recorded."""
    assert opposed.Family(8) == (8, 16, 25, 1 / 4, 1 / 16)
    assert opposed.Arm("token", (0.5,), 3) == ("token", (0.5,), 3, 24, 256, False)


def test_laws_of_a_slope_at_any_logit() -> None:
    u = np.array([-60.0, -2.0, -0.1, 0.0, 0.3, 5.0, 60.0])
    one, zero, mean = opposed.slope_law(u)
    logits = np.stack([-u, 0 * u, u])
    law = logits - np.logaddexp.reduce(logits, axis=0)
    np.testing.assert_allclose([one, zero], law[[2, 1]], rtol=1e-13, atol=1e-16)
    np.testing.assert_allclose(mean, np.exp(law[2]) - np.exp(law[0]), rtol=1e-12, atol=1e-16)
    family = opposed.Family(24, n=2.0, inner=6.0)
    found = opposed.slope_coverage(family, np.array([-9.0, -1.0, 0.0, 1.0, 2.0, 3.0, 3.5, 6.0, 30.0]))
    plain = [plain_cov(each) for each in (-9.0, -1.0, 0.0, 1.0, 2.0, 3.0, 3.5, 6.0, 30.0)]
    np.testing.assert_allclose(found, plain, atol=1e-12)


def test_the_family_chooses_on_one_seed_and_counts_on_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers made by hand in place of runs: spikes and slopes of three step sizes."""
    asked: list[Any] = []

    def spikes(family: Any, method: str, rates: np.ndarray, count: int, most: int) -> np.ndarray:
        asked.append(("spikes", family.horizon, method, rates.tolist(), count, most))
        return np.array([5.0, 6.0, 90.0])

    def slopes(
        family: Any, method: str, rates: Any, draws: int, rng: Any, most: int, elsewhere: Any = None
    ) -> opposed.Slopes:
        where = None if elsewhere is None else elsewhere.tolist()
        asked.append(("slopes", family.horizon, method, rates.tolist(), draws, rng, most, where))
        if elsewhere is None:
            return opposed.Slopes(np.array([[4.0, 7.0]]), np.array([[2.0, 9.0]]))
        # By the means over draws the second is best for fixed parameters, the first for running ones.
        return opposed.Slopes(
            np.array([[1.0, 30.0], [8.0, 8.0], [1.0, 1.0]]), np.array([[4.0, 5.0], [3.0, 3.0], [1.0, 1.0]])
        )

    monkeypatch.setattr(opposed, "spike_steps", spikes)
    monkeypatch.setattr(opposed, "slope_steps", slopes)
    monkeypatch.setattr(opposed, "generator", lambda *path: path)
    grid = (0.25, 0.5, 1.0)
    arms = {
        "SGD": opposed.Arm("sequence", grid, 50, spikes=3, spike_most=7),
        "token": opposed.Arm("token", grid, 20),
        "running": opposed.Arm("token", grid, 20, running=True),
    }
    settings = opposed.FamilySettings((64, 128), FAMILY, 11, 5, 900, 1)
    found = opposed.measure_family("claim", arms, settings, Progress(show=False))
    rates, where = [*grid], [5.0, 6.0, 90.0]
    wanted: list[Any] = []
    for h in (64, 128):
        for name, method, count, most, spike_most in (
            ("SGD", "sequence", 3, 50, 7),
            ("token", "token", 24, 20, 256),
            ("running", "token", 24, 20, 256),
        ):
            if name != "running":
                wanted.append(("spikes", h, method, rates, count, spike_most))
                stream = (900, "claim", "family", method, h)
                wanted.append(("slopes", h, method, rates, 5, stream, most, where))
            best = 0.25 if name == "running" else 0.5
            wanted.append(("slopes", h, method, [best], 11, (1, "claim", "family", name, h), 4 * most, None))
    assert asked == wanted
    assert found.steps == {"SGD": (0.5, 0.5), "token": (0.5, 0.5), "running": (0.25, 0.25)}
    assert {name: rows.tolist() for name, rows in found.needed.items()} == {
        "SGD": [[6, 6], [7, 7]],
        "token": [[6, 6], [7, 7]],
        "running": [[5, 5], [9, 9]],
    }


TRUTHS, N = (0.8, -0.5), 3.0
RUNG = rare.Rung(5, np.array([0.3, 0.1]), np.array(TRUTHS), 1.5, 0.7)
VISITS = rare.Visits(np.array([[2.0, 6.0], [5.0, 2.0], [1.0, 0.0], [2.0, 2.0]]))
GAINS = np.array([0.05, 0.6])


def plus(u: float) -> float:
    return 1 / (1 + math.exp(-2 * u))


def plain_kl(truth: float, u: float) -> float:
    p, q = plus(truth), plus(u)
    return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))


def plain_fixed(truth: float, u: float, size: int = 5, n: float = N) -> np.ndarray:
    """KL, Cov_N and D_N of fixed parameters, by a sum over the number of +1."""
    p, q = plus(truth), plus(u)
    covered = sum(
        math.comb(size, k) * p**k * (1 - p) ** (size - k)
        for k in range(size + 1)
        if k * math.log(p / q) + (size - k) * math.log((1 - p) / (1 - q)) >= math.log(n) - 1e-12
    )
    kl = size * plain_kl(truth, u)
    return np.array([kl, covered, min(math.log(n), kl)])


def clip(u: float) -> float:
    return min(max(u, -1.05), 1.05)


def plain_means(values: Any) -> np.ndarray:
    """mu(k) times the mean over the iterates of (visits, values, rates, draws)."""
    share = VISITS.durations / VISITS.durations.sum(axis=0)
    return RUNG.mass * np.einsum("vd,vird->ird", share, np.array(values))


def test_token_steps_are_those_of_a_plain_loop() -> None:
    running, fixed, last = rare.token_means(RUNG, GAINS, VISITS, 4, N, np.random.default_rng(5))
    rng = np.random.default_rng(5)
    now = np.zeros((2, 2))
    all_running, all_fixed = [], []
    for _ in range(4):
        at_start, along = np.zeros((3, 2, 2)), np.zeros((3, 2, 2))
        signs = np.where(rng.random((5, 1, 4, 2)) < [plus(each) for each in TRUTHS], 1, -1)
        for r, d in itertools.product(range(2), range(2)):
            truth, start = TRUTHS[d], now[r, d]
            at_start[:, r, d] = plain_fixed(truth, start)
            for response in reversed(range(4)):
                u, kl, ratio = start, 0.0, 0.0
                for sign in signs[:, 0, response, d]:
                    kl += plain_kl(truth, u)
                    ratio += math.log(plus(sign * truth) / plus(sign * u))
                    u = clip(u + GAINS[r] * (sign - math.tanh(u)))
                along[:, r, d] += np.array([kl, ratio >= math.log(N), min(kl, math.log(N))]) / 4
            now[r, d] = u
        all_running.append(along)
        all_fixed.append(at_start)
    np.testing.assert_allclose(running, plain_means(all_running), rtol=1e-10)
    np.testing.assert_allclose(fixed, plain_means(all_fixed), rtol=1e-10)
    np.testing.assert_allclose(last, now, rtol=1e-10)
    assert np.abs(last).max() == pytest.approx(1.05), "the box must do something"


@pytest.mark.parametrize(
    ("gradient", "every"), [("sampled", 1), ("truncated", 2), ("soft", 1), ("sampled", 3)]
)
def test_sequence_steps_are_those_of_a_plain_loop(gradient: Any, every: int) -> None:
    found = rare.sequence_means(RUNG, GAINS, VISITS, N, np.random.default_rng(6), gradient, every)
    rng = np.random.default_rng(6)
    now = np.zeros((2, 2))
    values: list[np.ndarray] = []
    probs = np.broadcast_to([plus(each) for each in TRUTHS], (2, 2))
    for visit in range(4):
        if visit % every == 0:
            held = np.zeros((3, 2, 2))
            for r, d in itertools.product(range(2), range(2)):
                held[:, r, d] = plain_fixed(TRUTHS[d], now[r, d])
        values.append(held)
        kept = np.full((2, 2), 5.0)
        if gradient == "truncated":
            for r, d in itertools.product(range(2), range(2)):
                eps = plain_kl(TRUTHS[d], now[r, d])
                kept[r, d] = min(5.0, math.log(N) / eps) if eps > 0 else 5.0
        whole = np.floor(kept).astype(np.int64)
        if gradient == "soft":
            total = kept * np.tanh(TRUTHS)
        else:
            ones, part = rng.binomial(whole, probs), rng.random((2, 2)) < probs
            total = ones - (whole - ones) + (kept - whole) * np.where(part, 1, -1)
        for r, d in itertools.product(range(2), range(2)):
            now[r, d] = clip(now[r, d] + GAINS[r] * (total[r, d] - kept[r, d] * math.tanh(now[r, d])))
    np.testing.assert_allclose(found, plain_means(values), rtol=1e-10)


def test_fixed_values_on_a_grid() -> None:
    for truth, u, n, size in itertools.product(
        (-0.9, 0.2), (-3.0, -0.9, 0.1, 0.2, 2.0), (1.0, 2.0, 50.0), (1, 7)
    ):
        own = rare.Rung(4, np.ones(1), np.array([truth]))
        found = np.array(rare.fixed_values(own, np.array([[u]]), n, size))[:, 0, 0]
        np.testing.assert_allclose(found, plain_fixed(truth, u, size, n), atol=1e-12)
    assert rare.fixed_values(own, np.array([[0.3]]), 2.0).kl == pytest.approx(4 * plain_kl(0.2, 0.3))


@pytest.mark.parametrize("slope", [1, -1])
def test_a_count_within_1e_9_of_the_edge_counts(slope: int) -> None:
    """N at which the log ratio of two +1 (or -1) among three tokens is short by some 1e-9 of a token."""
    truth, u = 0.9 * slope, 0.2 * slope
    many, few = (math.log(plus(s * truth) / plus(s * u)) for s in (slope, -slope))
    p = plus(0.9)
    two, three = 3 * p**2 * (1 - p) + p**3, p**3
    for off, wanted in ((0.8e-9, two), (1.2e-9, three), (-1.2e-9, two)):
        n = math.exp((2 + off) * many + (1 - off) * few)
        own = rare.Rung(3, np.ones(1), np.array([truth]))
        assert rare.fixed_values(own, np.array([u]), n).coverage[0] == pytest.approx(wanted, abs=1e-12)


def test_visits_are_counted_from_the_drawn_places() -> None:
    rng: Any = mock.Mock()
    rng.binomial.return_value = np.array([2, 0, 1])
    rng.choice.side_effect = lambda steps, size, replace: np.array([7, 3, 9][:size]) * (not replace)
    mass = np.array([0.1, 0.2, 0.3])
    visits = rare.draw_visits(mass, 10, rng)
    rng.binomial.assert_called_once_with(10, mass)
    assert visits.durations.T.tolist() == [[4, 4, 2], [10, 0, 0], [8, 2, 0]]
    assert visits.most == 2
    values = np.arange(18.0).reshape(3, 2, 3)
    plain = np.einsum("vd,vrd->rd", visits.durations / 10, values)
    np.testing.assert_allclose(visits.mean(values), plain)
    np.testing.assert_allclose(visits.mean(values[:, 0]), plain[0])


def test_prompts_and_tokens_from_given_numbers() -> None:
    rng: Any = mock.Mock()
    rng.uniform.side_effect = lambda low, high, draws: np.linspace(low, high, draws)
    rng.choice.side_effect = lambda signs, draws: np.array([signs[0], signs[1], signs[1]])
    own = rare.rare_prompt(12, 0.25, 3, rng, 2.0, 0.5)
    np.testing.assert_allclose(own.truth, [-0.5, 0.75, 1.0])
    np.testing.assert_allclose(own.mass, 0.25 / (12 * 4 * (1 - np.tanh(own.truth) ** 2)))
    assert (own.length, own.bound, own.radius) == (12, 2.0, 0.5)
    plain = rare.rare_prompt(12, 0.25, 3, rng)
    np.testing.assert_allclose(plain.truth, [-0.5, 0.75, 1.0])
    assert (plain.bound, plain.radius, rare.Rung(1, plain.mass, plain.truth)[3:]) == (1, 1, (1, 1))
    numbers = SimpleNamespace(random=lambda shape: np.full(shape, 0.5))
    coin = rare.Rung(2, np.ones(3), np.array([0.0, 1e-9, -1e-9]))
    assert rare.draw_signs(coin, (2, 1), numbers).tolist() == [[[-1, 1, -1]]] * 2  # type: ignore[arg-type]
