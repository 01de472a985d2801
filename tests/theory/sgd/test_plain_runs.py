"""Runs on opposed prompts against loops over scalars that take the same random numbers."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from theory.sgd import opposed_prompts as opposed
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
