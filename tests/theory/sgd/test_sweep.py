"""Plumbing of the sweep over step sizes with programs that only report, one real program, and ties."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate

from theory.sgd import family as sgd
from theory.sgd import horizon_runs as runs
from theory.sgd import horizon_sweep as sweep
from theory.sgd.horizon_runs import Family, Lane, Method
from tracking import Progress

FAMILY = Family(horizons=(64, 256), letters=32.0, plus=0.25, n=16.0, target=0.125, updates=8)


class Reports:
    """Runs in place of compiled ones: `mean` counts updates, `last` is the last, `total` the sum of steps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun: list[Any] = []
        self.made: list[Any] = []
        self.calls: list[Any] = []
        monkeypatch.setattr(sweep, "CHUNK", 3)
        monkeypatch.setattr(sweep, "begin", self.begin)
        monkeypatch.setattr(sweep, "program", self.program)

    def begin(self, rule: str, start: Any, lanes: tuple[int, ...]) -> Lane:
        self.begun.append((rule, [np.shape(each) for each in start], lanes))
        zeros = np.zeros(lanes)
        return Lane((zeros, zeros), rule, zeros, zeros, zeros)  # type: ignore[arg-type]

    def program(self, rule: str, log_n: float, target: float, letters: bool, traced: bool = False) -> Any:
        self.made.append((rule, log_n, target, letters, traced))

        def run(instance: Any, steps: Any, lane: Any, times: Any, counts: Any) -> Any:
            self.calls.append((rule, np.asarray(steps).tolist(), np.asarray(times).tolist(), counts))
            lane = lane._replace(
                mean=lane.mean + len(times),
                last=lane.last * 0 + int(times[-1]),
                total=lane.total + np.asarray(steps)[..., None] * len(times),
            )
            shape = (*lane.total.shape, len(times))
            path = np.broadcast_to(np.asarray(times, float), shape) + 100 * np.arange(shape[2])[:, None]
            return (lane, sweep.Trace((path, -path), path + 0.5, 2 * path)) if traced else lane

        return run


def test_runs_on_numbers_have_the_prompts_of_their_step_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    reports = Reports(monkeypatch)
    asked: list[Any] = []

    def instance(member: sgd.SGDFamily, numbers: np.ndarray) -> sgd.Instance:
        asked.append((member.length, numbers))
        return sgd.Instance((), (numbers, numbers))

    monkeypatch.setattr(sweep, "number_instance", instance)
    for grid in (np.array([1e-5, 1e-3]), np.array([1e-6, 1e-5])):
        asked.clear()
        needed = sweep._on_numbers(FAMILY, ["sgd", "adam", "sgd"], grid, Progress(show=False))
        assert list(needed) == ["sgd", "adam"]
        for (length, numbers), horizon in zip(asked, FAMILY.horizons, strict=True):
            least = 8 / (horizon * 1024)
            shared = [least, 2 * least, 8 * least, max(grid[1], least)]
            assert length == horizon
            np.testing.assert_allclose(numbers, [[max(step, least), *shared] for step in grid])
        assert needed["adam"].mean.tolist() == np.full((2, 2, 5), 8.0).tolist()
        # The last update that counts is 7: over the target at its end.
        assert np.isinf(needed["adam"].good).all()
        np.testing.assert_allclose(
            needed["sgd"].average, np.broadcast_to(grid[:, None] * 8 / 7, (2, 2, 5)), rtol=1e-6
        )
    assert reports.begun[0] == ("sgd", [(2, 2, 5)] * 2, (2, 2, 5))
    assert reports.made[1] == ("adam", math.log(16), 0.125, False, False)
    assert [call[2] for call in reports.calls[:3]] == [[0, 1, 2], [3, 4, 5], [6, 7]]
    np.testing.assert_allclose(reports.calls[0][1], [[1e-5, 1e-3]] * 2, rtol=1e-6)
    assert all(call[3] is None for call in reports.calls)


