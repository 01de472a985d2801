"""Laws of ln pi_D/pi_hat against the enumeration of their sequences."""

import functools
import math
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
from oracles.autoregressive import enumerated

from metrics import coverage_profile, coverage_supremum, kl, kl_converse_bound
from tasks import numpy_stream
from theory import coverage_laws as laws


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
    """A recording generator with 0 in place of arrays of uniform numbers."""

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


class Ends:
    """A generator that draws one end of every range, and ones."""

    def __init__(self, end: int) -> None:
        self.end = end

    def uniform(self, low: float, high: float, size: int | None = None) -> Any:
        drawn = (low, high)[self.end]
        return drawn if size is None else np.full(size, drawn)

    def choice(self, values: tuple[int, ...]) -> int:
        return values[self.end]

    def normal(self, size: int) -> np.ndarray:
        return np.ones(size)


@pytest.mark.parametrize("end", [0, 1])
def test_instances_span_the_ranges_that_are_documented(end: int) -> None:
    rng: Any = Ends(end)

    def log_ratio(data: float, model: float) -> list[float]:
        pairs = zip(bernoulli(data), bernoulli(model), strict=True)
        return [math.log(p / q) for p, q in pairs]

    assert laws.bernoulli(rng, 2).mass[0] == pytest.approx((1e-4, 0.5)[end])
    smallest, ratio = (0.05, 0.5)[end], (10, 1000)[end]
    assert laws.heavy_tail(rng, 1).log_ratio == pytest.approx([smallest, smallest * ratio])
    assert laws.rare_prompts(rng, 1).mass[:2].sum() == pytest.approx((0.02, 0.04)[end])
    assert laws.switch(rng, 1).mass[-1] == pytest.approx((0.98, 0.96)[end])
    assert laws.tree(rng, 1).log_ratio == pytest.approx(log_ratio(1, 1 + (0.3, 3)[end]))
    data = math.log((3 / 7, 7 / 3)[end])
    off = math.sqrt(8 * (0.003, 0.3)[end])
    assert laws.every_token(rng, 1).log_ratio == pytest.approx(log_ratio(data, data + off))


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


@pytest.mark.parametrize("end", [0, 1])
def test_the_wrong_tokens_are_off_by_what_is_documented(end: int) -> None:
    rng: Any = Ends(end)

    def pair(data: float, off: float) -> list[float]:
        pairs = zip(bernoulli(data), bernoulli(data + off), strict=True)
        return [math.log(p / q) for p, q in pairs]

    data, hard, easy = math.log((3 / 7, 7 / 3)[end]), (-2.0, 3.0)[end], math.sqrt(8 * (0.001, 0.01)[end])
    assert laws.rare_prompts(rng, 1).log_ratio == pytest.approx([*pair(data, hard), *pair(data, easy)])
    share = (0.02, 0.04)[end]
    found = laws.switch(rng, 1)
    expected = share * math.exp((-1, 1)[end])
    ratios = math.log(share / expected), math.log((1 - share) / (1 - expected))
    assert found.log_ratio == pytest.approx(ratios)
    assert found.mass == pytest.approx([share, 1 - share])


def plain_softmax(scores: Any) -> np.ndarray:
    weights = np.exp(np.asarray(scores, float))
    return weights / weights.sum()


def test_softmax_pairs_triples_and_chains_from_their_draws() -> None:
    rng: Any = Recorded(2)
    found = laws.softmax(rng, 7)
    width, scores, log_error, errors = rng.drawn
    data = plain_softmax(width * scores)
    model = plain_softmax(np.log(data) + math.exp(log_error) * errors)
    np.testing.assert_allclose(found.mass, data)
    np.testing.assert_allclose(found.log_ratio, np.log(data / model), atol=1e-12)

    rng = Recorded(3)
    triple = laws.random_triple(rng, 7)
    width, scores, log_error, errors, numbers, share, sure, tilt, rewards = rng.drawn
    data = plain_softmax(width * scores)
    target = data * np.exp(tilt * rewards) * ((numbers < share) | (np.arange(7) == sure))
    np.testing.assert_allclose(triple.data, data)
    np.testing.assert_allclose(triple.model, plain_softmax(np.log(data) + math.exp(log_error) * errors))
    np.testing.assert_allclose(triple.target, target / target.sum())
    assert 0 < (triple.target == 0).sum() < 7

    for responses, answers in ((12, 3), (8, 2), (5, 2), (4, 2)):
        rng = Recorded(4)
        chains = laws.random_chains(rng, responses)
        width, scores, log_error, errors, drawn = rng.drawn
        np.testing.assert_allclose(np.exp(chains.data), plain_softmax(width * scores))
        wanted = plain_softmax(chains.data + math.exp(log_error) * errors)
        np.testing.assert_allclose(np.exp(chains.model), wanted)
        np.testing.assert_array_equal(chains.answers, drawn)
        most: Any = Asked()
        laws.random_chains(most, responses)
        assert most.asked == answers


class Asked(Recorded):
    """A recording generator that tells what whole numbers were asked for."""

    def __init__(self) -> None:
        super().__init__(0)
        self.asked = 0

    def integers(self, below: int, size: int) -> np.ndarray:
        self.asked = below
        return np.zeros(size, int)


@pytest.mark.parametrize("end", [0, 1])
def test_softmax_families_span_their_ranges(end: int) -> None:
    class Row(Ends):
        """The ends, with three different normal numbers."""

        def normal(self, size: int) -> np.ndarray:
            return np.arange(size) - 1.0

        def random(self, size: int) -> np.ndarray:
            return np.array([0.05, 0.5, 0.95])

        def integers(self, below: int, size: int | None = None) -> Any:
            return 0 if size is None else np.zeros(size, int)

    rng: Any = Row(end)
    normal = np.arange(3) - 1.0
    data = plain_softmax((0.5, 2.0)[end] * normal)
    model = plain_softmax(np.log(data) + (0.3, 3.0)[end] * normal)
    np.testing.assert_allclose(laws.softmax(rng, 3).log_ratio, np.log(data / model), atol=1e-12)
    triple = laws.random_triple(rng, 3)
    np.testing.assert_allclose([triple.data, triple.model], [data, model])
    # Shares of .1 and .9 of the responses are correct, tilted by 0 and 2.
    target = data * np.exp((0, 2)[end] * normal) * np.array([1, end, 0])
    np.testing.assert_allclose(triple.target, target / target.sum())
    chains = laws.random_chains(rng, 3)
    np.testing.assert_allclose(np.exp([chains.data, chains.model]), [data, model])


def test_excess_and_ratios_of_both_sides() -> None:
    sides = laws.Sides(np.array([[[0.5, 3.0, 0.0]]]), np.array([[[0.25, 10.0, 7.0]]]))
    # .25 where the right side is at most 1, relative beyond.
    assert sides.excess == 0.25
    assert sides.ratios.tolist() == [0.5, 10 / 3]
    assert laws.Sides(np.array([[[30.0]]]), np.array([[[10.0]]])).excess == 2.0
