"""The tournament's families: laws, known answers, and what each family is made to show."""

import dataclasses
import math
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float, Int
from oracles.linear_models import log_probs_of_all

from experiments.tournament.attempts import (
    LOWER,
    UPPER,
    Design,
    attempt,
    exact,
    generator,
    offset_bound,
    premise_holds,
    simple_bound,
)
from experiments.tournament.families import FAMILIES, Instance, logistic_log_probs, misspecified_pair
from metrics import min_cross_entropy, simple_tournament
from metrics.tournaments import challenges, offset_gaps, own_matrices, tournament_matrices
from tasks.linear import FeatureMap, all_responses

BY_NAME = {family.name: family for family in FAMILIES}


def drawn(name: str, seed: int = 900, size: int = 16, n: int = 256, a: float = 0.25) -> Instance:
    return BY_NAME[name].draw(generator(seed, "instance", name), size, n, a)


def population(instance: Instance, n: int, a: float) -> tuple[int, int]:
    """What either tournament takes of all data there are: the laws for the held-out shares."""
    laws = exact(instance)
    challenged = challenges(laws.log_probs, n)
    matrices = tournament_matrices(challenged, laws.probability[None])
    own = instance.prompts[None, :, None] * np.exp(instance.models)
    gaps = offset_gaps(matrices, own_matrices(challenged, own.reshape(1, len(own), -1)), n, a)
    return int(matrices.max(axis=2).argmin()), int(gaps.max(axis=2).argmin())


@pytest.mark.parametrize("name", BY_NAME)
@pytest.mark.parametrize("size", [4, 16])
def test_laws_are_laws_and_positive_where_pi_d_is(name: str, size: int) -> None:
    instance = drawn(name, size=size, n=64)
    assert instance.prompts.sum() == pytest.approx(1)
    np.testing.assert_allclose(np.exp(instance.target).sum(axis=-1), 1)
    np.testing.assert_allclose(np.exp(instance.models).sum(axis=-1), 1)
    assert len(instance.models) == size
    assert np.isfinite(instance.models[:, np.isfinite(instance.target)]).all()


def test_the_same_stream_gives_the_same_instance_and_another_another() -> None:
    one, same, other = drawn("logistic"), drawn("logistic"), drawn("logistic", seed=901)
    np.testing.assert_array_equal(one.models, same.models)
    assert np.abs(one.models - other.models).max() > 0.01


@pytest.mark.parametrize(("p", "kl", "passes", "cov"), [
    (0.9, 0.325, (0.934, 0.957, 0.972), (0.1, 0.1, 0.1)),
    (0.6, 0.551, (0.964, 0.998, 0.9998), (0.1, 0.0, 0.0)),
    (0.5, 0.693, (0.938, 0.996, 0.9998), (1.0, 0.0, 0.0)),
])  # fmt: skip
def test_class_blind_model_has_the_derived_table(
    p: float, kl: float, passes: tuple[float, ...], cov: tuple[float, ...]
) -> None:
    with np.errstate(divide="ignore"):
        target = np.log(np.eye(2))
    laws = exact(Instance(np.array([0.9, 0.1]), target, np.log(np.array([[[p, 1 - p], [p, 1 - p]]]))))
    assert laws.kl[0] == pytest.approx(kl, abs=5e-4)
    for n, expected in zip((4, 8, 12), passes, strict=True):
        assert laws.pass_at(n)[0] == pytest.approx(expected, abs=5e-4)
    for level, expected in zip((2, 4, 5.7), cov, strict=True):
        assert laws.coverage(level)[0] == pytest.approx(expected)


def test_checkpoints_start_and_drift_as_the_derived_curve() -> None:
    instance = drawn("checkpoints", size=33)
    laws = exact(instance)
    np.testing.assert_allclose(np.exp(instance.models[0, :, :2]), 5 / 12, atol=1e-3)
    assert laws.kl[0] == pytest.approx(0.875, abs=2e-3)
    np.testing.assert_array_equal(instance.models[:, :8], instance.models[:, 8:])
    assert 0 < laws.kl.argmin() < 32
    assert np.exp(instance.models[laws.kl.argmin(), :, 0]).mean() == pytest.approx(0.9, abs=0.02)
    assert laws.coverage(4)[0] == 0
    assert laws.coverage(4)[-1] == pytest.approx(0.1)