def test_runs_on_letters_share_the_tokens_of_equal_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    reports = Reports(monkeypatch)
    monkeypatch.setattr(sweep, "letters_stream", lambda family, *asked: asked)
    monkeypatch.setattr(sweep, "_letters", lambda family: sgd.Instance((), (np.zeros(2), np.ones(2))))
    one, two, four = (Method(*each) for each in (("a", "sgd", 1), ("b", "adam", 1), ("c", "sign", 4)))
    steps = {one: np.full((2, 3), 0.5), two: np.full((2, 3), 0.25), four: np.full((2, 1), 2.0)}
    needed = sweep._on_letters(FAMILY, steps, 6, 901, "tuning", Progress(show=False))
    assert reports.begun == [
        ("sgd", [(2, 1, 1)] * 2, (2, 3, 6)),
        ("adam", [(2, 1, 1)] * 2, (2, 3, 6)),
        ("sign", [(2, 1, 1)] * 2, (2, 1, 6)),
    ]
    wanted = []
    for chunk, times in enumerate(([0, 1, 2], [3, 4, 5], [6, 7])):
        for rule, size, batch, width in (("sgd", 0.5, 1, 3), ("adam", 0.25, 1, 3), ("sign", 2.0, 4, 1)):
            wanted.append((rule, [[size] * width] * 2, times, (batch, 6, 901, "tuning", chunk, len(times))))
    assert reports.calls == wanted
    assert set(reports.made) == {(rule, math.log(16), 0.125, True, False) for rule in ("sgd", "adam", "sign")}
    assert {method: found.average[0, 0, 0] for method, found in needed.items()} == {
        one: 4 / 7,
        two: 2 / 7,
        four: 16 / 7,
    }


def test_traces_are_the_iterates_of_all_chunks_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    reports = Reports(monkeypatch)
    monkeypatch.setattr(sweep, "letters_stream", lambda family, *asked: asked)
    monkeypatch.setattr(sweep, "_letters", lambda family: sgd.Instance((), (np.zeros(2), np.ones(2))))
    trace = sweep._trace_letters(FAMILY, Method("a", "adam", 4), np.array([0.5, 2.0]), 901, "shown")
    assert reports.begun == [("adam", [(2, 1, 1)] * 2, (2, 1, 32))]
    assert reports.made == [("adam", math.log(16), 0.125, True, True)]
    assert reports.calls[2] == ("adam", [[0.5], [2.0]], [6, 7], (4, 32, 901, "shown", 2, 2))
    path = np.broadcast_to(np.arange(8.0) + 100 * np.arange(32)[:, None], (2, 32, 8))
    np.testing.assert_array_equal(trace.theta, [path, -path])
    np.testing.assert_array_equal(trace.coverage, path + 0.5)
    np.testing.assert_array_equal(trace.kl, 2 * path)


def test_what_a_run_needed() -> None:
    lane = Lane((), None, np.array([7.0, 3.5]), np.array([0, 5]), np.array([7, 6]))  # type: ignore[arg-type]
    found = sweep._needed(FAMILY, lane)
    assert [each.tolist() for each in found] == [[math.inf, 5], [math.inf, 7], [1, 0.5]]


@pytest.mark.long
def test_a_program_runs_every_lane_as_it_would_run_alone() -> None:
    rng = np.random.default_rng(0)
    steps = np.array([[2.0**-15, 2.0**-13], [2.0**-18, 2.0**-16]])
    counts = tuple(tuple(rng.integers(0, 30, (5, 2, 3)).astype(float) for _ in range(3)) for _ in range(2))
    with jax.enable_x64(True):
        instance = sweep._letters(FAMILY)
        lane = sweep._begin_letters(Method("SGD", "sgd", 1), instance, (2, 2, 3))
        times = jnp.arange(5, dtype=jnp.int32)
        ended, trace = runs.program("sgd", FAMILY.log_n, 0.125, letters=True, traced=True)(
            instance, jnp.asarray(steps), lane, times, counts
        )
        alone = jax.jit(lambda *given: runs.advance("sgd", FAMILY.log_n, 0.125, *given))
        for h in range(2):
            member = sgd.letters_instance(FAMILY.member(FAMILY.horizons[h]), 0.25, 16.0)
            for s in range(2):
                for d in range(3):
                    own = jax.tree.map(lambda each, h=h, d=d: jnp.asarray(each[:, h, d]), counts)
                    start = runs.begin("sgd", member.start, ())
                    wanted, path = alone(member, jnp.asarray(steps[h, s]), start, times, own)
                    for found, each in zip(
                        jax.tree.leaves((ended, trace)), jax.tree.leaves((wanted, path)), strict=True
                    ):
                        np.testing.assert_allclose(found[h, s, d], each, rtol=1e-9)
    assert len(np.unique(np.asarray(ended.theta[0]))) == 12