@pytest.mark.parametrize("alpha", [0.1, 0.5, 1.0])
def test_the_pair_is_that_of_proposition_e1(alpha: float) -> None:
    m = 16.0
    laws = exact(misspecified_pair(alpha, m))
    rare = alpha**2 / (32 * math.log(m))
    assert laws.coverage(m)[1] == pytest.approx(rare / 2)
    assert laws.coverage(m + 0.1)[1] == 0
    assert laws.coverage(math.exp(alpha) + 1e-3)[0] == 0
    assert laws.gap[0] == pytest.approx(alpha)
    assert laws.kl[1] < laws.kl[0]
    p = math.exp(-alpha) / 2
    assert laws.kl[0] == pytest.approx((1 - rare) * -0.5 * math.log(4 * p * (1 - p)))


def test_a_pair_that_the_proposition_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^alpha: 1.5, M: 16; valid"):
        misspecified_pair(1.5, 16)


def test_rare_prompts_mislead_the_kl_and_aligned_ones_do_not() -> None:
    for seed in range(900, 906):
        misled, aligned = (
            exact(BY_NAME[name].draw(np.random.default_rng(seed), 16, 64, 0.25))
            for name in ("rare_prompts", "aligned")
        )
        for n in (4, 64, 256):
            np.testing.assert_allclose(misled.coverage(n), misled.coverage(4))
            np.testing.assert_allclose(aligned.coverage(n), misled.coverage(n))
        covered = misled.coverage(64)
        assert covered[misled.kl.argmin()] > 20 * covered.min()
        assert covered[aligned.kl.argmin()] < 1e-3
        assert np.corrcoef(np.log(covered), aligned.kl)[0, 1] > 0.6


@pytest.mark.parametrize("n", [64, 256])
def test_the_rogue_fools_the_simple_tournament_for_ever_and_not_the_offset_one(n: int) -> None:
    for seed in range(900, 904):
        instance = drawn("rogue", seed, n=n)
        laws = exact(instance)
        assert premise_holds(laws, n, 0.25)
        assert laws.gap.argmin() == 0
        assert population(instance, n, 0.25) == (2, 0)
        assert laws.coverage(n)[0] == 0
        assert laws.coverage(2 * n**1.25)[2] == pytest.approx(0.6 / n, rel=0.02)


def test_premises_that_fail() -> None:
    laws = exact(drawn("rogue", n=16))
    assert not premise_holds(laws, 16, 0.25), "16^(1/2) < 8"
    assert not premise_holds(exact(drawn("rare_prompts")), 256, 0.25), "pi_D misses what every model gives"
    assert premise_holds(exact(misspecified_pair(1.0, 64)), 64, 0.25)
    assert not premise_holds(exact(misspecified_pair(1.0, 64)), 64, 0.2), "alpha = 1 > .2 ln 64"


@dataclasses.dataclass(frozen=True)
class Bits(FeatureMap):
    """The features of `logistic` behind the seam of linear models."""

    horizon: int = 4
    vocab: int = 2
    dimension: int = 3
    bound: float = 2.0

    def children(
        self, prompt: Any, prefix: Int[Array, " horizon"], length: Int[Array, ""]
    ) -> Float[Array, "vocab dimension"]:
        signs = 2.0 * prefix - 1
        last = jnp.where(length > 0, signs[jnp.maximum(length - 1, 0)], 0.0)
        before = jnp.arange(self.horizon) < length
        mean = jnp.where(before, signs, 0.0).sum() / jnp.maximum(length, 1)
        return jnp.stack([jnp.zeros(3), jnp.stack([jnp.ones(()), last, mean])])


@pytest.mark.long
def test_logistic_laws_are_autoregressive_linear() -> None:
    theta = np.array([0.4, -1.1, 0.7])
    features = Bits()
    expected = log_probs_of_all(
        features, jnp.asarray(theta, jnp.float32), 0, jnp.asarray(all_responses(features))
    )
    np.testing.assert_allclose(logistic_log_probs(theta, 4), expected, atol=2e-6)