def test_a_target_that_is_met_exactly_is_met() -> None:
    """Cov is 1 at every iterate of the trap; a step beyond the ball ends on it."""
    member = FAMILY.member(64)
    with jax.enable_x64(True):
        instance = sgd.number_instance(member, np.array(member.least_number))
        times = jnp.arange(4, dtype=jnp.int32)
        step = jnp.asarray(member.least_number)
        lane, _ = runs.advance(
            "sgd", FAMILY.log_n, 1.0, instance, step, runs.begin("sgd", instance.start, ()), times, None
        )
        assert (int(lane.mean), int(lane.last), float(lane.total)) == (1, 0, 3)
        rules = runs.transformation("sgd", 0.5, 1.0)
        theta = (jnp.asarray(0.6), jnp.asarray(0.0))
        moved, _ = rules.update((jnp.asarray(-3.0), jnp.asarray(-4.0)), rules.init(theta), theta)
    end = np.array([2.1, 2.0]) / math.hypot(2.1, 2.0)
    np.testing.assert_allclose(moved, end - [0.6, 0.0], rtol=1e-6)


def test_a_ratio_of_exactly_n_is_not_covered() -> None:
    one, zero = jnp.asarray(1.0), jnp.asarray(0.0)
    prompt = sgd.Prompt(one, ((one, zero), (zero, one)), (), ((zero, one, zero),), (one,))
    theta = (jnp.asarray(0.25), jnp.asarray(0.5))
    instance = sgd.Instance((prompt._replace(log_star=sgd.token_law(prompt, theta)[1]),), theta)
    assert float(sgd.coverage(instance, theta, 0.0)) == 1
    assert float(sgd.coverage(instance, theta, 1e-6)) == 0


def test_what_a_class_leaves_out_is_said() -> None:
    for family, deficits, share in (
        (sgd.SGDFamily(6, 4.0, 16.0), 13, 12 * math.exp(-16 * 3 / 7)),
        (sgd.SGDFamily(6, 4.0, 100.0), 2, None),
    ):
        if share is None:
            share = 1 - sgd.deficit_law(family, 13)[:2].sum()
        with pytest.raises(ValueError, match=f"leave probability {share:.2g} to rare tokens at H = 6"):
            sgd.check_family(family, 0.3, math.e, deficits)


def test_the_ends_of_a_classs_ranges() -> None:
    for letters, numbers in ((1.0, 1.0), (2.0, 2.0)):
        assert sgd.SGDFamily(1, letters, numbers).least_number == 8 / numbers
    with pytest.raises(ValueError, match=r"task.letters: 0.5; valid: 1 to task.numbers"):
        sgd.SGDFamily(1, 0.5, 2.0)
    # ln N = HB/8.
    first, second = sgd.letters_start(sgd.SGDFamily(8, 1.0, 1.5), math.exp(1.5))
    assert (first, second) == (pytest.approx(math.log(8 / 6) - 1), 0.25)


def test_derived_counts_are_integrals_of_their_rates() -> None:
    family = dataclasses.replace(FAMILY, letters=8.0)
    horizon, eta = 1e5, 2.0**-12
    low, high = horizon / (4 * math.e * family.log_n), horizon / family.log_n
    assert sweep.visits(family, eta) == pytest.approx((high - low) / (eta * horizon * 64), rel=1e-12)
    eta, damping = 1 / (128 * 64), 8 * 64 * family.log_n

    def per_update(log_w: float) -> float:
        slope = family.plus * 8 * horizon * math.exp(-log_w)
        return (damping + slope) / (8 * eta * slope)

    updates, _ = integrate.quad(per_update, math.log(low), math.log(high))
    assert sweep.proof_updates(family) == pytest.approx(updates, rel=1e-9)


def test_the_methods_and_the_batch_of_the_theorem() -> None:
    found = {method.name: method[1:] for method in sweep.methods(FAMILY, 32)}
    assert found == {
        "SGD": ("sgd", 1),
        "SGD, batch 32": ("sgd", 32),
        "clipped SGD": ("clipped", 1),
        "normalised SGD": ("normalised", 1),
        "normalised SGD, batch 32": ("normalised", 32),
        # B/(eps ln N) = 1024/(ln 16 / 8) = 2954.6
        "normalised SGD, batch 2955": ("normalised", 2955),
        "sign-SGD": ("sign", 1),
        "Adam": ("adam", 1),
    }