def test_constants_of_the_derived_bounds() -> None:
    assert 1 - math.exp(-LOWER) == pytest.approx(LOWER / 2, abs=1e-12)
    assert math.exp(UPPER) - 1 == pytest.approx(2 * UPPER, abs=1e-12)
    derived, paper, bare = simple_bound(0.01, 64, 0.5, 16, 1000, 0.05)
    assert bare == pytest.approx(0.01 + 1 / 8 + math.log(320) / 1000)
    assert derived == pytest.approx(0.05 + 0.5 + 2.8468 * math.log(640) / 1000, abs=1e-6)
    assert paper == pytest.approx(0.05 + 0.5 + 32 * math.log(1280) / 1000)
    assert offset_bound(16, 1000, 0.05) == pytest.approx(
        (5.6936 * math.log(960) / 1000, 256 * math.log(5120) / 1000, math.log(320) / 1000), abs=1e-6
    )


@pytest.mark.parametrize("n", [5, 40, 300])
@pytest.mark.parametrize("delta", [0.3, 0.05, 0.001])
def test_the_inequalities_below_the_bounds_hold_for_every_binomial(n: int, delta: float) -> None:
    from scipy import stats

    slack = math.log(1 / delta)
    for p in np.linspace(0.005, 0.995, 60):
        below = stats.binom.cdf(math.ceil(n * p / 2 - slack / LOWER - 1e-9) - 1, n, p)
        above = stats.binom.sf(math.floor(2 * n * p + slack / UPPER + 1e-9), n, p)
        assert below <= delta
        assert above <= delta


def test_measured_choices_are_those_of_the_rules_one_set_at_a_time() -> None:
    """Wrong choices, regrets and the guarantee's left-hand side, from the same stream, by hand."""
    instance = drawn("rogue", size=6, n=64)
    laws = exact(instance)
    design = Design((50, 400), 3, 0, (0.25,), 0.25, 0.05)
    outcome = attempt(instance, (64,), design, np.random.default_rng(5), np.random.default_rng(6))[64]
    rng = np.random.default_rng(5)
    for place, examples in enumerate(design.examples):
        counts = rng.multinomial(examples, laws.probability, 3)
        simple, least = [], []
        for count in counts:
            held_out = np.repeat(laws.log_probs, count, axis=1)
            simple.append(simple_tournament(held_out, 64).index)
            least.append(min_cross_entropy(held_out).index)
        cov = laws.coverage(64)
        losses = outcome.losses
        assert losses["simple, min_cross_entropy"].regret[place] == pytest.approx(
            cov[simple].mean() - cov.min()
        )
        assert losses["min cross-entropy"].regret[place] == pytest.approx(cov[least].mean() - cov.min())
        assert losses["min cross-entropy"].wrong[place] == np.mean(cov[least] > cov.min())
        assert losses["oracle"].regret[place] == 0
        passed = laws.pass_at(64)
        assert losses["min cross-entropy"].pass_regret[place] == pytest.approx(
            passed.max() - passed[least].mean()
        )
        reached = outcome.guarantees[0.25]
        assert reached.reached[place] >= laws.coverage(64**1.25)[simple].mean() - 1e-12
        best = laws.coverage(64**0.25).min()
        assert reached.bound[place] == simple_bound(best, 64, 0.25, 6, examples, 0.05)[0]


def test_the_sampled_offset_term_converges_to_the_exact_one() -> None:
    instance = drawn("rogue", size=6, n=64)
    few = Design((400,), 8, 400, (0.25,), 0.25, 0.05)
    outcome = attempt(instance, (64,), few, np.random.default_rng(1), np.random.default_rng(2))[64]
    for tie_break in ("earliest", "min_cross_entropy"):
        sampled, term = (outcome.losses[f"offset{kind}, {tie_break}"] for kind in ("", " (exact term)"))
        np.testing.assert_allclose(sampled.wrong, term.wrong)
